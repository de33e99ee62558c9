// The live panel: the chosen portrait says what is spoken now, while it is spoken.

import * as api from "./api.js";
import { byId, button, make } from "./dom.js";
import { canPlay, LivePlayer } from "./live_player.js";
import { dataUrl, LiveSession } from "./live_session.js";
import { FileSource, MicrophoneSource } from "./live_sources.js";
import { showError } from "./notices.js";
import { size } from "./words.js";

const SLOW_SECONDS = 4;
const SOURCES = [["microphone", "Microphone"], ["file", "Chosen speech"]];
const STATES = {
  idle: "Not live.",
  starting: "Getting ready: the first time, the model is loaded.",
  live: "Live. Speak.",
  sending: "Live. The speech is being sent.",
  finishing: "No more speech is sent; the rest is shown.",
  ended: "Ended.",
};

/** `data-state` of its element is a name of `STATES`. */
export class LivePanel {
  #session = null;
  #source = null;
  #player = null;
  #begun = 0;
  #resting = 0;
  #fps = 25;
  #timer = 0;

  /** Adds itself to the page, before the history. */
  constructor({ portrait, speech, settings, extras, limits }) {
    Object.assign(this, { portrait, speech, settings, extras, limits });
    this.element = this.#build();
    byId("history").before(this.element);
    this.#show("idle");
    addEventListener("pagehide", () => this.#close());
  }

  #build() {
    this.radios = SOURCES.map(([value, text], n) => make("input", { type: "radio", name: "live-source", value, checked: n === 0 }));
    const choices = this.radios.map((radio, n) => make("label", { class: "choice" }, radio, make("span", { text: SOURCES[n][1] })));
    this.startButton = button("Go live", { name: "play", kind: "primary", id: "live-start", onclick: () => this.start() });
    this.stopButton = button("Stop", { name: "remove", id: "live-stop", onclick: () => this.stop() });
    this.state = make("p", { id: "live-state", class: "grow", role: "status" });
    this.delay = make("p", { id: "live-delay", class: "time" });
    this.error = make("div", { id: "live-error", class: "problem", role: "alert", hidden: true });
    this.video = make("video", { id: "live-video", playsinline: true, controls: true, "aria-label": "The live video", hidden: true });
    const frame = make("div", { class: "live-frame" }, this.video, this.empty = make("p", { class: "hint", text: "The portrait speaks here, a moment after you." }));
    const controls = make("div", { class: "live-controls" },
      make("p", { class: "hint", text: "The portrait above says what you say, while you say it. Settings and model are those of the form. Use headphones to hear it: with the microphone, it starts without sound." }),
      make("fieldset", {}, make("legend", { class: "unseen", text: "Where the live speech comes from" }), make("div", { class: "segments" }, ...choices)),
      make("div", { class: "row" }, this.startButton, this.stopButton, this.state), this.delay, this.error);
    return make("section", { id: "live", class: "card-box live", "aria-labelledby": "live-title" },
      make("h2", { id: "live-title", tabindex: "-1", text: "Live" }), make("div", { class: "live-parts" }, controls, frame));
  }

  #show(state) {
    const isOn = ["starting", "live", "sending", "finishing"].includes(state);
    this.element.dataset.state = state;
    this.state.textContent = STATES[state];
    const hadFocus = [this.startButton, this.stopButton].includes(document.activeElement);
    [this.startButton.hidden, this.stopButton.hidden] = [isOn, !isOn];
    this.stopButton.querySelector("span").textContent = state === "finishing" ? "End at once" : "Stop";
    // A button that goes away would take the focus with it.
    if (hadFocus) (isOn ? this.stopButton : this.startButton).focus();
    for (const radio of this.radios) radio.disabled = isOn;
  }

  get #isMicrophone() {
    return this.radios[0].checked;
  }

  /** What is missing, as a sentence with a way out; null where nothing is. */
  #missing() {
    const { portrait, speech } = this;
    const choose = (text, onclick) => button(text, { kind: "small", onclick });
    const again = () => showError(this.error, null);
    if (!portrait.file || portrait.kind === "footage") return [
      portrait.file ? "Live, a picture speaks, not a video; choose a picture." : "There is no portrait yet.",
      choose("Choose a picture", () => byId("portrait-file").click()),
      choose("Use the example", () => portrait.useExample().then(again))];
    if (portrait.file.size > this.limits.live_image_bytes) return [
      `The picture has ${size(portrait.file.size)}; live, at most ${size(this.limits.live_image_bytes)} are taken.`, choose("Choose a picture", () => byId("portrait-file").click())];
    if (portrait.speakers.length > 1) return ["Live, one face speaks; choose one in the picture.", choose("Go to the picture", () => portrait.focus())];
    if (!this.#isMicrophone && !speech.open.file) return ["There is no speech yet.",
      choose("Use the example", () => speech.useExample().then(again)), choose("Use the microphone", () => { this.radios[0].checked = true; again(); })];
    return null;
  }

  async start() {
    showError(this.error, null);
    const missing = this.#missing();
    if (missing) return showError(this.error, ...missing);
    this.#show("starting");
    const attempt = (this.attempt = {});
    try {
      // Also asks for the token where it is missing, which a WebSocket cannot.
      const [source, image] = await Promise.all([
        this.#isMicrophone ? MicrophoneSource.open() : FileSource.open(this.speech.open.file), dataUrl(this.portrait.file), api.getJson("/v1/session"), api.getJson("/v1/limits")]);
      if (this.attempt !== attempt) return source.end();
      this.#source = source;
      this.#open(image);
    } catch (error) {
      if (this.attempt === attempt) this.#failed(error);
    }
  }

  #open(image) {
    const { model } = this.extras.changed();
    const start = { image_reference: image, sample_rate: this.#source.rate, pcm_format: "s16le", settings: this.settings.store.changed() };
    const session = new LiveSession(model ? { ...start, model } : start);
    this.#session = session;
    session.addEventListener("started", ({ detail }) => this.#started(detail));
    session.addEventListener("video", ({ detail }) => this.#player?.append(detail));
    session.addEventListener("delay", ({ detail }) => this.#tellDelay(detail));
    session.addEventListener("failed", ({ detail }) => this.#failed(detail));
    session.addEventListener("ended", ({ detail }) => {
      this.#tellDelay(detail);
      this.#endSource();
      this.#show("finishing");
      this.#player.finish();
    });
  }

  #started({ mime, fps, width, height }) {
    if (!canPlay(mime)) return this.#failed(new Error("This browser cannot play a video that is still being made; use a newer one."));
    const { video } = this;
    video.style.aspectRatio = `${width} / ${height}`;
    video.muted = this.#isMicrophone;
    [video.hidden, this.empty.hidden] = [false, true];
    this.#player = new LivePlayer(video, mime);
    this.#player.addEventListener("error", ({ detail }) => this.#failed(new Error(detail)));
    this.#player.addEventListener("end", () => this.#finished("ended"));
    [this.#resting, this.#fps] = [0, fps];
    delete this.element.dataset.shown;
    this.#begun = performance.now();
    this.#source.begin((pcm) => this.#session?.speak(pcm), () => this.stop());
    this.#show(this.#isMicrophone ? "live" : "sending");
    this.#timer = setInterval(() => this.#tellShown(), 500);
  }

  #tellDelay({ resting = this.#resting, median, percentile_99: worst }) {
    this.#resting = resting;
    const late = median > SLOW_SECONDS ? " This server is slower than speech; choose a smaller longest side, or fewer steps." : "";
    this.delay.dataset.made = `made ${median.toFixed(1)} s (at most ${worst.toFixed(1)} s) after it was spoken.${late}`;
    this.#tellShown();
  }

  /** Seconds from when what is shown was spoken; frames of rest stand for no speech. */
  get shownDelay() {
    const { video } = this;
    if (video.paused || !video.currentTime) return null;
    return (performance.now() - this.#begun) / 1000 - (video.currentTime - this.#resting / this.#fps);
  }

  #tellShown() {
    const shown = this.shownDelay;
    const { made = "" } = this.delay.dataset;
    if (shown !== null) this.element.dataset.shown = shown.toFixed(2);
    const told = Number(this.element.dataset.shown ?? 0).toFixed(1);
    if (made) this.delay.textContent = this.element.dataset.shown ? `Delay: shown ${told} s, ${made}` : `Delay: ${made}`;
  }

  /** No more speech; a second time, end at once. */
  stop() {
    const { state } = this.element.dataset;
    if (state === "starting" || state === "finishing") return this.#finished("ended");
    if (state !== "live" && state !== "sending") return;
    this.#endSource();
    this.#session.finish();
    this.#show("finishing");
  }

  #endSource() {
    this.#source?.end();
    this.#source = null;
  }

  #finished(state) {
    this.#close();
    this.#show(state);
  }

  #failed(error) {
    this.#finished("idle");
    showError(this.error, error.message, button("Try again", { kind: "small", onclick: () => this.start() }));
  }

  /** Let go of microphone, connection and stream. */
  #close() {
    this.attempt = null;
    clearInterval(this.#timer);
    this.#endSource();
    this.#session?.cancel();
    this.#player?.close();
    this.#session = this.#player = null;
  }
}
