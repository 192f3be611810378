// Ask the server as a script, and read its pages.

export const AS_SCRIPT = { "X-Vault-Script": "1" };

// Fields of our forms are called "action": read the attribute, `form.action` would be the field.
export function addressOf(form) {
  return form.getAttribute("action");
}

export function parse(html) {
  return new DOMParser().parseFromString(html, "text/html");
}

// What an error page says, for showing it where the person is.
export function problemIn(html, otherwise = "This did not work. Reload the page and try again.") {
  const page = parse(html);
  const text = page.querySelector("[data-problem-text]") || page.querySelector("[data-error-for]");
  return text ? text.textContent.trim() : otherwise;
}

export function loginAddress() {
  return document.body.dataset.login || "/login";
}

export function isLogin(address) {
  return new URL(address, location.href).pathname === new URL(loginAddress(), location.href).pathname;
}

// Leave for the login page; the query may hold a word somebody searched for, so it is not taken along.
export function goToLogin() {
  location.replace(`${loginAddress()}?next=${encodeURIComponent(location.pathname)}`);
}

// Build an element: make("p", { class: "x" }, "text", child).
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function icon(name) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(ns, "use");
  use.setAttribute("href", `${new URL("../img/icons.svg", import.meta.url).pathname}#${name}`);
  svg.append(use);
  return svg;
}

// Show a file's name so that nothing in it hides: code points in place of characters that turn or break the text.
export function shownName(name) {
  const shown = make("bdi", { class: "name" });
  for (const piece of name.split(/((?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}])/u)) {
    if (!piece) continue;
    const isHidden = /^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]$/u.test(piece);
    const point = `U+${piece.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    shown.append(isHidden ? make("span", { class: "code-point" }, point) : piece);
  }
  return shown;
}

export function fieldError(text) {
  return make("p", { class: "field-error", role: "alert" }, icon("exclamation-octagon"), make("span", {}, text));
}
