// Uploads: several files, by choice or by drop, each with its progress, two at a time.
// The form without script sends the same fields to the same address in the same order.
import { openDialog } from "./dialogs.js";
import { AS_SCRIPT, addressOf, fieldError, icon, isLogin, make, problemIn, shownName } from "./pages.js";
import { stayLoggedIn } from "./timeleft.js";

const AT_ONCE = 2;
const ALIVE_EVERY = 60000;
const UNITS = ["kB", "MB", "GB", "TB"];

function size(bytes) {
  if (bytes < 1000) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) { value /= 1000; unit++; }
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} ${UNITS[unit]}`;
}

// One file, its row in the list, and its way to the server.
class Transfer {
  constructor(file, uploader) {
    this.file = file;
    this.uploader = uploader;
    this.state = "waiting";
    this.words = make("span", { class: "transfer-state" }, size(file.size));
    this.button = make("button", { type: "button", class: "btn btn-sm btn-quiet", "aria-label": `Remove ${file.name}` }, icon("x-lg"));
    this.button.addEventListener("click", () => this.drop());
    const right = make("span", { class: "person" }, this.words, this.button);
    this.row = make("li", { class: "transfer" }, make("span", { class: "transfer-name" }, shownName(file.name)), right);
  }

  get isOpen() {
    return this.state === "waiting" || this.state === "failed";
  }

  drop() {
    if (this.state === "sending") this.request.abort();
    else this.uploader.forget(this);
  }

  refuse(text, state = "failed") {
    this.state = state;
    this.row.querySelectorAll("progress, .field-error").forEach((old) => old.remove());
    this.words.textContent = size(this.file.size);
    this.row.append(fieldError(text));
  }

  wait() {
    this.state = "waiting";
    this.bar.remove();
    this.words.textContent = `${size(this.file.size)}, not sent yet`;
  }

  send(fields) {
    const body = new FormData();
    for (const [name, value] of fields) body.append(name, value); // before the file: the server reads in this order
    body.append("file", this.file, this.file.name);
    this.row.querySelectorAll(".field-error").forEach((old) => old.remove());
    this.bar = make("progress", { max: "1", value: "0", "aria-label": `Sending ${this.file.name}` });
    this.row.append(this.bar);
    this.state = "sending";
    return new Promise((resolve) => {
      this.request = new XMLHttpRequest();
      this.request.upload.addEventListener("progress", (event) => this.progress(event));
      this.request.addEventListener("load", () => resolve(this.answered()));
      this.request.addEventListener("error", () => resolve(this.refuse("The connection broke off. Nothing of this file was stored; send it again.")));
      this.request.addEventListener("abort", () => resolve(this.refuse("Stopped. Nothing of this file was stored.")));
      this.request.open("POST", addressOf(this.uploader.form));
      for (const [name, value] of Object.entries(AS_SCRIPT)) this.request.setRequestHeader(name, value);
      this.request.send(body);
    });
  }

  progress(event) {
    if (!event.lengthComputable) return;
    this.bar.value = event.loaded / event.total;
    const isSent = event.loaded >= event.total;
    this.words.textContent = isSent ? "locking …" : `${Math.floor((100 * event.loaded) / event.total)} % of ${size(this.file.size)}`;
  }

  answered() {
    const { status, responseURL, responseText } = this.request;
    if (status === 401 || isLogin(responseURL)) return this.refuse("Your session has ended. Nothing of this file was stored; log in and send it again.");
    const isJson = (this.request.getResponseHeader("Content-Type") || "").startsWith("application/json");
    const answer = isJson ? JSON.parse(responseText) : null;
    if (status === 200 && answer) return this.stored(answer.locations);
    if (answer?.field === "recipients") {
      this.wait();
      return this.uploader.refuseRecipients(answer.text);
    }
    return this.refuse(answer?.text || problemIn(responseText));
  }

  stored(locations) {
    this.state = "done";
    this.row.classList.add("is-done");
    this.bar.remove();
    this.button.remove();
    this.words.textContent = "stored and locked";
    const name = this.row.querySelector(".transfer-name");
    const link = make("a", { href: locations[0] });
    name.replaceWith(link);
    link.append(name);
  }
}

class Uploader {
  constructor(form) {
    this.form = form;
    this.input = form.elements.file;
    this.limit = Number(form.dataset.maxBytes) || Infinity;
    this.transfers = [];
    this.running = 0;
    this.list = form.querySelector("[data-transfers]");
    this.button = form.querySelector("[data-send]");
    this.said = form.querySelector("[data-transfers-said]");
    this.input.removeAttribute("required");
    this.input.addEventListener("change", () => { this.add([...this.input.files]); this.input.value = ""; });
    form.addEventListener("vault:files", (event) => this.add(event.detail));
    form.addEventListener("submit", (event) => { event.preventDefault(); this.start(); });
    this.takeDrops(form.querySelector("[data-drop]"));
    addEventListener("beforeunload", (event) => { if (this.running) event.preventDefault(); });
    this.guardDialog(form.closest("dialog"));
  }

  guardDialog(dialog) {
    this.dialog = dialog;
    dialog?.addEventListener("cancel", (event) => { if (this.running) event.preventDefault(); });
    dialog?.addEventListener("close", () => this.transfers.forEach((transfer) => { if (transfer.state === "sending") transfer.request.abort(); }));
  }

  takeDrops(area) {
    const over = (event) => {
      event.preventDefault();
      area.classList.add("is-over");
    };
    area.addEventListener("dragenter", over);
    area.addEventListener("dragover", over);
    area.addEventListener("dragleave", () => area.classList.remove("is-over"));
    area.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      area.classList.remove("is-over");
      this.add(filesOf(event));
    });
  }

  add(files) {
    this.form.querySelectorAll("[data-error-for=file], .drop + .field-error").forEach((old) => old.remove());
    if (!this.input.multiple) {
      this.transfers.filter((transfer) => transfer.isOpen).forEach((transfer) => this.forget(transfer));
      files = files.slice(-1);
    }
    for (const file of files) {
      const transfer = new Transfer(file, this);
      this.transfers.push(transfer);
      this.list.append(transfer.row);
      if (file.isFolder) transfer.refuse("This is a folder. Choose the files in it.", "refused");
      else if (file.size > this.limit) transfer.refuse(`Too large: at most ${size(this.limit)}.`, "refused");
    }
    this.show();
  }

  forget(transfer) {
    this.transfers.splice(this.transfers.indexOf(transfer), 1);
    transfer.row.remove();
    this.show();
  }

  get open() {
    return this.transfers.filter((transfer) => transfer.isOpen);
  }

  refuseRecipients(text) {
    this.isStopped = true;
    const field = this.form.elements.recipients;
    const box = field.closest(".field");
    box.querySelectorAll(".field-error").forEach((old) => old.remove());
    box.append(fieldError(text));
    field.setAttribute("aria-invalid", "true");
    field.classList.add("is-invalid");
    field.focus();
  }

  clearRecipients() {
    const field = this.form.elements.recipients;
    field?.removeAttribute("aria-invalid");
    field?.classList.remove("is-invalid");
    field?.closest(".field").querySelectorAll(".field-error").forEach((old) => old.remove());
  }

  async start() {
    if (this.running) return;
    if (!this.open.length) return this.refuseEmpty();
    this.clearRecipients();
    this.isStopped = false;
    const fields = [...new FormData(this.form)].filter(([name]) => name !== "file");
    const queue = this.open;
    const alive = setInterval(stayLoggedIn, ALIVE_EVERY);
    const worker = async () => {
      while (queue.length && !this.isStopped) {
        await queue.shift().send(fields);
        this.show();
      }
    };
    this.running = 1;
    this.show();
    await firstAlone(queue, worker);
    this.running = 0;
    clearInterval(alive);
    this.show();
    this.finish();
  }

  refuseEmpty() {
    const area = this.form.querySelector("[data-drop]");
    this.form.querySelectorAll(".drop + .field-error").forEach((old) => old.remove());
    area.after(fieldError("Choose a file first."));
    this.input.focus();
  }

  show() {
    const done = this.transfers.filter((transfer) => transfer.state === "done").length;
    this.button.disabled = Boolean(this.running);
    this.button.hidden = !this.running && done > 0 && !this.open.length;
    const words = `${done} of ${this.transfers.length} stored`;
    if (this.running || done) this.said.textContent = words;
  }

  finish() {
    const done = this.transfers.filter((transfer) => transfer.state === "done");
    if (!done.length) return;
    if (this.dialog) this.dialog.dataset.changed = "yes";
    const close = this.form.querySelector("[data-close]");
    close.textContent = "Done";
    if (this.open.length) return;
    close.classList.replace("btn-quiet", "btn-primary");
    close.focus();
  }
}

// The first file goes alone: where a named person is refused, nothing else is sent in vain.
async function firstAlone(queue, worker) {
  const rest = queue.splice(1);
  await worker();
  queue.push(...rest);
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

function filesOf(event) {
  return [...event.dataTransfer.items].filter((item) => item.kind === "file").map((item) => {
    const file = item.getAsFile();
    if (item.webkitGetAsEntry?.()?.isDirectory) file.isFolder = true;
    return file;
  });
}

function hasFiles(event) {
  return [...(event.dataTransfer?.types || [])].includes("Files");
}

// Anywhere on the list of one's own documents: a drop opens the upload with these files. Elsewhere a drop does nothing.
export function dropAnywhere() {
  const veil = document.querySelector("[data-drop-veil]");
  const opener = document.querySelector("a[data-dialog=wide]");
  const isFree = () => veil && opener && !document.querySelector("dialog[open]");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    if (isFree()) veil.hidden = false;
  });
  document.addEventListener("dragleave", (event) => { if (veil && !event.relatedTarget) veil.hidden = true; });
  document.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    const files = filesOf(event);
    if (!isFree()) return;
    veil.hidden = true;
    const dialog = await openDialog(opener.href, true);
    dialog?.querySelector("form[data-upload]")?.dispatchEvent(new CustomEvent("vault:files", { detail: files }));
  });
}

export function uploads(root) {
  root.querySelectorAll("form[data-upload]").forEach((form) => new Uploader(form));
}
