// Pages that ask (share, rename, delete ...) open as a dialog over the page that they were called from.
import { AS_SCRIPT, addressOf, goToLogin, icon, isLogin, make, parse, problemIn } from "./pages.js";

let enhanceContent = () => {};

let number = 0;

// Each dialog has a title with an id of its own: one may ask over another.
function fill(dialog, content) {
  const title = content.querySelector("#ask-title");
  title.id = `ask-title-${++number}`;
  dialog.setAttribute("aria-labelledby", title.id);
  dialog.replaceChildren(document.adoptNode(content));
}

function show(content, isWide) {
  const dialog = make("dialog", { class: isWide ? "wide" : "" });
  fill(dialog, content);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (dialog.dataset.changed) location.reload();
  });
  document.body.append(dialog);
  enhanceContent(dialog);
  dialog.showModal();
  return dialog;
}

// Show the part of a page that asks; a page without such a part is opened as a page.
async function showAnswer(response, isWide) {
  if (response.status === 401 || isLogin(response.url)) return goToLogin();
  const html = await response.text();
  const content = parse(html).getElementById("ask");
  return content ? show(content, isWide) : tell(problemIn(html));
}

export async function openDialog(address, isWide = false) {
  try {
    return await showAnswer(await fetch(address, { headers: AS_SCRIPT }), isWide);
  } catch {
    return tell("The server does not answer. Try again in a moment.");
  }
}

export async function openDialogByForm(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  try {
    return await showAnswer(await fetch(addressOf(form), { method: "POST", headers: AS_SCRIPT, body }), false);
  } catch {
    return tell("The server does not answer. Nothing was changed.");
  }
}

function tell(text) {
  const close = make("button", { type: "button", class: "btn btn-primary", "data-close": "" }, "Close");
  const title = make("h1", { class: "ask-title", id: "ask-title" }, "This did not work");
  return show(make("div", { class: "ask" }, title, make("p", {}, text), make("div", { class: "ask-acts" }, close)));
}

function tellInside(dialog, text) {
  dialog.querySelectorAll(".alert").forEach((old) => old.remove());
  const alert = make("div", { class: "alert alert-danger", role: "alert" }, icon("exclamation-octagon"), make("span", {}, text));
  dialog.querySelector("form").prepend(alert);
}

async function send(dialog, form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  const response = await fetch(addressOf(form), { method: "POST", headers: AS_SCRIPT, body });
  if (response.status === 401 || isLogin(response.url)) return goToLogin();
  if (response.headers.get("Content-Type")?.startsWith("application/json") && response.ok) {
    return location.assign((await response.json()).location);
  }
  const html = await response.text();
  const content = parse(html).getElementById("ask");
  if (!content) return tellInside(dialog, problemIn(html));
  fill(dialog, content);
  enhanceContent(dialog);
  dialog.querySelector("[aria-invalid=true], [autofocus]")?.focus();
}

// Until the answer is there the form takes nothing: what is typed meanwhile would be lost to the answer.
async function sendFrom(dialog, form, submitter) {
  form.inert = true;
  try {
    await send(dialog, form, submitter);
  } catch {
    tellInside(dialog, "The server does not answer. Nothing was changed.");
  }
  form.inert = false;
  if (form.isConnected) submitter?.focus();
}

function onClick(event) {
  const closer = event.target.closest("[data-close]");
  const around = closer?.closest("dialog");
  if (around) {
    event.preventDefault();
    if (around.dispatchEvent(new Event("cancel", { cancelable: true }))) around.close();
    return;
  }
  const link = event.target.closest("a[data-dialog]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  openDialog(link.href, link.dataset.dialog === "wide");
}

function onSubmit(event) {
  const dialog = event.target.closest("dialog");
  if (!dialog || event.defaultPrevented || event.target.hasAttribute("data-upload")) return;
  event.preventDefault();
  sendFrom(dialog, event.target, event.submitter);
}

// Ask whether to do something; what is harmless has the focus. `act` runs when the person says yes.
export function question(heading, text, yesWords, noWords, act) {
  const yes = make("button", { type: "button", class: "btn btn-primary" }, yesWords);
  const no = make("button", { type: "button", class: "btn btn-quiet", "data-close": "", autofocus: "" }, noWords);
  const title = make("h1", { class: "ask-title", id: "ask-title" }, heading);
  const dialog = show(make("div", { class: "ask" }, title, make("p", {}, text), make("div", { class: "ask-acts" }, yes, no)));
  yes.addEventListener("click", () => act(dialog));
}

// A form with a question of its own is sent once the person has said yes.
function ask(form) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.asked) return;
    event.preventDefault();
    question(form.dataset.askTitle, form.dataset.ask, form.dataset.askYes, "Cancel", () => {
      form.dataset.asked = "yes";
      form.requestSubmit();
    });
  });
}

export function askBeforeSending(root) {
  root.querySelectorAll("form[data-ask]").forEach(ask);
}

export function dialogs(enhance) {
  enhanceContent = enhance;
  document.addEventListener("click", onClick);
  document.addEventListener("submit", onSubmit);
}
