// The speeches: one, or one for each face that speaks.

import * as api from "./api.js";
import { byId, fill } from "./dom.js";
import { SpeechSlot } from "./speech_slot.js";

/** Event "change" when there is another speech. */
export class SpeechCard extends EventTarget {
  #slots = new Map();
  #voices = [];
  #note = "";

  /** Ask which voices the server has. */
  async findVoices() {
    this.#note = "This server has no voice: its operator can install the extra 'tts' or espeak-ng.";
    try {
      this.#voices = (await api.getJson("/v1/voices")).data;
    } catch (error) {
      this.#note = error.message;
    }
  }

  /**
   * Show the first slot.
   * @param {object} limits answer of GET /v1/limits
   */
  start(limits) {
    this.limits = limits;
    this.setSpeakers([]);
  }

  /** @param {Array<number>} faces numbers of the faces that speak; fewer than two share one slot */
  setSpeakers(faces) {
    const keys = faces.length > 1 ? faces : [null];
    const slots = new Map();
    for (const key of keys) slots.set(key, this.#slots.get(key) ?? this.#slot(key));
    // who chooses a second face has not chosen another speech for the first
    if (!this.#slots.has(keys[0]) && this.#slots.size) {
      const first = [...this.#slots.values()][0];
      if (first.file && !slots.get(keys[0]).file) slots.get(keys[0]).use(first.file);
    }
    const old = [...this.#slots.keys()].join();
    this.#slots = slots;
    if (old !== keys.join() || !byId("speech-slots").children.length) fill(byId("speech-slots"), ...[...slots.values()].map((slot) => slot.element));
    this.dispatchEvent(new Event("change"));
  }

  #slot(key) {
    const slot = new SpeechSlot({ title: key === null ? null : `Speech of face ${key}`, voices: this.#voices, voicesNote: this.#note, limits: this.limits });
    slot.addEventListener("change", () => this.dispatchEvent(new Event("change")));
    return slot;
  }

  /** [{face, file}]; face is null where there is one speech. */
  get speeches() {
    return [...this.#slots].map(([face, slot]) => ({ face, file: slot.file }));
  }

  /** All slots, in the order of the faces. */
  get slots() {
    return [...this.#slots.values()];
  }

  /** The first slot without a speech, or the first. */
  get open() {
    return this.slots.find((slot) => !slot.file) ?? this.slots[0];
  }

  /**
   * Take the speeches of an earlier video; slots without one are emptied.
   * @param {Array<{face: number|null, file: Blob}>} speeches
   */
  async take(speeches) {
    for (const [face, slot] of this.#slots) {
      const own = speeches.find((one) => one.face === face) ?? (speeches.length === 1 && this.#slots.size === 1 ? speeches[0] : null);
      if (own) await slot.use(own.file);
      else slot.clear();
    }
  }

  useExample() {
    return this.open.useExample();
  }
}
