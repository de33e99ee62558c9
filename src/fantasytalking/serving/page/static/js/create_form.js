// What the user has chosen, sent as one request; and errors, each beside what it is about.

import { button, byId } from "./dom.js";
import { announce, showError } from "./notices.js";
import { bodyOf, sendVideo } from "./video_request.js";
import { about } from "./words.js";

/** Event "sent" with detail job; "sending"; "refused". */
export class CreateForm extends EventTarget {
  #busy = false;
  #blockedUntil = 0;

  constructor({ portrait, speech, settings, extras }) {
    super();
    Object.assign(this, { portrait, speech, settings, extras });
    byId("create").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    for (const part of [portrait, speech]) part.addEventListener("change", () => this.#summary());
    settings.store.addEventListener("change", () => this.#summary());
    this.#summary();
  }

  /** One line of what will be made, above the button. */
  #summary() {
    const missing = [this.portrait.file ? null : "a portrait", this.speech.speeches.every((one) => one.file) ? null : "a speech"].filter(Boolean);
    const changed = Object.keys(this.settings.store.changed()).length;
    byId("summary").textContent = missing.length ? `Needs ${missing.join(" and ")}.`
      : `${this.portrait.kind === "footage" ? "Dub the footage" : "Animate the portrait"}${changed ? `, ${changed} ${changed === 1 ? "setting" : "settings"} changed` : ""}.`;
  }

  /** The multipart body of POST /v1/videos. */
  body() {
    const field = this.portrait.kind === "footage" ? "video_reference" : "image_reference";
    const speeches = this.speech.speeches.map((one) => ({ field: "audio_reference", ...one }));
    return bodyOf([{ field, face: null, file: this.portrait.file }, ...speeches], { ...this.settings.store.changed(), ...this.extras.changed() });
  }

  async submit() {
    if (this.#busy || performance.now() < this.#blockedUntil) return;
    this.#clearErrors();
    if (!this.#complete()) return;
    this.#setBusy(true);
    this.dispatchEvent(new Event("sending"));
    try {
      this.dispatchEvent(new CustomEvent("sent", { detail: await sendVideo(this.body()) }));
    } catch (error) {
      this.dispatchEvent(new Event("refused"));
      this.#show(error);
    } finally {
      this.#setBusy(false);
    }
  }

  #complete() {
    if (!this.portrait.file) {
      this.portrait.showError("There is no portrait yet.");
      this.portrait.focus();
      return false;
    }
    const open = this.speech.open;
    if (!open.file) {
      open.showError("There is no speech yet.");
      open.focus();
      return false;
    }
    return true;
  }

  #setBusy(busy) {
    this.#busy = busy;
    byId("generate").disabled = busy;
  }

  #clearErrors() {
    this.portrait.showError(null);
    for (const slot of this.speech.slots) slot.showError(null);
    this.settings.clearErrors();
    this.extras.clearErrors();
    showError(byId("create-error"), null);
  }

  #show(error) {
    const { param, message, status, retryAfter } = error;
    announce(message);
    if (status === 429) return this.#tooMany(message, retryAfter ?? 10);
    if (param === "image_reference" || param === "video_reference") {
      this.portrait.showError(message);
      return this.portrait.focus();
    }
    if (param?.startsWith("audio_reference") || param === "audio_face") {
      const slot = this.speech.slots[Number(/\d+/.exec(param)?.[0] ?? 0)] ?? this.speech.open;
      slot.showError(message);
      return slot.focus();
    }
    for (const form of [this.settings, this.extras]) if (param && form.has(param)) return form.showError(param, message);
    showError(byId("create-error"), message, button("Try again", { kind: "small", onclick: () => this.submit() }));
  }

  /** Too many requests: say when, count down, then let the user go on. */
  #tooMany(message, seconds) {
    this.#blockedUntil = performance.now() + seconds * 1000;
    const place = byId("create-error");
    const tell = () => {
      const left = (this.#blockedUntil - performance.now()) / 1000;
      if (left > 0) {
        showError(place, `${message} Possible again in ${about(left)}.`);
        setTimeout(tell, 1000);
      } else showError(place, "You can try again now.", button("Try again", { kind: "small", onclick: () => this.submit() }));
    };
    tell();
  }
}
