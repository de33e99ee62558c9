// A <video> that plays fragments of MP4 as they come, near the newest one, however long it goes on.

const KEPT_SECONDS = 10;
const TRIM_AT_SECONDS = 20;
/** Video that there must be before it plays, and the most that this grows to when it runs dry. */
const [FIRST_WAIT, MOST_WAIT] = [0.5, 2];
/** Where more than this was never used for a while, it plays a little faster; far behind, it jumps, paused by its viewer later. */
const [SPARE_SECONDS, JUMP_SECONDS, PAUSED_SECONDS] = [0.45, 6, 30];
const WATCHED_MS = 3000;
const FASTER = 1.06;

const Source = globalThis.ManagedMediaSource ?? globalThis.MediaSource;

/** Whether this browser can play a stream of such a type. */
export const canPlay = (mime) => Boolean(Source?.isTypeSupported(mime));

/** Events "error" (detail: a sentence) and "end", when all of it has been shown. */
export class LivePlayer extends EventTarget {
  #media = new Source();
  #address;
  #buffer = null;
  #queue = [];
  #isWhole = false;
  #isClosed = false;
  #held = true;
  #wait = FIRST_WAIT;
  #least = [];
  #timer = 0;

  /** @param {HTMLVideoElement} video */
  constructor(video, mime) {
    super();
    this.video = video;
    this.#address = URL.createObjectURL(this.#media);
    // ManagedMediaSource is for players that offer no remote playback.
    video.disableRemotePlayback = true;
    video.src = this.#address;
    this.#media.addEventListener("sourceopen", () => {
      this.#buffer = this.#media.addSourceBuffer(mime);
      this.#buffer.addEventListener("updateend", () => this.#next());
      this.#next();
    }, { once: true });
    video.addEventListener("waiting", this.#dry);
    video.addEventListener("error", this.#broken);
    video.addEventListener("ended", this.#end);
    this.#timer = setInterval(() => this.#keepUp(), 100);
  }

  /** Take a piece of the stream. */
  append(data) {
    this.#queue.push(data);
    this.#next();
  }

  /** No more pieces come: what is there is played to its end. */
  finish() {
    this.#isWhole = true;
    this.#next();
  }

  /** Seconds of video that are there and not shown yet. */
  get ahead() {
    const { buffered, currentTime } = this.video;
    return buffered.length ? Math.max(0, buffered.end(buffered.length - 1) - currentTime) : 0;
  }

  /** Let go of the video; its last frame stays. */
  close() {
    clearInterval(this.#timer);
    this.video.removeEventListener("waiting", this.#dry);
    this.video.removeEventListener("error", this.#broken);
    this.video.removeEventListener("ended", this.#end);
    this.#isClosed = true;
    this.#queue = [];
    this.#buffer = null;
    this.video.pause();
    this.video.playbackRate = 1;
    URL.revokeObjectURL(this.#address);
  }

  /** Hand over the next pieces, throw old ones away, or end the stream; one at a time, as a SourceBuffer wants it. */
  #next() {
    if (!this.#buffer || this.#buffer.updating || this.#media.readyState !== "open") return;
    const { buffered, currentTime } = this.video;
    if (buffered.length && currentTime - buffered.start(0) > TRIM_AT_SECONDS) this.#buffer.remove(0, currentTime - KEPT_SECONDS);
    else if (this.#queue.length) this.#append();
    else if (this.#isWhole) this.#media.endOfStream();
  }

  async #append() {
    const pieces = new Blob(this.#queue);
    this.#queue = [];
    const buffer = this.#buffer;
    // Blob gives one buffer of all pieces; until it is there, others may come, which wait.
    this.#buffer = null;
    const data = await pieces.arrayBuffer();
    if (this.#isClosed) return;
    this.#buffer = buffer;
    try {
      buffer.appendBuffer(data);
    } catch (error) {
      this.dispatchEvent(new CustomEvent("error", { detail: `The browser could not take the video (${error.message}).` }));
    }
  }

  #dry = () => {
    if (this.#isWhole || this.video.currentTime === 0) return;
    // It plays again when there is more than last time, so that it stutters once and not all the time.
    this.#wait = Math.min(MOST_WAIT, this.#wait + 0.25);
    this.#least = [];
    this.video.playbackRate = 1;
    this.video.pause();
    this.#held = true;
  };

  #end = () => this.dispatchEvent(new Event("end"));

  #broken = () => {
    const message = this.video.error?.message || "unknown reason";
    this.dispatchEvent(new CustomEvent("error", { detail: `The browser cannot play the video (${message}).` }));
  };

  #keepUp() {
    const { video, ahead } = this;
    if (this.#held) {
      const isRest = this.#media.readyState === "ended";
      if (isRest && ahead < 0.05) return this.#end();
      if (!isRest && ahead < this.#wait) return;
      this.#held = false;
      video.play().catch(() => {
        // Browsers that forbid sound without a click let it play without.
        video.muted = true;
        video.play().catch(() => {});
      });
      return;
    }
    if (video.ended || (video.paused && ahead < PAUSED_SECONDS)) return;
    if (ahead > JUMP_SECONDS && !this.#isWhole) {
      video.currentTime += ahead - this.#wait;
      return;
    }
    const now = performance.now();
    this.#least.push([now, ahead]);
    while (this.#least[0][0] < now - WATCHED_MS) this.#least.shift();
    const spare = Math.min(...this.#least.map(([, seconds]) => seconds));
    const isWatched = now - this.#least[0][0] > WATCHED_MS - 300;
    video.playbackRate = !this.#isWhole && isWatched && spare > SPARE_SECONDS ? FASTER : 1;
  }
}
