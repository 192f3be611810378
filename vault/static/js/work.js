// Work that takes long: ask the server to go on until it is done, and show how far it is.
import { AS_SCRIPT, addressOf, goToLogin, isLogin, problemIn } from "./pages.js";

const pause = (seconds) => new Promise((over) => setTimeout(over, seconds * 1000));

function show(panel, state) {
  const bar = panel.querySelector("progress");
  bar.max = state.total || 1;
  bar.value = state.done;
  panel.querySelector("[data-work-total]").textContent = state.total.toLocaleString();
  panel.querySelector("[data-work-done]").textContent = state.done.toLocaleString();
}

function say(panel, text) {
  panel.querySelector("[data-work-said]").textContent = text;
}

// Ask once. Returns the seconds to wait before asking again, or null when there is nothing more to ask.
async function ask(panel, form) {
  const response = await fetch(addressOf(form), { method: "POST", headers: AS_SCRIPT, body: new URLSearchParams(new FormData(form)) });
  if (response.status === 401 || isLogin(response.url)) return goToLogin(), null;
  if (response.status === 503) return Number(response.headers.get("Retry-After")) || 5;
  if (!response.ok) {
    say(panel, problemIn(await response.text()));
    form.hidden = false;
    return null;
  }
  const state = await response.json();
  if (state.location) return location.assign(state.location), null;
  if (state.failed) return location.reload(), null;
  show(panel, state);
  say(panel, "");
  return 0;
}

async function run(form) {
  const panel = form.closest("[data-work-panel]");
  form.hidden = true;
  let wait = 0;
  while (wait !== null) {
    if (wait) await pause(wait);
    try {
      wait = await ask(panel, form);
    } catch {
      say(panel, "The server does not answer. It is asked again in a moment.");
      wait = 5;
    }
  }
}

export function work(root) {
  root.querySelectorAll("form[data-work]").forEach(run);
}
