// One session of WS /v1/realtime: what is sent, what comes, and how it ends.

import { address } from "./api.js";

/** What a session ended with, as a sentence. */
export class LiveError extends Error {
  constructor({ code = "error", message }) {
    super(message);
    this.code = code;
  }
}

/** A file as a data URL. */
export function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("The portrait cannot be read any more; choose it again."));
    reader.readAsDataURL(file);
  });
}

/**
 * Events: "started" (detail: size, rate, mime), "video" (detail: ArrayBuffer), "delay" (detail: frames, resting, median,
 * percentile_99), "ended" (detail as for delay, and notes), "failed" (detail: LiveError). One of the last two comes once.
 */
export class LiveSession extends EventTarget {
  #socket;
  #isOver = false;

  /** @param {object} start fields of the message `session.start` */
  constructor(start) {
    super();
    this.#socket = new WebSocket(address("/v1/realtime").replace(/^http/, "ws"));
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#tell("session.start", start);
    this.#socket.onmessage = ({ data }) => (data instanceof ArrayBuffer ? this.#say("video", data) : this.#hear(JSON.parse(data)));
    this.#socket.onclose = () => this.#end("failed", new LiveError({ code: "lost", message: "The connection to the server was lost." }));
  }

  /** Send 16-bit PCM. */
  speak(pcm) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(pcm);
  }

  /** No more speech comes; the rest of the video still does. */
  finish() {
    if (this.#socket.readyState === WebSocket.OPEN) this.#tell("speech.finish");
  }

  /** End at once, without further events. */
  cancel() {
    this.#isOver = true;
    if (this.#socket.readyState === WebSocket.OPEN) this.#tell("session.cancel");
    this.#socket.close();
  }

  #tell(type, fields = {}) {
    this.#socket.send(JSON.stringify({ type, ...fields }));
  }

  #hear({ type, ...fields }) {
    if (type === "session.started") this.#say("started", fields);
    else if (type === "session.delay") this.#say("delay", fields);
    else if (type === "session.ended") this.#end("ended", fields);
    else if (type === "error") this.#end("failed", new LiveError(fields.error));
  }

  #say(event, detail) {
    if (!this.#isOver) this.dispatchEvent(new CustomEvent(event, { detail }));
  }

  #end(event, detail) {
    this.#say(event, detail);
    this.#isOver = true;
  }
}
