// Sizes, rates and times in words.
const UNITS = ["kB", "MB", "GB", "TB"];
const WINDOW = 5000;

export function size(bytes) {
  if (bytes < 1000) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) { value /= 1000; unit++; }
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} ${UNITS[unit]}`;
}

export function timeLeft(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.ceil(seconds))} s left`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? `${minutes} min left` : `${Math.floor(minutes / 60)} h ${minutes % 60} min left`;
}

// Bytes a second over the last seconds, of a number that only grows; nothing that comes any more is a rate too.
export class Rate {
  constructor() {
    this.samples = [];
  }

  add(bytes) {
    this.samples.push([performance.now(), bytes]);
  }

  get perSecond() {
    const now = performance.now();
    while (this.samples.length > 1 && now - this.samples[0][0] > WINDOW) this.samples.shift();
    if (this.samples.length < 2) return 0;
    const [began, first] = this.samples[0];
    return now - began < 500 ? 0 : (1000 * (this.samples.at(-1)[1] - first)) / (now - began);
  }
}

// "12 MB/s, 3 min left"; empty while nothing can be said.
export function pace(perSecond, bytesLeft) {
  return perSecond >= 1 ? `${size(Math.round(perSecond))}/s, ${timeLeft(bytesLeft / perSecond)}` : "";
}
