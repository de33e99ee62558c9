// In the audio thread: collects the microphone's samples and posts them as 16-bit PCM of one channel.

const SAMPLES = Math.round(0.04 * sampleRate);

class PcmCollector extends AudioWorkletProcessor {
  #piece = new Int16Array(SAMPLES);
  #filled = 0;

  process([channels]) {
    const length = channels[0]?.length ?? 0;
    for (let n = 0; n < length; n++) {
      const mean = channels.reduce((sum, one) => sum + one[n], 0) / channels.length;
      this.#piece[this.#filled++] = Math.max(-1, Math.min(1, mean)) * 32767;
      if (this.#filled < SAMPLES) continue;
      // Posted, the array is empty; its length says nothing any more.
      this.port.postMessage(this.#piece.buffer, [this.#piece.buffer]);
      this.#piece = new Int16Array(SAMPLES);
      this.#filled = 0;
    }
    return true;
  }
}

registerProcessor("pcm-collector", PcmCollector);
