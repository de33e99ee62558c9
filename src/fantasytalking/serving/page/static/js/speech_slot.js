// One speech: by file, microphone or text, with its waveform and a player. Several speakers have one each.

import * as api from "./api.js";
import { button, fill, icon, make, newId } from "./dom.js";
import { announce, showError } from "./notices.js";
import { Recorder } from "./recorder.js";
import { decode, drawWaveform } from "./sound.js";
import { clock, length, size } from "./words.js";

const SOURCES = [["file", "File"], ["microphone", "Microphone"], ["text", "Text"]];

/** Event "change" when there is another speech. `file` is a Blob or null. */
export class SpeechSlot extends EventTarget {
  file = null;
  #address = null;
  #recorder = new Recorder();

  /**
   * @param {{title: string|null, voices: Array<object>, voicesNote: string, limits: object}} options
   *     title: of a speaker, where there are several; voicesNote: why there are no voices; limits: answer of GET /v1/limits
   */
  constructor({ title, voices, voicesNote, limits }) {
    super();
    this.limits = limits;
    this.error = make("div", { class: "problem", role: "alert", hidden: true });
    this.panels = {
      file: this.#filePanel(),
      microphone: this.#microphonePanel(),
      text: this.#textPanel(voices, voicesNote),
    };
    const name = newId("source");
    this.radios = SOURCES.map(([source, text], n) => {
      const input = make("input", { type: "radio", name, value: source, checked: n === 0, onchange: () => this.#show(source) });
      return make("label", { class: "choice" }, input, make("span", { text }));
    });
    this.result = this.#resultPart();
    const legend = make("legend", { class: title ? "" : "unseen", text: title ?? "Where the speech comes from" });
    this.element = make("fieldset", { class: "speech-slot" }, legend, make("div", { class: "segments" }, ...this.radios),
      ...Object.values(this.panels), this.result.element, this.error);
    this.#show("file");
    this.#drop();
  }

  #show(source) {
    for (const [name, panel] of Object.entries(this.panels)) panel.hidden = name !== source;
    if (source !== "microphone") this.#recorder.cancel();
  }

  #filePanel() {
    const input = make("input", { type: "file", accept: "audio/*,video/*", class: "unseen", id: newId("speech-file") });
    input.addEventListener("change", () => {
      this.use(input.files[0]);
      input.value = "";
    });
    this.input = input;
    const choose = make("label", { class: "button", for: input.id }, icon("file"), make("span", { text: "Choose a sound file" }));
    const example = button("Example speech", { name: "star", class: "button speech-example", onclick: () => this.useExample() });
    return make("div", { class: "panel" }, make("div", { class: "row" }, make("span", { class: "file-choice" }, input, choose), example),
      make("p", { class: "hint", text: "Any sound file, or the sound of a video; or drop one here." }));
  }

  #microphonePanel() {
    const level = make("meter", { min: 0, max: 1, low: 0.35, optimum: 0.7, high: 0.95, value: 0, "aria-label": "Loudness" });
    const time = make("span", { class: "time", text: "0:00" });
    const control = button("Record", { name: "microphone", kind: "record" });
    const text = control.querySelector("span");
    const rest = () => {
      text.textContent = "Record";
      control.classList.remove("recording");
      level.value = 0;
    };
    control.addEventListener("click", async () => {
      try {
        this.showError(null);
        if (this.#recorder.running) {
          rest();
          await this.use(await this.#recorder.stop());
          return;
        }
        await this.#recorder.start((loudness, seconds) => {
          level.value = loudness;
          time.textContent = clock(seconds);
          if (seconds >= this.limits.speech_seconds) control.click();
        });
        text.textContent = "Stop";
        control.classList.add("recording");
        announce("Recording.");
      } catch (error) {
        this.#recorder.cancel();
        rest();
        this.showError(error.message);
      }
    });
    return make("div", { class: "panel", hidden: true }, make("div", { class: "row" }, control, level, time),
      make("p", { class: "hint", text: "Speak at a hand's width from the microphone; the recording stays in this page until you generate." }));
  }

  #textPanel(voices, note) {
    if (!voices.length) return make("div", { class: "panel", hidden: true }, make("p", { class: "hint", text: note }));
    const text = make("textarea", { id: newId("words"), rows: 3, maxlength: 5000, placeholder: "Hello! This is what I have to say." });
    const voice = make("select", { id: newId("voice") }, ...voices.map((one) => make("option", { value: one.id, text: one.title })));
    const speed = make("input", { id: newId("speed"), type: "number", min: 0.5, max: 2, step: 0.05, value: 1 });
    const speak = button("Read aloud", { name: "speak" });
    speak.addEventListener("click", async () => {
      this.showError(null);
      speak.disabled = true;
      try {
        const answer = await api.postJson("/v1/speech", { text: text.value, voice: voice.value, speed: speed.valueAsNumber || 1 });
        await this.use(await answer.blob());
      } catch (error) {
        this.showError(error.message);
      } finally {
        speak.disabled = false;
        speak.focus();
      }
    });
    return make("div", { class: "panel", hidden: true },
      make("div", { class: "field" }, make("label", { for: text.id, text: "Words" }), text),
      make("div", { class: "row end" },
        make("div", { class: "field grow" }, make("label", { for: voice.id, text: "Voice" }), voice),
        make("div", { class: "field narrow" }, make("label", { for: speed.id, text: "Speed" }), speed), speak));
  }

  #resultPart() {
    const wave = make("canvas", { class: "waveform", "aria-hidden": "true" });
    const audio = make("audio", { controls: true, "aria-label": "The speech" });
    const length = make("span", { class: "time" });
    const remove = make("button", { type: "button", class: "button quiet", "aria-label": "Remove the speech", title: "Remove", onclick: () => this.clear() }, icon("remove"));
    const filled = make("div", { class: "speech-filled", hidden: true }, make("div", { class: "wave-row" }, wave, length, remove), audio);
    const empty = make("p", { class: "hint", text: "No speech yet." });
    return { element: make("div", { class: "speech-result" }, empty, filled), filled, empty, wave, audio, length };
  }

  #showResult(there) {
    this.result.filled.hidden = !there;
    this.result.empty.hidden = there;
  }

  #drop() {
    this.element.addEventListener("dragover", (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
    this.element.addEventListener("drop", (event) => {
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      this.use(event.dataTransfer.files[0]);
    });
  }

  async useExample() {
    try {
      await this.use(await api.getBlob("/v1/examples/speech"));
    } catch (error) {
      this.showError(error.message);
    }
  }

  /** Take a file. */
  async use(file) {
    if (!file) return;
    this.clear();
    if (file.type && !/^(audio|video)\//.test(file.type)) {
      this.showError(`${file.name ?? "This"} is neither a sound nor a video with sound.`);
      return;
    }
    if (file.size > this.limits.audio_bytes) {
      this.showError(`The file has ${size(file.size)}; this server takes sounds of at most ${size(this.limits.audio_bytes)}.`);
      return;
    }
    this.file = file;
    this.#address = URL.createObjectURL(file);
    this.result.audio.src = this.#address;
    this.#showResult(true);
    this.dispatchEvent(new Event("change"));
    const sound = await decode(file);
    if (this.file !== file) return;
    this.result.wave.hidden = !sound;
    this.result.length.textContent = sound ? length(sound.duration) : "";
    if (sound) drawWaveform(this.result.wave, sound);
  }

  clear() {
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.file = this.#address = null;
    this.result.audio.removeAttribute("src");
    this.#showResult(false);
    this.showError(null);
    this.dispatchEvent(new Event("change"));
  }

  showError(message) {
    const ways = [
      button("Choose another file", { kind: "small", onclick: () => this.input.click() }),
      button("Use the example", { kind: "small", onclick: () => this.useExample() }),
    ];
    showError(this.error, message, ...(message ? ways : []));
  }

  focus() {
    this.radios[0].querySelector("input").focus();
  }
}
