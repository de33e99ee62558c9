// Is a video marked as made by a model, and do its marks hold? Any video by file, or one of the history.

import * as api from "./api.js";
import { metadataWords, statementWords, verdict, watermarkWords } from "./check_words.js";
import { button, byId, fill, icon, make } from "./dom.js";
import { openDialog, showError } from "./notices.js";
import { moment, size } from "./words.js";

export class CheckDialog {
  #asked = null;

  /** @param {object} limits answer of GET /v1/limits */
  constructor(limits) {
    this.limits = limits;
    this.dialog = byId("check-dialog");
    const file = byId("check-file");
    file.addEventListener("change", () => {
      this.checkFile(file.files[0]);
      file.value = "";
    });
    for (const opener of document.querySelectorAll("[data-open-check]")) opener.addEventListener("click", () => this.open());
    this.dialog.addEventListener("close", () => this.#clear());
    this.#receive();
  }

  /** Files that are dropped or pasted here are not the form's. */
  #receive() {
    const take = (event, files) => {
      event.preventDefault();
      event.stopPropagation();
      if (files?.length) this.checkFile(files[0]);
    };
    this.dialog.addEventListener("drop", (event) => take(event, event.dataTransfer?.files));
    this.dialog.addEventListener("paste", (event) => event.clipboardData?.files.length && take(event, event.clipboardData.files));
  }

  open() {
    this.#clear();
    return openDialog(this.dialog);
  }

  /** Check the video of a job. */
  checkJob(job) {
    this.open();
    this.#ask(`The video of ${moment(job.created_at)}`, (signal) => api.request(`/v1/videos/${job.id}/verify`, { method: "POST", signal }), () => this.checkJob(job));
  }

  /** Check a file. */
  checkFile(file) {
    if (!file) return;
    this.#clear();
    if (file.size > this.limits.video_bytes) return this.#failed(`The file has ${size(file.size)}; this server takes videos of at most ${size(this.limits.video_bytes)}.`);
    const body = new FormData();
    body.append("video_reference", file, "video");
    this.#ask(file.name, (signal) => api.request("/v1/verify", { method: "POST", body, signal }), () => this.checkFile(file));
  }

  async #ask(name, send, again) {
    const asked = new AbortController();
    this.#asked = asked;
    byId("check-name").textContent = name;
    fill(byId("check-result"), make("p", { class: "hint", text: "Looking for marks…" }), make("progress", { "aria-label": "Looking for marks" }));
    try {
      const found = await (await send(asked.signal)).json();
      if (!asked.signal.aborted) this.#show(found);
    } catch (error) {
      if (asked.signal.aborted) return;
      // The same file would be refused again.
      const another = [413, 415, 422].includes(error.status);
      this.#failed(error.message, button(another ? "Choose another video" : "Try again", { kind: "small", onclick: another ? () => byId("check-file").click() : again }));
    }
  }

  #show(found) {
    const [kind, sentence] = verdict(found);
    const rows = [["Signed statement", statementWords(found.manifest)], ["Invisible watermark", watermarkWords(found.watermark)], ["Note in the file", metadataWords(found.metadata)]];
    fill(byId("check-result"), make("div", { class: `verdict ${kind}` }, icon(kind === "good" ? "check" : "warning"), make("p", { text: sentence })),
      make("dl", { class: "findings" }, ...rows.flatMap(([name, text]) => [make("dt", { text: name }), make("dd", { text })])));
  }

  #failed(message, ...ways) {
    fill(byId("check-result"));
    showError(byId("check-error"), message, ...ways);
  }

  #clear() {
    this.#asked?.abort();
    this.#asked = null;
    byId("check-name").textContent = "";
    fill(byId("check-result"));
    showError(byId("check-error"), null);
  }
}
