// One file's way to the server, by tus: begun, sent, paused, tried again, resumed after a new login, ended.
// tus-js-client sends; when to try again, and with what, is decided here, the same way for one stream and for several.
import { Rate } from "./amounts.js";
import { loggedInAgain } from "./timeleft.js";

const PARALLEL = 2; // a browser opens six connections to a server: two such files leave room for pages
const DELAYS = [300, 1000, 2000, 3000, 5000, 5000, 10000];
const MOST_VAIN = 8; // where the server answers, but does not do what it should; an absent one is asked for ever
const ABSENT = [502, 503, 504];
const WORTH_ANOTHER_TRY = ["OffsetMismatch", "BrokenOff", "ChecksumMismatch", "Busy", "StoreUnavailable", "KeyUnavailable"];
const NO_SECOND_TRY = [501, 505, 507];
const GOING = ["sending", "retrying", "locked"];

let client = null;

export function tusClient() {
  client ||= import("../vendor/tus-js-client/tus.min.js").then(() => globalThis.tus);
  return client;
}

// An answer that is a refusal: problem+json, or a bare status where a HEAD has no body.
class Problem extends Error {
  constructor(response) {
    const told = Problem.read(response.getBody());
    super(told.detail || `The server refused this (${response.getStatus()}).`);
    this.status = response.getStatus();
    this.kind = (told.type || "").split(":").pop();
    this.field = told.field || "";
    this.wait = 1000 * Number(response.getHeader("Retry-After") || 0);
  }

  static read(body) {
    try {
      return JSON.parse(body);
    } catch {
      return {};
    }
  }

  get needsLogin() {
    return this.status === 401 || this.status === 423 || this.field === "csrf_token";
  }

  get isPassing() {
    return WORTH_ANOTHER_TRY.includes(this.kind) || (this.status >= 500 && !NO_SECOND_TRY.includes(this.status));
  }
}

class OtherReaders extends Error {}

export function namesIn(text) {
  return [...new Set(text.toLowerCase().split(/[\s,;]+/).filter(Boolean))].sort().join(",");
}

function metadataIn(header) {
  const pairs = (header || "").split(",").map((pair) => pair.trim().split(" "));
  const text = (value) => new TextDecoder().decode(Uint8Array.from(atob(value || ""), (letter) => letter.charCodeAt(0)));
  return Object.fromEntries(pairs.map(([key, value]) => [key, text(value)]));
}

export class Transfer {
  // `way` is what all files of a form share: endpoint, csrfToken(), memory, document, parallelFrom.
  constructor({ file, folders }, way, changed) {
    this.file = file;
    this.path = folders.join("/");
    this.way = way;
    this.changed = () => changed(this);
    this.state = "waiting";
    this.text = "";
    this.recipients = "";
    this.sent = 0;
    this.rate = new Rate();
    this.attempt = null;
    this.tries = 0;
    this.vain = 0;
    this.mostHeld = 0;
    this.urls = new Set();
    this.record = null;
    this.documentId = null;
  }

  get isGoing() {
    return GOING.includes(this.state);
  }

  get isBegun() {
    return this.urls.size > 0 || this.state === "done";
  }

  become(state, text = "") {
    this.state = state;
    this.text = text;
    this.changed();
  }

  // Look up whether this file was under way before, how far it came, and whom it is for.
  async recall() {
    this.place = await this.way.memory.placeOf(this.file, this.path);
    this.record = this.way.memory.find(this.place, this.file.size);
    if (!this.record) return null;
    const headers = { "Tus-Resumable": "1.0.0" };
    const answers = await Promise.all(this.record.urls.map((url) => fetch(url, { method: "HEAD", headers }).catch(() => null)));
    if (this.isGoing || !answers.every((answer) => answer?.ok)) return null;
    this.sent = answers.reduce((sum, answer) => sum + Number(answer.headers.get("Upload-Offset")), 0);
    this.changed();
    return metadataIn(answers[0].headers.get("Upload-Metadata")).recipients || "";
  }

  queue(recipients) {
    this.recipients = namesIn(recipients);
    this.tries = 0;
    this.become("queued");
  }

  // Each attempt is an upload of its own; what an older one still reports is not heard.
  async begin() {
    const attempt = { creating: 0, skipped: 0, upload: null };
    this.attempt = attempt;
    this.rate = new Rate();
    this.become("sending");
    try {
      const tus = await tusClient();
      this.place ??= await this.way.memory.placeOf(this.file, this.path);
      this.record ||= this.way.memory.find(this.place, this.file.size);
      if (attempt !== this.attempt) return;
      attempt.upload = new tus.Upload(this.file, this.options(attempt));
      if (this.record) this.resume(attempt.upload, this.record);
      attempt.upload.start();
    } catch (error) {
      if (attempt === this.attempt) this.fail(`The uploader did not load. Reload the page. (${error.message})`);
    }
  }

  resume(upload, { urls }) {
    this.urls = new Set(urls);
    const known = urls.length > 1 ? { parallelUploadUrls: urls } : { uploadUrl: urls[0] };
    upload.resumeFromPreviousUpload({ ...known, urlStorageKey: null });
  }

  options(attempt) {
    const isMine = () => attempt === this.attempt;
    const about = this.recipients ? { recipients: this.recipients } : {};
    if (this.way.document) about.document = this.way.document;
    return {
      endpoint: new URL(this.way.endpoint, location.href).href,
      metadata: { filename: this.file.name, filetype: this.file.type, path: this.path, ...about },
      metadataForPartialUploads: about, // so that a wrong name is told at once, and no file's name is said twice
      parallelUploads: this.file.size >= this.way.parallelFrom ? PARALLEL : 1,
      chunkSize: Infinity,
      retryDelays: null,
      fingerprint: async () => this.place || "not remembered",
      urlStorage: { addUpload: async (_, stored) => this.keep(stored) },
      onBeforeRequest: (request) => this.asks(request, attempt),
      onAfterResponse: (request, response) => this.answered(request, response, attempt),
      onProgress: (sent) => { if (isMine()) this.progressed(sent); },
      onSuccess: () => { if (isMine()) this.stored(); },
      onError: (error) => { if (isMine()) this.broke(error.causingError || error); },
    };
  }

  asks(request, attempt) {
    if (attempt !== this.attempt) throw new Error("stopped");
    request.setHeader("X-CSRFToken", this.way.csrfToken());
    if (creates(request)) attempt.creating++;
  }

  answered(request, response, attempt) {
    const isWell = response.getStatus() < 300;
    const isMine = attempt === this.attempt;
    if (creates(request)) this.created(isWell ? response.getHeader("Location") : null, attempt);
    if (!isMine) return;
    const isLost = request.getMethod() === "HEAD" && [404, 410].includes(response.getStatus());
    if (isLost) this.urls.delete(request.getURL());
    else if (!isWell) throw new Problem(response); // tus-js-client would begin anew, whatever the status of a HEAD is
    else this.understood(request, response);
  }

  // Stopped meanwhile: its address is known now, so that it can be resumed or ended, and nothing more of it is sent.
  created(address, attempt) {
    attempt.creating--;
    const url = address && new URL(address, location.href).href;
    if (url && this.state === "cancelled") this.terminate(url);
    else if (url) this.urls.add(url);
    if (attempt !== this.attempt && !attempt.creating) attempt.upload.abort();
  }

  understood(request, response) {
    this.documentId = response.getHeader("X-Vault-Document") || this.documentId;
    if (request.getMethod() === "HEAD") this.found(response);
    this.changed();
  }

  // What the server holds already is no speed; and a try after which it holds more was no vain one.
  found(response) {
    this.attempt.skipped += Number(response.getHeader("Upload-Offset"));
    if (this.attempt.skipped > this.mostHeld) {
      this.mostHeld = this.attempt.skipped;
      this.tries = this.vain = 0;
    }
    const isWhole = !response.getHeader("Upload-Concat") && !this.documentId;
    const told = metadataIn(response.getHeader("Upload-Metadata")).recipients || "";
    if (isWhole && namesIn(told) !== this.recipients) throw new OtherReaders();
  }

  progressed(sent) {
    this.sent = sent;
    this.rate.add(Math.max(0, sent - this.attempt.skipped));
    this.changed();
  }

  keep(stored) {
    const urls = [...(stored.parallelUploadUrls || [stored.uploadUrl])];
    const isSame = this.record && urls.every((url) => this.record.urls.includes(url));
    this.record = { urls, created: isSame ? this.record.created : Date.now(), size: this.file.size };
    if (this.state !== "cancelled") this.way.memory.keep(this.place, this.record);
    return "kept";
  }

  forget() {
    this.record = null;
    this.way.memory.forget(this.place);
  }

  stored() {
    this.attempt = null;
    this.forget();
    this.sent = this.file.size;
    this.become("done");
  }

  fail(text) {
    this.abort();
    this.become("failed", text);
  }

  async broke(problem) {
    this.abort();
    if (problem instanceof OtherReaders) return this.beginAnew();
    if (problem instanceof Problem) return this.refused(problem);
    if (!(problem instanceof ProgressEvent)) return this.fail(`The server gave an answer that makes no sense. (${problem.message})`);
    this.vain = 0;
    this.become("retrying");
    if (await this.isReadable()) return this.tryAgain(0);
    return this.fail("This file was changed, moved or deleted since you chose it. Choose it again.");
  }

  refused(problem) {
    if (problem.needsLogin) return this.waitForLogin();
    if (problem.field === "recipients") return this.become("unshared", problem.message);
    if (ABSENT.includes(problem.status) || (problem.isPassing && this.vain++ < MOST_VAIN)) return this.tryAgain(problem.wait);
    return this.fail(problem.message);
  }

  async isReadable() {
    try {
      await this.file.slice(0, 1).arrayBuffer();
      return true;
    } catch {
      return false;
    }
  }

  // It was begun for other readers, and what it was begun with cannot be changed: end it, and send all of it anew.
  beginAnew() {
    this.terminateAll();
    this.begin();
  }

  tryAgain(atLeast) {
    if (!this.isGoing) return;
    const delay = Math.max(atLeast, DELAYS[Math.min(this.tries++, DELAYS.length - 1)] * (0.8 + 0.4 * Math.random()));
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.begin(), delay);
    this.again = Date.now() + delay;
    this.become("retrying");
  }

  // The connection may be back: do not wait for the clock.
  hurry() {
    if (this.state !== "retrying") return;
    clearTimeout(this.timer);
    this.begin();
  }

  async waitForLogin() {
    this.become("locked");
    await loggedInAgain();
    if (this.state === "locked") this.tryAgain(0);
  }

  abort() {
    clearTimeout(this.timer);
    this.attempt?.upload?.abort();
    this.attempt = null;
  }

  // Where its address is still under way it is not cut off, but stopped as soon as that is known.
  stop() {
    if (!this.attempt?.creating) return this.abort();
    clearTimeout(this.timer);
    this.attempt = null;
  }

  pause() {
    this.stop();
    this.become("paused");
  }

  // End it on the server too. What the server does not hear expires by itself.
  cancel() {
    this.stop();
    this.become("cancelled");
    this.terminateAll();
  }

  terminateAll() {
    this.urls.forEach((url) => this.terminate(url));
    this.urls.clear();
    this.forget();
    this.sent = 0;
  }

  async terminate(url) {
    const onBeforeRequest = (request) => request.setHeader("X-CSRFToken", this.way.csrfToken());
    const { Upload } = await tusClient();
    await Upload.terminate(url, { retryDelays: DELAYS, onBeforeRequest }).catch(() => null);
  }
}

function creates(request) {
  return request.getMethod() === "POST" && !(request.getHeader("Upload-Concat") || "").startsWith("final");
}
