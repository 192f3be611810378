// The time until the vault locks itself: shown, announced two minutes before, and kept the same in all tabs.
import { goToLogin, icon, make } from "./pages.js";

const WARN_BELOW = 120;
const RENEW_EVERY = 4 * 60 * 1000;
const KNOCK_EVERY = 4000;
const channel = "BroadcastChannel" in window ? new BroadcastChannel("vault-session") : null;

let deadline = 0;
let whole = 1;
let notice = null;
let login = null;
let wake = () => {};
const holders = new Set();

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

// Ask how long the session lasts; null where it is over (a redirect to the login page), undefined where nobody knows.
async function ask(isQuiet) {
  const address = document.body.dataset.session + (isQuiet ? "?quiet" : "");
  const response = await fetch(address, { headers: { Accept: "application/json" }, redirect: "manual" }).catch(() => null);
  if (response?.ok) return response.json();
  return response?.type === "opaqueredirect" || response?.status === 401 ? null : undefined;
}

// Take what the server said: the time, and the token of the forms, which is another one after a new login.
function take(told, tellOthers) {
  if (told.user !== document.body.dataset.user) return leaveToOther();
  document.querySelectorAll("input[name=csrf_token]").forEach((field) => { field.value = told.csrf_token; });
  return setLeft(told.seconds_left, tellOthers);
}

// Somebody else has logged in in this browser: nothing of this page is his.
function leaveToOther() {
  document.dispatchEvent(new CustomEvent("vault:other"));
  location.reload();
}

async function renew(isQuiet) {
  if (login) return;
  const told = await ask(isQuiet);
  if (told) take(told, !isQuiet);
  else if (told === null) leave();
}

// Ask for more time. Only a person's click and a running transfer do this.
export const stayLoggedIn = () => renew(false);

// The token lives shorter than the session: fetch a fresh one, which is no sign of life and gives no more time.
const renewQuietly = () => renew(true);

// Leave for the login page, unless that would lose what somebody has under way: that waits for a new login.
function leave() {
  if (isHeld()) loggedInAgain();
  else if (!login) goToLogin();
}

const isHeld = () => [...holders].some((holds) => holds());

// `holds` tells whether the page has something under way that the login page would lose.
export function holdPage(holds) {
  holders.add(holds);
}

// Resolves once this person is logged in again, in another tab. Until then nothing of the vault is shown here.
export function loggedInAgain() {
  login ||= untilLogin().finally(() => { login = null; });
  return login;
}

async function untilLogin() {
  let isOpen = await knock();
  if (isOpen) return;
  document.body.classList.add("is-locked");
  document.dispatchEvent(new CustomEvent("vault:locked"));
  while (!isOpen) {
    await new Promise((resolve) => { wake = resolve; setTimeout(resolve, KNOCK_EVERY); });
    if (!isHeld()) return goToLogin();
    isOpen = await knock();
  }
  document.body.classList.remove("is-locked");
  document.dispatchEvent(new CustomEvent("vault:unlocked"));
}

async function knock() {
  const told = await ask(true);
  if (told) take(told, false);
  return Boolean(told);
}

function warn() {
  const button = make("button", { type: "button", class: "btn btn-sm btn-quiet" }, "Stay logged in");
  button.addEventListener("click", stayLoggedIn);
  const text = make("span", {}, "The vault locks itself in two minutes.");
  notice = make("div", { class: "notice notice-warning notice-over", role: "alert" }, icon("hourglass-split"), text, button);
  (document.querySelector("dialog[open]") || document.body).append(notice); // what is outside of a dialog cannot be clicked
}

function tick() {
  if (login) return;
  const seconds = Math.max(0, Math.round((deadline - Date.now()) / 1000));
  const isShort = seconds <= WARN_BELOW;
  const shown = document.querySelector("[data-time-left]");
  if (shown.textContent !== words(seconds)) shown.textContent = words(seconds);
  shown.parentElement.classList.toggle("is-short", isShort);
  const fuse = document.querySelector("[data-fuse]");
  fuse.style.transform = `scaleX(${seconds / whole})`;
  fuse.classList.toggle("is-short", isShort);
  requestAnimationFrame(() => fuse.classList.add("is-burning"));
  if (seconds === 0) leave();
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
    if (data.locked) leave();
    else if (login) wake();
    else if (data.deadline > deadline) setLeft((data.deadline - Date.now()) / 1000, false);
  });
}
