// The fields for one's own passphrase are there only when it is chosen.
export function choices(root) {
  root.querySelectorAll("form[data-choice]").forEach((form) => {
    const own = form.querySelector("[data-choice-own]");
    const show = () => { own.hidden = form.elements.choice.value !== "own"; };
    form.addEventListener("change", show);
    show();
  });
}
