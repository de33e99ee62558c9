// A small drawn head that moves as lively as the two motion sliders say. It shows a kind of movement, not the model's.

import { draw, make } from "./dom.js";

const PLAYS_FOR = 5;
const less = matchMedia("(prefers-reduced-motion: reduce)");

/** Sums of slow waves that do not repeat soon; -1..1. */
const wander = (t, phase) => (Math.sin(t * 1.7 + phase) + Math.sin(t * 2.9 + phase * 2.3) + 0.6 * Math.sin(t * 4.7 + phase * 1.1)) / 2.6;

export class MotionHead {
  #face = 0.5;
  #body = 0.5;
  #until = 0;
  #frame = 0;

  constructor() {
    this.parts = {
      body: draw("path", { class: "head-line soft", d: "M22 118c2-20 18-26 38-26s36 6 38 26" }),
      ghosts: draw("g", { class: "head-ghosts" }),
      head: draw("g", {}),
      left: draw("ellipse", { class: "head-fill", cx: 49, cy: 50, rx: 3.4, ry: 4 }),
      right: draw("ellipse", { class: "head-fill", cx: 71, cy: 50, rx: 3.4, ry: 4 }),
      leftBrow: draw("path", { class: "head-line", d: "M42 40q7-4 13-1" }),
      rightBrow: draw("path", { class: "head-line", d: "M65 39q6-3 13 1" }),
      mouth: draw("ellipse", { class: "head-fill", cx: 60, cy: 74, rx: 9, ry: 2 }),
    };
    const { body, ghosts, head, left, right, leftBrow, rightBrow, mouth } = this.parts;
    head.append(
      draw("ellipse", { class: "head-skin", cx: 60, cy: 56, rx: 29, ry: 36 }),
      draw("path", { class: "head-line", d: "M60 54q-3 7 0 9" }), left, right, leftBrow, rightBrow, mouth,
    );
    this.element = make("div", { class: "motion-head" },
      draw("svg", { viewBox: "0 0 120 120", role: "img", "aria-label": "A drawn head that shows how much face and body move" }, body, ghosts, head));
    this.#pose(0);
    document.addEventListener("visibilitychange", () => this.#wake());
    less.addEventListener("change", () => this.play());
  }

  /** Show other intensities (0 to 1), and move for a few seconds. */
  set(face, body) {
    this.#face = face;
    this.#body = body;
    this.play();
  }

  /** Move for a few seconds; without motion, show how far the movement goes. */
  play() {
    this.#until = performance.now() + PLAYS_FOR * 1000;
    if (less.matches) this.#still();
    else this.#wake();
  }

  #wake() {
    if (this.#frame || document.hidden || less.matches) return;
    this.parts.ghosts.replaceChildren();
    const step = (now) => {
      const left = (this.#until - now) / 1000;
      this.#frame = left > 0 && !document.hidden && !less.matches ? requestAnimationFrame(step) : 0;
      this.#pose(now / 1000, this.#frame ? Math.min(1, left) : 0);
    };
    this.#frame = requestAnimationFrame(step);
  }

  /** Outlines of the head at both ends of its way, and brows and mouth at theirs. */
  #still() {
    const far = 14 * this.#body;
    const outline = (by) => draw("ellipse", { class: "head-line soft", cx: 60, cy: 56, rx: 29, ry: 36, transform: `rotate(${by} 60 110)` });
    this.parts.ghosts.replaceChildren(outline(-far), outline(far));
    this.#place(0, 0, 0, 1, 6 * this.#face, 2 + 9 * this.#face);
  }

  #pose(t, share = 0) {
    const body = this.#body * share;
    const face = this.#face * share;
    const syllable = Math.abs(Math.sin(t * 9)) * (0.5 + 0.5 * Math.sin(t * 2.3));
    const blink = (t % 2.6) < 0.14 && share ? 0.12 : 1;
    this.#place(13 * body * wander(t, 0), 6 * body * wander(t, 2), 5 * body * wander(t, 4), blink,
      7 * face * Math.max(0, wander(t, 1)), 2 + (2 + 8 * this.#face) * syllable * share);
  }

  #place(turn, x, y, open, brow, mouth) {
    const { head, body, left, right, leftBrow, rightBrow, mouth: lips } = this.parts;
    head.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)}) rotate(${turn.toFixed(2)} 60 110)`);
    body.setAttribute("transform", `translate(${(x / 3).toFixed(2)} 0)`);
    for (const eye of [left, right]) eye.setAttribute("ry", (4 * open).toFixed(2));
    for (const one of [leftBrow, rightBrow]) one.setAttribute("transform", `translate(0 ${(-brow).toFixed(2)})`);
    lips.setAttribute("ry", mouth.toFixed(2));
    lips.setAttribute("rx", (9 - mouth / 5).toFixed(2));
  }
}
