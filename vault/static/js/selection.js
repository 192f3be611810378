// Ticks in a list: a box for all of them, and a bar with what can be done with the ticked ones.
import { openDialogByForm } from "./dialogs.js";
import { make } from "./pages.js";

function watch(form) {
  const boxes = [...form.querySelectorAll("input[name=documents]")];
  const bar = form.querySelector("[data-selection-bar]");
  const count = form.querySelector("[data-selection-count]");
  const all = make("input", { type: "checkbox", class: "form-check-input", "aria-label": "Tick all on this page", autocomplete: "off" });

  const show = () => {
    const ticked = boxes.filter((box) => box.checked).length;
    bar.classList.toggle("is-on", ticked > 0);
    count.textContent = ticked ? `${ticked} ticked` : "";
    all.checked = ticked === boxes.length;
    all.indeterminate = ticked > 0 && ticked < boxes.length;
  };
  all.addEventListener("change", () => {
    boxes.forEach((box) => { box.checked = all.checked; });
    show();
  });
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => {
    // A download starts by itself, and the page stays.
    if (event.submitter?.value === "download") return;
    event.preventDefault();
    openDialogByForm(form, event.submitter);
  });
  form.querySelector("th.cell-tick").replaceChildren(all);
  show();
}

export function selection() {
  document.querySelectorAll("form[data-selection]").forEach(watch);
}
