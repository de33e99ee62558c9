// Speech for a live session as 16-bit PCM: from the microphone, or a file at the rate at which it is spoken.
//
// A source is made by `open`, tells its `rate`, gives pieces from `begin` on, and lets go of everything in `end`.

import { whyNot } from "./camera.js";

const RATE = 16000;
const PIECE_MS = 40;

/** The microphone. */
export class MicrophoneSource {
  #stream;
  #context;
  #input;

  /** @throws {Error} with a sentence */
  static async open() {
    const source = new MicrophoneSource();
    try {
      // The portrait says it again: without cancellation it would hear itself.
      source.#stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } });
      source.#connect();
      await source.#context.audioWorklet.addModule(new URL("./pcm_worklet.js", import.meta.url));
    } catch (error) {
      source.end();
      throw new Error(whyNot(error, "microphone"));
    }
    return source;
  }

  #connect() {
    this.#context = new AudioContext({ sampleRate: RATE });
    try {
      this.#input = this.#context.createMediaStreamSource(this.#stream);
    } catch {
      // Some browsers do not resample here; the server does.
      this.#context.close();
      this.#context = new AudioContext();
      this.#input = this.#context.createMediaStreamSource(this.#stream);
    }
  }

  get rate() {
    return this.#context.sampleRate;
  }

  /**
   * @param {function(ArrayBuffer)} give gets the pieces
   * @param {function()} done is called when the microphone is taken away
   */
  begin(give, done) {
    const collector = new AudioWorkletNode(this.#context, "pcm-collector", { numberOfOutputs: 0 });
    collector.port.onmessage = ({ data }) => give(data);
    this.#input.connect(collector);
    this.#context.resume();
    this.#stream.getAudioTracks()[0].addEventListener("ended", done);
  }

  end() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    if (this.#context && this.#context.state !== "closed") this.#context.close();
  }
}

/** A sound file. */
export class FileSource {
  rate = RATE;
  #samples;
  #timer = 0;

  /** @throws {Error} with a sentence */
  static async open(file) {
    const source = new FileSource();
    let sound;
    try {
      sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
    } catch {
      throw new Error("This browser cannot read the speech, which is sent piece by piece; choose a WAV, MP3 or MP4 file.");
    }
    const channels = Array.from({ length: sound.numberOfChannels }, (_, n) => sound.getChannelData(n));
    source.#samples = Int16Array.from({ length: sound.length }, (_, n) =>
      Math.max(-1, Math.min(1, channels.reduce((sum, one) => sum + one[n], 0) / channels.length)) * 32767);
    return source;
  }

  /** As for the microphone; `done` is called behind the last piece. */
  begin(give, done) {
    const begun = performance.now();
    let sent = 0;
    this.#timer = setInterval(() => {
      // A page in the background has fewer ticks, so each sends all that is due.
      const due = Math.min(this.#samples.length, Math.floor(((performance.now() - begun) / 1000) * RATE));
      if (due > sent) give(this.#samples.slice(sent, due).buffer);
      sent = due;
      if (sent < this.#samples.length) return;
      this.end();
      done();
    }, PIECE_MS);
  }

  end() {
    clearInterval(this.#timer);
  }
}
