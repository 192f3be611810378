// What this browser remembers of uploads that are under way, so that the same file, chosen again, goes on where it was.
// A file is known by an HMAC under a key that the page gives: no name of a file or folder stays in the browser.
const PREFIX = "vault-upload:";
const DAY = 24 * 60 * 60 * 1000;

function bytesOf(hex) {
  return new Uint8Array((hex.match(/../g) || []).map((pair) => parseInt(pair, 16)));
}

function hexOf(bytes) {
  return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The server keeps an upload until the end of the day (UTC) after it was begun, at the latest.
function isOver(record) {
  return !(Date.now() < (Math.floor(record.created / DAY) + 2) * DAY);
}

function read(key) {
  try {
    const record = JSON.parse(localStorage.getItem(key));
    return Array.isArray(record?.urls) && !isOver(record) ? record : null;
  } catch {
    return null;
  }
}

// Storage can be full or forbidden: an upload is then not remembered, and goes on all the same.
function attempt(act) {
  try {
    return act();
  } catch {
    return null;
  }
}

function forgetWhatIsOver() {
  const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  keys.filter((key) => !read(key)).forEach((key) => localStorage.removeItem(key));
}

export class Memory {
  constructor(key, document) {
    this.key = key;
    this.document = document;
    attempt(forgetWhatIsOver);
  }

  // WebCrypto is there on https and on this machine only; elsewhere nothing is remembered.
  get isAble() {
    return Boolean(this.key && globalThis.crypto?.subtle);
  }

  async placeOf(file, path) {
    if (!this.isAble) return null;
    this.imported ||= crypto.subtle.importKey("raw", bytesOf(this.key), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    const known = new TextEncoder().encode(JSON.stringify([file.name, file.size, file.lastModified, path, this.document]));
    return PREFIX + hexOf(await crypto.subtle.sign("HMAC", await this.imported, known));
  }

  find(place, size) {
    const record = place && attempt(() => read(place));
    return record?.size === size ? record : null;
  }

  keep(place, { urls, created, size }) {
    if (place) attempt(() => localStorage.setItem(place, JSON.stringify({ urls, created, size })));
  }

  forget(place) {
    if (place) attempt(() => localStorage.removeItem(place));
  }
}
