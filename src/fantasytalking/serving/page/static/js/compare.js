// Two videos side by side, in step: one set of controls, one sound at a time, and what differs in their settings.

import * as api from "./api.js";
import { byId, fill, icon, make } from "./dom.js";
import { openDialog } from "./notices.js";
import { same } from "./settings_store.js";
import { clock, moment, shown } from "./words.js";

const DRIFT = 0.04;
const SIDES = ["a", "b"];

/** Event "another" with detail job: it is wanted with another seed. */
export class Comparison extends EventTarget {
  #jobs = [];
  #videos = SIDES.map((side) => byId(`compare-video-${side}`));
  #seeking = false;

  /** @param {SettingsStore} store for the titles of the settings */
  constructor(store) {
    super();
    this.store = store;
    const [first, second] = this.#videos;
    byId("compare-play").addEventListener("click", () => (first.paused && second.paused ? this.play() : this.pause()));
    const seek = byId("compare-seek");
    seek.addEventListener("input", () => {
      this.#seeking = true;
      for (const video of this.#videos) video.currentTime = Math.min(seek.valueAsNumber, video.duration || 0);
    });
    seek.addEventListener("change", () => (this.#seeking = false));
    for (const side of SIDES) byId(`compare-sound-${side}`).addEventListener("change", () => this.#sound());
    SIDES.forEach((side, n) => byId(`compare-another-${side}`).addEventListener("click", () => this.#another(n)));
    for (const video of this.#videos) for (const name of ["play", "pause", "ended"]) video.addEventListener(name, () => this.#buttons());
  }

  /** Show two jobs. */
  async open(jobs) {
    this.#jobs = jobs;
    this.#videos.forEach((video, n) => {
      video.src = api.address(`/v1/videos/${jobs[n].id}/content`);
      byId(`compare-name-${SIDES[n]}`).textContent = `${"AB"[n]}: ${moment(jobs[n].created_at)}, seed ${jobs[n].settings.seed}`;
    });
    const longest = Math.max(...jobs.map((job) => job.video?.duration ?? 0));
    Object.assign(byId("compare-seek"), { max: longest, value: 0 });
    this.#differences(jobs);
    this.#sound();
    this.#time();
    this.#buttons();
    const closed = openDialog(byId("compare-dialog"));
    byId("compare-play").focus();
    await closed;
    this.pause();
    for (const video of this.#videos) video.removeAttribute("src");
  }

  #another(n) {
    byId("compare-dialog").close();
    this.dispatchEvent(new CustomEvent("another", { detail: this.#jobs[n] }));
  }

  async play() {
    const [first, second] = this.#videos;
    const ended = this.#videos.every((video) => video.ended || video.currentTime >= video.duration - 0.05);
    const at = ended ? 0 : Math.max(first.currentTime, second.currentTime);
    for (const video of this.#videos) video.currentTime = Math.min(at, video.duration);
    await Promise.all(this.#videos.map((video) => (at < video.duration ? video.play() : null))).catch(() => {});
    this.#follow();
  }

  pause() {
    for (const video of this.#videos) video.pause();
  }

  /** While they play, keep the second where the first is, and the slider where both are. */
  #follow() {
    const [first, second] = this.#videos;
    this.#time();
    if (first.paused && second.paused) return;
    if (!first.paused && !second.paused && !this.#seeking && Math.abs(first.currentTime - second.currentTime) > DRIFT)
      second.currentTime = first.currentTime;
    requestAnimationFrame(() => this.#follow());
  }

  #time() {
    const at = Math.max(...this.#videos.map((video) => video.currentTime));
    const seek = byId("compare-seek");
    if (!this.#seeking) seek.value = at;
    byId("compare-time").textContent = `${clock(at)} / ${clock(Number(seek.max))}`;
    seek.setAttribute("aria-valuetext", clock(at));
  }

  #sound() {
    SIDES.forEach((side, n) => (this.#videos[n].muted = !byId(`compare-sound-${side}`).checked));
  }

  #buttons() {
    const playing = this.#videos.some((video) => !video.paused && !video.ended);
    fill(byId("compare-play"), icon(playing ? "pause" : "play"), make("span", { text: playing ? "Pause" : "Play both" }));
  }

  #differences([a, b]) {
    const names = Object.keys({ ...a.settings, ...b.settings }).filter((name) => !same(a.settings?.[name], b.settings?.[name]));
    const title = (name) => this.store.descriptions.get(name)?.title ?? name;
    const rows = names.map((name) => make("tr", {}, make("th", { scope: "row", text: title(name) }),
      make("td", { text: shown(a.settings?.[name]) }), make("td", { text: shown(b.settings?.[name]) })));
    byId("compare-same").hidden = rows.length > 0;
    byId("compare-table").hidden = rows.length === 0;
    fill(byId("compare-rows"), ...rows);
  }
}
