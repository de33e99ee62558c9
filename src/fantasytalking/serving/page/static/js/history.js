// The videos that the server keeps for this user: thumbnails, actions, choosing two to compare.

import * as api from "./api.js";
import { button, byId, fill, icon, make } from "./dom.js";
import { announce, openDialog, showError } from "./notices.js";
import { ENDED, told } from "./stage.js";
import { length, moment } from "./words.js";

const PAGE = 24;
const POLL_MS = 3000;
const LOOK_MS = 20000;

/** Events: "open", "again" and "check" with detail job; "compare" with detail [job, job]. */
export class History extends EventTarget {
  #jobs = new Map();
  #chosen = [];
  #cards = new Map();
  #more = false;
  #timer = 0;
  /** Set by main.js: id of the job on the stage, which follows it by itself. */
  shown = null;

  constructor() {
    super();
    byId("history-more").addEventListener("click", () => this.load(true));
    byId("compare-open").addEventListener("click", () => this.#compare());
    byId("compare-clear").addEventListener("click", () => this.#choose(null));
  }

  /** Show what another tab, or a page that was left while it sent, has added or deleted: while this one is seen, and as soon as it is. */
  follow() {
    const look = () => document.visibilityState === "visible" && this.load();
    document.addEventListener("visibilitychange", look);
    setInterval(look, LOOK_MS);
  }

  get jobs() {
    return [...this.#jobs.values()].sort((a, b) => b.created_at - a.created_at);
  }

  /** Get the newest page, or the one after the oldest that is shown. */
  async load(after = false) {
    const last = after ? this.jobs.at(-1)?.id : null;
    const query = new URLSearchParams({ limit: PAGE, order: "desc", ...(last ? { after: last } : {}) });
    try {
      const { data, has_more: more } = await api.getJson(`/v1/videos?${query}`);
      if (after || this.#jobs.size <= PAGE) this.#more = more;
      if (!after) this.#forget(data, more);
      for (const job of data) this.#jobs.set(job.id, job);
      this.#show();
      showError(byId("history-error"), null);
    } catch (error) {
      if (error instanceof api.ApiError) showError(byId("history-error"), error.message, button("Load again", { kind: "small", onclick: () => this.load() }));
    }
    this.#poll();
  }

  /** Take out what is no longer on the newest page, though it would be: it was deleted elsewhere. */
  #forget(data, more) {
    const kept = new Set(data.map((job) => job.id));
    const oldest = more ? data.at(-1).created_at : -Infinity;
    for (const job of this.jobs) {
      if (kept.has(job.id) || job.created_at <= oldest || job.id === this.shown) continue;
      this.#jobs.delete(job.id);
      this.#cards.delete(job.id);
      this.#chosen = this.#chosen.filter((one) => one.id !== job.id);
    }
  }

  /** Take over the state of a job that somebody else follows. */
  update(job) {
    this.#jobs.set(job.id, job);
    this.#show();
  }

  #poll() {
    clearTimeout(this.#timer);
    if (this.jobs.some((job) => !ENDED.includes(job.status) && job.id !== this.shown)) this.#timer = setTimeout(() => this.load(), POLL_MS);
  }

  #show() {
    const jobs = this.jobs;
    byId("history-empty").hidden = jobs.length > 0;
    byId("history-more").hidden = !this.#more;
    const cards = jobs.map((job) => this.#card(job));
    const list = byId("history-list");
    if (list.children.length !== cards.length || cards.some((card, n) => list.children[n] !== card)) fill(list, ...cards);
    this.#showChosen();
  }

  /** The card of a job, made anew only when its state has changed, so that the focus stays. */
  #card(job) {
    const key = `${job.status} ${job.progress} ${job.stage} ${job.position}`;
    const kept = this.#cards.get(job.id);
    if (kept?.key === key) return kept.card;
    if (kept && kept.status === job.status) {
      kept.key = key;
      kept.state.textContent = this.#state(job);
      return kept.card;
    }
    const state = make("span", { class: "state", text: this.#state(job) });
    const card = make("li", { class: "card", data: { job: job.id, status: job.status } }, this.#picture(job),
      make("div", { class: "card-text" }, state, make("time", { text: moment(job.created_at), datetime: new Date(job.created_at * 1000).toISOString() })),
      this.#buttons(job));
    this.#cards.set(job.id, { key, status: job.status, card, state });
    return card;
  }

  #state(job) {
    if (job.status === "completed") return `${length(job.video?.duration ?? 0)} · seed ${job.settings?.seed ?? 0}`;
    if (job.status === "in_progress") return `${Math.round(job.progress)} %`;
    return told(job).replace(".", "");
  }

  #picture(job) {
    const image = make("img", { alt: "", loading: "lazy", width: 160, height: 160 });
    const path = `/v1/videos/${job.id}/${job.status === "completed" ? "thumbnail" : "input/image"}`;
    image.addEventListener("error", () => (image.hidden = true));
    image.src = api.address(path);
    const name = { completed: "Play", failed: "Show the failure", cancelled: "Show" }[job.status] ?? "Follow";
    return make("button", { type: "button", class: "card-picture", "aria-label": `${name}: ${moment(job.created_at)}`, onclick: () => this.#tell("open", job) },
      icon({ completed: "film", failed: "warning", cancelled: "remove" }[job.status] ?? "clock"), image,
      job.status === "completed" ? make("span", { class: "play", "aria-hidden": "true" }, icon("play")) : null);
  }

  #buttons(job) {
    const when = moment(job.created_at);
    const act = (name, text, onclick) => make("button", { type: "button", class: "button quiet", "aria-label": `${text}: ${when}`, title: text, onclick }, icon(name));
    const done = job.status === "completed";
    const box = make("input", { type: "checkbox", "aria-label": `Compare: ${when}`, onchange: () => this.#choose(job) });
    return make("div", { class: "card-buttons" },
      done ? make("label", { class: "compare-box" }, box, make("span", { text: "Compare", "aria-hidden": "true" })) : null,
      make("span", { class: "grow" }),
      done ? act("download", "Download", () => api.download(`/v1/videos/${job.id}/content?download=1`, `${job.id}.mp4`)) : null,
      done ? act("shield", "Check the marks", () => this.#tell("check", job)) : null,
      act("again", "Use picture, speech and settings again", () => this.#tell("again", job)),
      act("remove", "Delete", () => this.#delete(job)));
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  async #delete(job) {
    if ((await openDialog(byId("delete-dialog"))) !== "delete") return;
    try {
      await api.remove(`/v1/videos/${job.id}`);
    } catch (error) {
      if (error.status !== 404) return void showError(byId("history-error"), error.message);
    }
    this.#jobs.delete(job.id);
    this.#chosen = this.#chosen.filter((one) => one.id !== job.id);
    this.#cards.delete(job.id);
    this.#show();
    this.#tell("deleted", job);
    announce("Deleted.");
    byId("history-title").focus();
  }

  /** Choose a job to compare, or give it up; the third takes the place of the first. Null gives up all. */
  #choose(job) {
    if (job === null) this.#chosen = [];
    else if (this.#chosen.some((one) => one.id === job.id)) this.#chosen = this.#chosen.filter((one) => one.id !== job.id);
    else this.#chosen = [...this.#chosen, job].slice(-2);
    this.#showChosen();
  }

  /** Choose a job from elsewhere in the page. */
  compareWith(job) {
    if (!this.#chosen.some((one) => one.id === job.id)) this.#choose(job);
    const other = this.jobs.find((one) => one.status === "completed" && one.id !== job.id);
    if (this.#chosen.length === 1 && other) this.#choose(other);
    if (this.#chosen.length === 2) return this.#compare();
    announce("There is only one video yet. Make another one to compare it with.");
    byId("compare-told").focus();
  }

  #showChosen() {
    for (const [id, { card }] of this.#cards) {
      const box = card.querySelector(".compare-box input");
      if (box) box.checked = this.#chosen.some((one) => one.id === id);
      card.classList.toggle("chosen", Boolean(box?.checked));
    }
    const count = this.#chosen.length;
    byId("compare-bar").hidden = count === 0;
    byId("compare-told").textContent = count === 1 ? "One video chosen: choose a second one to compare." : "Two videos chosen.";
    byId("compare-open").disabled = count !== 2;
  }

  #compare() {
    const [a, b] = [...this.#chosen].sort((one, other) => one.created_at - other.created_at);
    this.#tell("compare", [a, b]);
  }
}
