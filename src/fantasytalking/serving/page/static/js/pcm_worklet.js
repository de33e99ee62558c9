// In the audio thread: collects the microphone's samples and posts them as 16-bit PCM of one channel.

const PIECE_SECONDS = 0.04;

class PcmCollector extends AudioWorkletProcessor {
  #piece = new Int16Array(Math.round(PIECE_SECONDS * sampleRate));
  #filled = 0;

  process([channels]) {
    const length = channels[0]?.length ?? 0;
    for (let n = 0; n < length; n++) {
      const mean = channels.reduce((sum, one) => sum + one[n], 0) / channels.length;
      this.#piece[this.#filled++] = Math.max(-1, Math.min(1, mean)) * 32767;
      if (this.#filled < this.#piece.length) continue;
      this.port.postMessage(this.#piece.buffer, [this.#piece.buffer]);
      this.#piece = new Int16Array(this.#piece.length);
      this.#filled = 0;
    }
    return true;
  }
}

registerProcessor("pcm-collector", PcmCollector);
