// The microphone: record, show the level, stop.

import { whyNot } from "./camera.js";
import { decode, wav } from "./sound.js";

export class Recorder {
  #recorder = null;
  #stream = null;
  #context = null;
  #timer = 0;

  get running() {
    return this.#recorder !== null;
  }

  /**
   * Begin.
   * @param {function(number, number)} level gets loudness (0 to 1) and seconds, about ten times a second
   * @throws {Error} with a sentence
   */
  async start(level) {
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: true, autoGainControl: true } });
    } catch (error) {
      throw new Error(whyNot(error, "microphone"));
    }
    this.#context = new AudioContext();
    const analyser = this.#context.createAnalyser();
    this.#context.createMediaStreamSource(this.#stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const begun = performance.now();
    this.#timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, one) => sum + one * one, 0) / samples.length;
      const decibels = 10 * Math.log10(power + 1e-9);
      level(Math.max(0, Math.min(1, (decibels + 60) / 55)), (performance.now() - begun) / 1000);
    }, 100);
    this.#recorder = new MediaRecorder(this.#stream);
    this.#recorder.start();
  }

  /** End; resolves to a WAV file. */
  async stop() {
    const recorder = this.#recorder;
    const recorded = new Promise((resolve) => recorder.addEventListener("dataavailable", (event) => resolve(event.data), { once: true }));
    recorder.stop();
    const blob = await recorded;
    this.cancel();
    const sound = await decode(blob);
    if (!sound) throw new Error("The recording is empty; record again, or choose a file.");
    return wav(sound);
  }

  /** End without a result. */
  cancel() {
    clearInterval(this.#timer);
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#context?.close();
    this.#recorder = this.#stream = this.#context = null;
  }
}
