// Copy and print buttons, for what is shown only once.

function say(button, text) {
  button.querySelector("[data-copy-words]").textContent = text;
  const said = document.querySelector("[data-copy-said]");
  if (said) said.textContent = text;
}

async function copy(button) {
  const field = document.querySelector(button.dataset.copy);
  field.focus();
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    say(button, "Copied");
  } catch {
    say(button, document.execCommand("copy") ? "Copied" : "Press Ctrl and C to copy");
  }
}

export function copying(root) {
  root.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", () => copy(button)));
  root.querySelectorAll("[data-print]").forEach((button) => button.addEventListener("click", () => print()));
  root.querySelectorAll("[data-select-all]").forEach((field) => field.addEventListener("focus", () => field.select()));
}
