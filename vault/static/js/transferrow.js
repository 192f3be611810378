// One file in the list of uploads: its name, how far it has come, and what can be done with it.
import { pace, size } from "./amounts.js";
import { fieldError, icon, make, shownName } from "./pages.js";

const NOT_YET = ["waiting", "unshared", "queued"];
const WITH_BAR = ["sending", "retrying", "locked", "paused"];
const HALT = { icon: "pause-fill", act: "pause", words: "Pause" };
const GO_ON = { icon: "play-fill", act: "resume", words: "Go on with" };
const AGAIN = { icon: "arrow-counterclockwise", act: "resume", words: "Try again with" };
const TOGGLES = { sending: HALT, retrying: HALT, locked: HALT, queued: HALT, paused: GO_ON, failed: AGAIN };

export class TransferRow {
  constructor(transfer, act) {
    this.transfer = transfer;
    this.name = transfer.file.name;
    this.act = act;
    this.words = make("span", { class: "transfer-state" });
    this.toggle = this.button(() => TOGGLES[transfer.state]?.act);
    this.remove = this.button(() => "remove");
    this.remove.append(icon("x-lg"));
    this.bar = make("progress", { max: "1", value: "0", "aria-label": `Sending ${this.name}` });
    this.title = make("span", { class: "transfer-name" });
    if (transfer.path) this.title.append(make("span", { class: "transfer-path" }, shownName(`${transfer.path}/`)));
    this.title.append(shownName(this.name));
    const acts = make("span", { class: "transfer-acts" }, this.toggle, this.remove);
    this.element = make("li", { class: "transfer" }, this.title, this.words, acts);
    this.show();
  }

  button(chosen) {
    const button = make("button", { type: "button", class: "btn btn-sm btn-quiet" });
    button.addEventListener("click", () => this.act(chosen(), this.transfer));
    return button;
  }

  show() {
    const { state } = this.transfer;
    this.words.textContent = this.say(state);
    if (WITH_BAR.includes(state)) this.showBar();
    if (state === this.shown) return;
    this.shown = state;
    this.element.dataset.state = state;
    if (!WITH_BAR.includes(state)) this.bar.remove();
    this.showToggle(TOGGLES[state]);
    this.remove.setAttribute("aria-label", `${state === "sending" ? "Cancel" : "Remove"} ${this.name}`);
    this.element.querySelectorAll(".field-error").forEach((old) => old.remove());
    if (state === "failed" || state === "refused") this.element.append(fieldError(this.transfer.text));
    if (state === "done") this.showStored();
  }

  showBar() {
    this.bar.value = this.transfer.file.size ? this.transfer.sent / this.transfer.file.size : 1;
    if (!this.bar.isConnected) this.element.append(this.bar);
  }

  showToggle(toggle) {
    this.toggle.hidden = !toggle;
    if (!toggle) return;
    this.toggle.replaceChildren(icon(toggle.icon));
    this.toggle.setAttribute("aria-label", `${toggle.words} ${this.name}`);
  }

  showStored() {
    this.toggle.remove();
    this.remove.remove();
    const address = this.transfer.way.addressOf(this.transfer.documentId);
    if (!address) return;
    const link = make("a", { href: address });
    this.title.replaceWith(link);
    link.append(this.title);
  }

  get share() {
    const { sent, file } = this.transfer;
    return `${Math.floor((100 * sent) / Math.max(1, file.size))} %`;
  }

  say(state) {
    const whole = size(this.transfer.file.size);
    if (NOT_YET.includes(state)) return this.sayNotYet(state, whole);
    if (state === "sending") return this.sayPace(whole);
    if (state === "retrying") return `connection lost at ${this.share}, going on ${this.sayWhen()}`;
    if (state === "locked") return `${this.share} of ${whole}, waits for your login`;
    if (state === "paused") return `paused at ${this.share} of ${whole}`;
    return state === "done" ? "stored and locked" : whole;
  }

  sayNotYet(state, whole) {
    const held = this.transfer.sent ? `, ${this.share} of it is there already` : "";
    return state === "queued" ? `${whole}${held}, waits its turn` : `${whole}${held}`;
  }

  sayPace(whole) {
    const { sent, file, rate } = this.transfer;
    if (sent >= file.size) return "locking …";
    return [`${this.share} of ${whole}`, pace(rate.perSecond, file.size - sent)].filter(Boolean).join(", ");
  }

  sayWhen() {
    const seconds = Math.ceil((this.transfer.again - Date.now()) / 1000);
    return seconds > 1 ? `in ${seconds} s` : "now";
  }
}
