// Let a person see the passphrase that he types.
import { icon, make } from "./pages.js";

function addButton(box) {
  const input = box.querySelector("input");
  const button = make("button", { type: "button", class: "btn btn-quiet", "aria-pressed": "false", "aria-label": "Show the passphrase", title: "Show the passphrase" }, icon("eye"));
  button.addEventListener("click", () => {
    const isShown = input.type === "password";
    input.type = isShown ? "text" : "password";
    button.setAttribute("aria-pressed", String(isShown));
    button.replaceChildren(icon(isShown ? "eye-slash" : "eye"));
  });
  // Sent as a password again, so that browsers offer to store it and never list it among other texts.
  input.form.addEventListener("submit", () => { input.type = "password"; });
  box.append(button);
}

export function reveal(root) {
  root.querySelectorAll("[data-reveal]").forEach(addButton);
}
