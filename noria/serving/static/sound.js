// A recording as the server takes it: WAV, 16 bits, mono, 16 kHz. Whatever the browser can decode becomes that.

export const RATE_HZ = 16_000;
const LONGEST_S = 60;

export const canRecord = () => Boolean(navigator.mediaDevices?.getUserMedia && window.MediaRecorder);

/** Records until `stop()`, or a minute; `done` resolves to what was recorded. */
export async function record(onSecond) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(stream);
  const parts = [];
  let seconds = 0;
  const stop = () => {
    if (recorder.state !== "inactive") recorder.stop();
  };
  const done = new Promise((resolve) => {
    recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    recorder.addEventListener("stop", () => {
      clearInterval(ticking);
      for (const track of stream.getTracks()) track.stop(); // the browser's red light goes out
      resolve(new Blob(parts, { type: recorder.mimeType }));
    });
  });
  recorder.start();
  const ticking = setInterval(() => {
    seconds += 1;
    onSecond(seconds);
    if (seconds >= LONGEST_S) stop();
  }, 1_000);
  return { stop, done };
}

/** Decoded, resampled and mixed down by the browser. */
export async function asWav(blob) {
  const context = new OfflineAudioContext(1, 1, RATE_HZ); // what it decodes, it resamples to its own rate
  const sound = await context.decodeAudioData(await blob.arrayBuffer());
  const mono = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel += 1) {
    const values = sound.getChannelData(channel);
    for (let i = 0; i < mono.length; i += 1) mono[i] += values[i] / sound.numberOfChannels;
  }
  return new Blob([header(mono.length), pcm(mono)], { type: "audio/wav" });
}

function header(count) {
  const view = new DataView(new ArrayBuffer(44));
  const ascii = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  ascii(0, "RIFF");
  view.setUint32(4, 36 + 2 * count, true);
  ascii(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // mono
  view.setUint32(24, RATE_HZ, true);
  view.setUint32(28, 2 * RATE_HZ, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  ascii(36, "data");
  view.setUint32(40, 2 * count, true);
  return view.buffer;
}

function pcm(values) {
  const view = new DataView(new ArrayBuffer(2 * values.length));
  values.forEach((value, i) => view.setInt16(2 * i, Math.round(Math.max(-1, Math.min(1, value)) * 32_767), true));
  return view.buffer;
}
