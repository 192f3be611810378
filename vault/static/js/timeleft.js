// The time until the vault locks itself: shown, announced two minutes before, and kept the same in all tabs.
import { goToLogin, icon, make } from "./pages.js";

const WARN_BELOW = 120;
const RENEW_EVERY = 4 * 60 * 1000;
const channel = "BroadcastChannel" in window ? new BroadcastChannel("vault-session") : null;

let deadline = 0;
let whole = 1;
let notice = null;

function words(seconds) {
  if (seconds <= 90) return `${seconds} s left`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 120 ? `${minutes} min left` : `${Math.floor(minutes / 60)} h ${minutes % 60} min left`;
}

function setLeft(seconds, tellOthers) {
  deadline = Date.now() + seconds * 1000;
  whole = Math.max(seconds, 1);
  if (notice) notice.remove();
  notice = null;
  if (tellOthers && channel) channel.postMessage({ deadline });
}

// Ask for more time. Only a person's click and a running transfer do this.
export async function stayLoggedIn() {
  const response = await fetch(document.body.dataset.session, { headers: { Accept: "application/json" } });
  if (!response.ok || response.redirected) return goToLogin();
  setLeft((await response.json()).seconds_left, true);
}

// The token lives shorter than the session: fetch a fresh one, which is no sign of life and gives no more time.
async function renewQuietly() {
  const response = await fetch(`${document.body.dataset.session}?quiet`, { headers: { Accept: "application/json" } });
  if (!response.ok || response.redirected) return goToLogin();
  setLeft((await response.json()).seconds_left, false);
}

function warn() {
  const button = make("button", { type: "button", class: "btn btn-sm btn-quiet" }, "Stay logged in");
  button.addEventListener("click", stayLoggedIn);
  const text = make("span", {}, "The vault locks itself in two minutes.");
  notice = make("div", { class: "notice notice-warning notice-over", role: "alert" }, icon("hourglass-split"), text, button);
  (document.querySelector("dialog[open]") || document.body).append(notice); // what is outside of a dialog cannot be clicked
}

function tick() {
  const seconds = Math.max(0, Math.round((deadline - Date.now()) / 1000));
  const isShort = seconds <= WARN_BELOW;
  const shown = document.querySelector("[data-time-left]");
  if (shown.textContent !== words(seconds)) shown.textContent = words(seconds);
  shown.parentElement.classList.toggle("is-short", isShort);
  const fuse = document.querySelector("[data-fuse]");
  fuse.style.transform = `scaleX(${seconds / whole})`;
  fuse.classList.toggle("is-short", isShort);
  requestAnimationFrame(() => fuse.classList.add("is-burning"));
  if (seconds === 0) goToLogin();
  else if (isShort && !notice) warn();
}

export function timeLeft() {
  const seconds = Number(document.body.dataset.secondsLeft);
  // The login page is shown only where this browser has no session: the other tabs shall not show documents either.
  if (document.querySelector("form[data-login-form]")) channel?.postMessage({ locked: true });
  if (!seconds) return;
  setLeft(seconds, true);
  tick();
  setInterval(tick, 1000);
  setInterval(renewQuietly, RENEW_EVERY);
  document.addEventListener("visibilitychange", tick);
  channel?.addEventListener("message", ({ data }) => {
    if (data.locked) goToLogin();
    else if (data.deadline > deadline) setLeft((data.deadline - Date.now()) / 1000, false);
  });
}
