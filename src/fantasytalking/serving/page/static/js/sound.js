// Sounds in the browser: reading them for the waveform, and recordings as WAV files, which every server reads.

let context = null;

/** Samples of a sound file, or null where this browser cannot read it (the server may). */
export async function decode(blob) {
  try {
    context ??= new OfflineAudioContext(1, 1, 44100);
    return await context.decodeAudioData(await blob.arrayBuffer());
  } catch {
    return null;
  }
}

/** One channel of 16-bit samples as a WAV file. */
export function wav(buffer) {
  const rate = buffer.sampleRate;
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, n) => buffer.getChannelData(n));
  const view = new DataView(new ArrayBuffer(44 + 2 * buffer.length));
  const text = (at, word) => [...word].forEach((letter, n) => view.setUint8(at + n, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * buffer.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * buffer.length, true);
  for (let n = 0; n < buffer.length; n++) {
    const mean = channels.reduce((sum, one) => sum + one[n], 0) / channels.length;
    view.setInt16(44 + 2 * n, Math.max(-1, Math.min(1, mean)) * 32767, true);
  }
  return new Blob([view], { type: "audio/wav" });
}

/** Draw a waveform in the colour of the element's text. */
export function drawWaveform(canvas, buffer) {
  const scale = devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * scale) || 600, Math.round(canvas.clientHeight * scale) || 80];
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  pen.fillStyle = getComputedStyle(canvas).color;
  const samples = buffer.getChannelData(0);
  const bar = Math.max(2, Math.round(3 * scale));
  for (let x = 0; x < width; x += bar + Math.ceil(scale)) {
    const [from, to] = [x, x + bar].map((at) => Math.floor((at / width) * samples.length));
    let peak = 0;
    for (let n = from; n < to; n += 8) peak = Math.max(peak, Math.abs(samples[n] ?? 0));
    const tall = Math.max(scale * 2, peak * height);
    pen.fillRect(x, (height - tall) / 2, bar, tall);
  }
}
