// Buttons over the faces of a picture: who speaks? Mouse, touch and keyboard; one face, or several that each get a speech.

import { fill, make } from "./dom.js";

/** Event "change" when other faces are chosen. */
export class FacePicker extends EventTarget {
  #faces = [];
  #chosen = new Set();

  /** @param {HTMLElement} layer element that lies exactly over the picture */
  constructor(layer) {
    super();
    this.layer = layer;
  }

  /** @param {{width: number, height: number, faces: Array<{number: number, box: number[]}>}|null} found answer of POST /v1/faces */
  show(found) {
    this.#faces = found?.faces ?? [];
    this.#chosen = new Set(this.#faces.length ? [this.#faces[0].number] : []);
    const several = this.#faces.length > 1;
    this.layer.classList.toggle("several", several);
    fill(this.layer, ...this.#faces.map((face) => this.#mark(face, found, several)));
  }

  #mark(face, { width, height }, several) {
    const [left, top, right, bottom] = face.box;
    const mark = several
      ? make("button", { type: "button", class: "face", "aria-pressed": String(this.#chosen.has(face.number)), "aria-label": `Face ${face.number}`, title: face.told || null,
          data: { face: face.number }, onclick: () => this.#toggle(face.number) }, make("span", { text: `Face ${face.number}` }))
      : make("div", { class: "face only" });
    // through the object model, which a strict content policy allows
    Object.assign(mark.style, {
      left: `${(left / width) * 100}%`, top: `${(top / height) * 100}%`,
      width: `${((right - left) / width) * 100}%`, height: `${((bottom - top) / height) * 100}%`,
    });
    return mark;
  }

  #toggle(number) {
    if (this.#chosen.has(number) && this.#chosen.size > 1) this.#chosen.delete(number);
    else this.#chosen.add(number);
    this.#marks();
    this.dispatchEvent(new Event("change"));
  }

  #marks() {
    for (const mark of this.layer.querySelectorAll("button.face"))
      mark.setAttribute("aria-pressed", String(this.#chosen.has(Number(mark.dataset.face))));
  }

  /** Choose faces, when there are some of these numbers. */
  choose(...numbers) {
    const known = numbers.every((number) => this.#faces.some((face) => face.number === number));
    if (!known || (this.#chosen.size === numbers.length && numbers.every((number) => this.#chosen.has(number)))) return;
    this.#chosen = new Set(numbers);
    this.#marks();
    this.dispatchEvent(new Event("change"));
  }

  get count() {
    return this.#faces.length;
  }

  /** Numbers of the chosen faces, the largest face first. */
  get chosen() {
    return [...this.#chosen].sort((a, b) => a - b);
  }
}
