// The place where a video comes to be and plays: queue, progress with preview, result, failure.

import * as api from "./api.js";
import { button, byId, fill, make } from "./dom.js";
import { announce, showError } from "./notices.js";
import { about, length, moment, size } from "./words.js";

export const ENDED = ["completed", "failed", "cancelled"];
const RECONNECT_MS = 2000;
const ANNOUNCED_PERCENT = 25;

/** What is happening to a job, in words. */
export function told(job) {
  if (job.status === "queued") return job.position ? `Waiting: number ${job.position} in the queue.` : "Waiting for its turn.";
  if (job.status === "in_progress") {
    const left = job.seconds_left === null || job.seconds_left === undefined ? "" : `, ${about(job.seconds_left)} left`;
    return `${job.stage ? capital(job.stage) : "Working"}${left}.`;
  }
  return { completed: "Done.", failed: "Failed.", cancelled: "Cancelled." }[job.status];
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The words below a finished video. */
export function facts(job) {
  const { video } = job;
  if (!video) return "";
  const seconds = job.completed_at && job.started_at ? `, made in ${length(job.completed_at - job.started_at)}` : "";
  const kept = job.expires_at ? `, kept until ${moment(job.expires_at)}` : "";
  return `${video.width} × ${video.height}, ${Number(video.fps.toFixed(2))} frames a second, ${length(video.duration)} long, ${size(video.bytes)}${seconds}${kept}`;
}

/** Events: "job" with detail job, whenever the shown job changes; "ended" with detail job. */
export class Stage extends EventTarget {
  job = null;
  #watching = null;
  #announced = -1;
  #before = null;
  #sent = null;

  /** @param {{again: function(object), another: function(object), check: function(object), compare: function(object), tryAgain: function()}} actions */
  constructor(actions) {
    super();
    this.actions = actions;
    byId("stage-cancel").addEventListener("click", () => this.#cancel());
  }

  /** The shape of what comes, so that nothing moves when it does. */
  setAspect(aspect) {
    byId("stage-frame").style.aspectRatio = String(Math.min(2.2, Math.max(0.6, aspect)));
  }

  /** A job is being sent. */
  sending() {
    this.#stop();
    this.#before = this.job;
    this.job = null;
    this.#part({ progress: true, preview: false, video: false });
    byId("stage-cancel").hidden = true;
    this.#progress(null, "Sending picture and speech.");
  }

  /**
   * It was not taken: go back to what was there.
   * @param {string|null} message why, where nothing else tells it
   * @param {...HTMLElement} ways
   */
  refused(message = null, ...ways) {
    if (this.#before) this.show(this.#before);
    else this.clear();
    if (message) showError(byId("stage-error"), message, ...ways);
  }

  /** Show and follow a job that the form has just sent. */
  showSent(job) {
    this.#sent = job.id;
    return this.show(job);
  }

  /** Nothing to show. */
  clear() {
    this.#stop();
    this.job = null;
    this.#part({ empty: true });
  }

  /** Show a job, and follow it until it ends. */
  async show(job) {
    this.#stop();
    this.#watching = new AbortController();
    const { signal } = this.#watching;
    this.#announced = -1;
    this.#update(job);
    while (!signal.aborted && this.job && !ENDED.includes(this.job.status)) {
      try {
        for await (const { event, data } of api.events(`/v1/videos/${job.id}/events`, signal)) {
          if (signal.aborted) return;
          if (event === "preview") this.#preview(`data:image/jpeg;base64,${data.jpeg}`);
          else this.#update(data);
        }
        if (signal.aborted || ENDED.includes(this.job?.status)) return;
        this.#update(await api.getJson(`/v1/videos/${job.id}`));
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof api.ApiError && error.status === 404) return this.clear();
      }
      if (!ENDED.includes(this.job?.status)) await wait(RECONNECT_MS);
    }
  }

  #stop() {
    this.#watching?.abort();
    this.#watching = null;
    byId("stage-video").pause();
    byId("stage-video").removeAttribute("src");
    byId("stage-preview").removeAttribute("src");
    showError(byId("stage-error"), null);
  }

  #part({ empty = false, preview = false, video = false, progress = false, actions = false }) {
    byId("stage-empty").hidden = byId("stage-help").hidden = !empty;
    byId("stage-preview").hidden = !preview;
    byId("stage-video").hidden = !video;
    byId("stage-progress").hidden = !progress;
    byId("stage-actions").hidden = !actions;
    byId("stage-busy").hidden = empty || preview || video;
  }

  #progress(percent, text) {
    const bar = byId("stage-bar");
    if (percent === null) bar.removeAttribute("value");
    else bar.value = percent;
    byId("stage-percent").textContent = percent === null ? "" : `${Math.round(percent)} %`;
    byId("stage-told").textContent = text;
  }

  #preview(address) {
    const image = byId("stage-preview");
    image.src = address;
    image.hidden = false;
    byId("stage-busy").hidden = true;
  }

  #update(job) {
    const before = this.job?.id === job.id ? this.job.status : null;
    this.job = job;
    const running = !ENDED.includes(job.status);
    byId("stage").dataset.status = job.status;
    if (running) {
      this.#part({ progress: true, preview: Boolean(byId("stage-preview").getAttribute("src")) });
      byId("stage-cancel").hidden = false;
      byId("stage-cancel").disabled = false;
      this.#progress(job.status === "queued" ? null : job.progress, told(job));
      this.#announceStep(job);
    } else if (before !== job.status) this.#end(job, before !== null);
    this.dispatchEvent(new CustomEvent("job", { detail: job }));
    if (!running && before !== null && before !== job.status) this.dispatchEvent(new CustomEvent("ended", { detail: job }));
  }

  #announceStep(job) {
    const step = job.status === "queued" ? 0 : 1 + Math.floor(job.progress / ANNOUNCED_PERCENT);
    if (step === this.#announced) return;
    this.#announced = step;
    announce(job.status === "queued" ? told(job) : `${Math.round(job.progress)} percent. ${told(job)}`);
  }

  #end(job, fresh) {
    const done = job.status === "completed";
    this.#part({ video: done, actions: done });
    byId("stage-busy").hidden = true;
    if (done) {
      this.setAspect(job.video.width / job.video.height);
      const video = byId("stage-video");
      video.src = api.address(`/v1/videos/${job.id}/content`);
      if (fresh) video.play().catch(() => {});
      byId("stage-facts").textContent = facts(job);
      fill(byId("stage-notes"), ...(job.notes ?? []).map((note) => make("li", { text: note })));
      fill(byId("stage-buttons"),
        button("Download", { name: "download", kind: "small primary", onclick: () => api.download(`/v1/videos/${job.id}/content?download=1`, `${job.id}.mp4`) }),
        button("Another seed", { name: "dice", kind: "small", title: "Make it once more with another seed", onclick: () => this.actions.another(job) }),
        button("Use again", { name: "again", kind: "small", title: "Put its picture, speech and settings into the form", onclick: () => this.actions.again(job) }),
        button("Check the marks", { name: "shield", kind: "small", onclick: () => this.actions.check(job) }),
        button("Compare", { name: "compare", kind: "small", onclick: () => this.actions.compare(job) }));
      if (fresh) announce("The video is done and plays.");
      return;
    }
    // "Try again" sends the form, which is this job's only where the job came from it.
    const own = this.#sent === job.id;
    const message = job.status === "cancelled" ? `Cancelled.${own ? " Your entries are still there." : ""}` : job.error?.message ?? "The video could not be made.";
    showError(byId("stage-error"), message, own ? button("Try again", { kind: "small", onclick: () => this.actions.tryAgain() }) : "",
      button("Use its picture, speech and settings", { kind: "small", onclick: () => this.actions.again(job) }));
  }

  async #cancel() {
    if (!this.job) return;
    byId("stage-cancel").disabled = true;
    byId("stage-told").textContent = "Cancelling…";
    try {
      this.#update(await (await api.request(`/v1/videos/${this.job.id}/cancel`, { method: "POST" })).json());
    } catch (error) {
      byId("stage-cancel").disabled = false;
      byId("stage-told").textContent = error.message;
    }
  }
}
