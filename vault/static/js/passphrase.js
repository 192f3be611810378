// Typing the passphrase back: a slip is told here, before the page that shows it is gone for good.

function plain(text) {
  return text.normalize("NFC").trim().toLowerCase().split(/\s+/).join(" ");
}

function firstDifference(typed, right) {
  const words = typed.split(" ");
  const wanted = right.split(" ");
  const place = wanted.findIndex((word, index) => words[index] !== word);
  return place < 0 ? wanted.length : place;
}

export function typeBack() {
  const form = document.querySelector("form[data-type-back]");
  const card = document.querySelector("[data-passphrase]");
  if (!form || !card) return;
  const right = card.dataset.passphrase;
  const error = form.querySelector("[data-type-back-error]");
  const field = form.elements.passphrase;
  form.addEventListener("submit", (event) => {
    const typed = plain(field.value);
    error.hidden = typed === right;
    if (typed === right) {
      field.value = right;
      return;
    }
    event.preventDefault();
    error.textContent = typed ? `Not yet: compare from word ${firstDifference(typed, right) + 1} on with what you have stored.` : "Type your passphrase.";
    field.setAttribute("aria-invalid", "true");
    field.focus();
  });
}
