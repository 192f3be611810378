// The form that sends files: chosen or dropped, each with its row, two at a time, all of them paused and gone on with at once.
// Without scripts the same form sends the same fields by itself.
import { pace, size } from "./amounts.js";
import { openDialog, question } from "./dialogs.js";
import { chosen, dropped, hasFiles } from "./drops.js";
import { fieldError, icon, loginAddress, make } from "./pages.js";
import { Memory } from "./resume.js";
import { holdPage, stayLoggedIn } from "./timeleft.js";
import { Transfer, tusClient } from "./transfer.js";
import { TransferRow } from "./transferrow.js";

const AT_ONCE = 2;
const ALIVE_EVERY = 60000;
const SHOWN_EVERY = 250;
const OPEN = ["waiting", "unshared", "failed"];
const NOT_ASKED = ["waiting", "unshared", "refused"];
const UNDER_WAY = ["queued", "sending", "retrying", "locked", "paused"];

class Uploader {
  constructor(form) {
    this.form = form;
    this.input = form.elements.file;
    this.limit = Number(form.dataset.maxBytes) || Infinity;
    this.transfers = [];
    this.rows = new Map();
    this.list = form.querySelector("[data-transfers]");
    this.button = form.querySelector("[data-send]");
    this.said = form.querySelector("[data-transfers-said]");
    this.way = wayOf(form);
    this.input.removeAttribute("required");
    this.takeFiles();
    this.showAll();
    this.guardPage();
    this.dialog = form.closest("dialog");
    if (this.dialog) this.guardDialog();
    tusClient().catch(() => {}); // fetched before it is needed; begin() says so where it is missing
  }

  // Files: by two choosers, by a drop on the form, by a drop on the page.

  takeFiles() {
    const { form, input } = this;
    const take = (from) => { this.add(chosen(from)); from.value = ""; };
    input.addEventListener("change", () => take(input));
    const folder = form.querySelector("[data-folder]");
    folder?.addEventListener("change", () => take(folder));
    form.querySelector("[data-choose-folder]")?.addEventListener("click", () => folder.click());
    form.addEventListener("vault:files", (event) => this.add(event.detail));
    form.addEventListener("submit", (event) => { event.preventDefault(); this.start(); });
    this.takeDrops(form.querySelector("[data-drop]"));
  }

  takeDrops(area) {
    const over = (event) => {
      event.preventDefault();
      area.classList.add("is-over");
    };
    area.addEventListener("dragenter", over);
    area.addEventListener("dragover", over);
    area.addEventListener("dragleave", () => area.classList.remove("is-over"));
    area.addEventListener("drop", async (event) => {
      event.preventDefault();
      event.stopPropagation();
      area.classList.remove("is-over");
      this.add(await dropped(event, this.input.multiple));
    });
  }

  add(files) {
    this.tellBesideDrop(files.length ? "" : "There is no file in this folder.");
    if (!this.input.multiple) {
      this.transfers.filter((transfer) => !UNDER_WAY.includes(transfer.state)).forEach((transfer) => this.forget(transfer));
      files = this.transfers.length ? [] : files.slice(-1);
    }
    files.forEach((found) => this.addOne(found));
    this.show();
  }

  addOne(found) {
    const transfer = new Transfer(found, this.way, (changed) => this.changed(changed));
    const row = new TransferRow(transfer, (act, on) => this.act(act, on));
    this.transfers.push(transfer);
    this.rows.set(transfer, row);
    this.list.append(row.element);
    if (found.refusal) transfer.become("refused", found.refusal);
    else if (found.file.size > this.limit) transfer.become("refused", `Too large: at most ${size(this.limit)}.`);
    else this.recall(transfer);
  }

  // Of a file that was under way before, whom it was for is known: the field says so, unless something stands there.
  async recall(transfer) {
    const recipients = await transfer.recall().catch(() => null);
    const field = this.form.elements.recipients;
    if (recipients && field && !field.value && transfer.state === "waiting") field.value = recipients.replaceAll(",", ", ");
  }

  forget(transfer) {
    this.transfers.splice(this.transfers.indexOf(transfer), 1);
    this.rows.get(transfer).element.remove();
    this.rows.delete(transfer);
  }

  // What a person does with one of them, or with all.

  act(name, transfer) {
    if (name === "pause") transfer.pause();
    else if (name === "resume") this.queue([transfer], transfer.recipients || this.recipients);
    else this.remove(transfer);
    this.pump();
  }

  remove(transfer) {
    const element = this.rows.get(transfer).element;
    const next = element.nextElementSibling || element.previousElementSibling;
    transfer.cancel();
    this.forget(transfer);
    (next?.querySelector("button:last-of-type, a") || this.input).focus();
    this.show();
  }

  pauseAll() {
    const going = this.transfers.filter((transfer) => transfer.isGoing || transfer.state === "queued");
    if (going.length) return going.forEach((transfer) => transfer.pause());
    this.transfers.filter((transfer) => transfer.state === "paused").forEach((transfer) => transfer.queue(transfer.recipients));
    return this.pump();
  }

  get recipients() {
    return this.form.elements.recipients?.value || "";
  }

  start() {
    const open = this.transfers.filter((transfer) => OPEN.includes(transfer.state));
    if (!open.length && !this.isBusy) return this.refuseEmpty();
    this.clearRecipients();
    this.queue(open, this.recipients);
    return this.pump();
  }

  queue(transfers, recipients) {
    for (const transfer of transfers) transfer.queue(recipients);
  }

  // Each is begun once the one before was taken: where a named person is refused, nothing else is sent in vain.
  pump() {
    const going = this.transfers.filter((transfer) => transfer.isGoing);
    if (going.length >= AT_ONCE || going.some((transfer) => !transfer.isBegun)) return;
    this.transfers.find((transfer) => transfer.state === "queued")?.begin();
  }

  changed(transfer) {
    if (transfer.state === "unshared") this.refuseRecipients(transfer.text);
    this.pump();
    this.rows.get(transfer)?.show();
    this.show();
  }

  // What is wrong, beside its field.

  tellBesideDrop(text) {
    const area = this.form.querySelector("[data-drop]");
    this.form.querySelectorAll("[data-error-for=file], .drop + .field-error").forEach((old) => old.remove());
    if (text) area.after(fieldError(text));
  }

  refuseEmpty() {
    this.tellBesideDrop("Choose a file first.");
    this.input.focus();
  }

  refuseRecipients(text) {
    this.transfers.filter((transfer) => transfer.state === "queued").forEach((transfer) => transfer.become("waiting"));
    this.clearRecipients();
    const field = this.form.elements.recipients;
    field.closest(".field").append(fieldError(text));
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

  // Leaving: with a warning, and so that what has arrived can be gone on with.

  get isBusy() {
    return this.transfers.some((transfer) => UNDER_WAY.includes(transfer.state));
  }

  guardPage() {
    holdPage(() => this.isBusy);
    addEventListener("beforeunload", (event) => { if (this.isBusy) event.preventDefault(); });
    addEventListener("online", () => this.transfers.forEach((transfer) => transfer.hurry()));
    document.addEventListener("vault:locked", () => this.showLock(true));
    document.addEventListener("vault:unlocked", () => this.showLock(false));
    document.addEventListener("vault:other", () => this.letGo());
  }

  guardDialog() {
    const hold = (event) => {
      if (!this.isBusy) return;
      event.preventDefault();
      this.askToLeave();
    };
    this.dialog.addEventListener("cancel", (event) => { if (event.target === this.dialog) hold(event); }); // choosers cancel too
    // Browsers let a dialog refuse only one Escape in a row: the key itself is refused before.
    addEventListener("keydown", (event) => { if (event.key === "Escape" && this.isOnTop) hold(event); });
    this.dialog.addEventListener("close", () => this.letGo());
  }

  get isOnTop() {
    return [...document.querySelectorAll("dialog[open]")].at(-1) === this.dialog;
  }

  askToLeave() {
    if (!this.isOnTop) return;
    const kept = "What has been sent is kept until the end of tomorrow: choose the same files again, and only the rest is sent.";
    const text = this.way.memory.isAble ? kept : "What has been sent of unfinished files is given up.";
    question("Stop the uploads?", text, "Stop them", "Keep uploading", (asked) => {
      this.letGo();
      asked.close();
      this.dialog.close();
    });
  }

  letGo() {
    this.transfers.forEach((transfer) => { if (UNDER_WAY.includes(transfer.state)) transfer.pause(); });
    this.transfers = [];
  }

  showLock(isLocked) {
    const place = this.form.querySelector("[data-lock-place]");
    place.replaceChildren();
    if (!isLocked || !this.isBusy) return;
    const text = "The vault is locked. Log in again in another tab: the uploads go on by themselves.";
    const link = make("a", { class: "btn btn-sm btn-quiet", href: loginAddress(), target: "_blank", rel: "noopener" }, "Log in");
    place.append(make("div", { class: "notice notice-warning", role: "alert" }, icon("lock"), make("span", {}, text), link));
  }

  // All of them together.

  showAll() {
    this.all = this.form.querySelector("[data-transfers-all]");
    this.allBar = this.form.querySelector("[data-all-bar]");
    this.allWords = this.form.querySelector("[data-all-words]");
    this.pauseButton = this.form.querySelector("[data-pause-all]");
    this.pauseButton.addEventListener("click", () => this.pauseAll());
  }

  show() {
    if (this.due) return;
    this.due = setTimeout(() => { this.due = 0; this.showNow(); }, 0);
  }

  showNow() {
    const done = this.transfers.filter((transfer) => transfer.state === "done").length;
    const isOpen = this.transfers.some((transfer) => OPEN.includes(transfer.state));
    this.button.setAttribute("aria-disabled", String(this.isBusy && !isOpen)); // and not disabled: it keeps the focus
    this.button.hidden = !this.isBusy && done > 0 && !isOpen;
    const asked = this.transfers.filter((transfer) => !NOT_ASKED.includes(transfer.state)).length;
    const words = this.isBusy || done ? `${done} of ${asked} stored` : "";
    if (this.said.textContent !== words) this.said.textContent = words;
    this.tick(this.isBusy);
    this.showSum(words);
    if (this.wasBusy && !this.isBusy) this.finish();
    this.wasBusy = this.isBusy;
  }

  showSum(words) {
    const counted = this.transfers.filter((transfer) => [...UNDER_WAY, "done"].includes(transfer.state));
    this.all.hidden = !this.isBusy || counted.length < 2;
    if (this.all.hidden) return;
    const sum = (of) => counted.reduce((total, transfer) => total + of(transfer), 0);
    const whole = sum((transfer) => transfer.file.size);
    const sent = sum((transfer) => transfer.sent);
    const perSecond = sum((transfer) => (transfer.state === "sending" ? transfer.rate.perSecond : 0));
    this.allBar.value = whole ? sent / whole : 1;
    this.allWords.textContent = [`${words}, ${size(sent)} of ${size(whole)}`, pace(perSecond, whole - sent)].filter(Boolean).join(", ");
    this.showPauseButton();
  }

  showPauseButton() {
    const isPaused = counted(this.transfers, "paused") > 0 && !this.transfers.some((transfer) => transfer.isGoing || transfer.state === "queued");
    const [name, words] = isPaused ? ["play-fill", "Go on with all"] : ["pause-fill", "Pause all"];
    if (this.pauseButton.textContent.trim() === words) return;
    this.pauseButton.replaceChildren(icon(name), make("span", {}, words));
  }

  // Rates and times run on between two events; and a transfer keeps its session alive.
  tick(isOn) {
    if (isOn === Boolean(this.clock)) return;
    clearInterval(this.clock);
    clearInterval(this.alive);
    this.clock = isOn && setInterval(() => this.showGoing(), SHOWN_EVERY);
    this.alive = isOn && setInterval(() => this.stayAlive(), ALIVE_EVERY);
  }

  showGoing() {
    this.transfers.filter((transfer) => transfer.isGoing).forEach((transfer) => this.rows.get(transfer).show());
    this.show();
  }

  stayAlive() {
    if (counted(this.transfers, "sending")) stayLoggedIn();
  }

  finish() {
    if (!counted(this.transfers, "done")) return;
    if (this.dialog) this.dialog.dataset.changed = "yes";
    const close = this.form.querySelector("[data-close]");
    close.textContent = "Done";
    if (this.transfers.some((transfer) => OPEN.includes(transfer.state))) return;
    close.classList.replace("btn-quiet", "btn-primary");
    close.focus();
  }
}

function counted(transfers, state) {
  return transfers.filter((transfer) => transfer.state === state).length;
}

// What all files of a form share on their way.
function wayOf(form) {
  const { endpoint, documentAddress, namesKey } = form.dataset;
  const document = form.dataset.document || "";
  return {
    endpoint,
    document,
    memory: new Memory(namesKey, document),
    get parallelFrom() { return Number(form.dataset.parallelFrom); },
    csrfToken: () => form.elements.csrf_token.value,
    addressOf: (id) => (id ? documentAddress.replace("0".repeat(32), id) : ""),
  };
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
    if (!isFree()) return;
    const files = dropped(event);
    veil.hidden = true;
    const dialog = await openDialog(opener.href, true);
    const detail = await files;
    dialog?.querySelector("form[data-upload]")?.dispatchEvent(new CustomEvent("vault:files", { detail }));
  });
}

export function uploads(root) {
  root.querySelectorAll("form[data-upload]").forEach((form) => new Uploader(form));
}
