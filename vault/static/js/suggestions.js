// User names while typing, for a field that takes several of them (ARIA combobox with a listbox).
import { make } from "./pages.js";

const WAIT = 150;

class Suggestions {
  constructor(input, number) {
    this.input = input;
    this.chosen = -1;
    this.asked = 0;
    this.list = make("ul", { class: "suggestions", role: "listbox", id: `suggestions-${number}`, "aria-label": "User names", hidden: "" });
    for (const [name, value] of [["role", "combobox"], ["aria-autocomplete", "list"], ["aria-expanded", "false"], ["aria-controls", this.list.id]]) {
      input.setAttribute(name, value);
    }
    input.closest(".field-box").append(this.list);
    input.addEventListener("input", () => this.later());
    input.addEventListener("keydown", (event) => this.key(event));
    input.addEventListener("blur", () => this.close());
    this.list.addEventListener("mousedown", (event) => {
      event.preventDefault();
      const item = event.target.closest("li");
      if (item) this.take(item.textContent);
    });
  }

  // The name being typed: what stands between the last separator and the cursor.
  get word() {
    return this.input.value.slice(0, this.input.selectionStart).split(/[\s,;]+/).pop().toLowerCase();
  }

  later() {
    clearTimeout(this.timer);
    if (this.word.length < 2) return this.close();
    this.timer = setTimeout(() => this.ask(this.word), WAIT);
  }

  async ask(word) {
    const mine = ++this.asked;
    const response = await fetch(`${this.input.dataset.suggest}?q=${encodeURIComponent(word)}`).catch(() => null);
    if (!response?.ok || response.redirected || mine !== this.asked || word !== this.word) return;
    const already = new Set(this.input.value.toLowerCase().split(/[\s,;]+/).filter((name) => name !== word));
    this.show((await response.json()).usernames.filter((name) => !already.has(name)));
  }

  show(names) {
    this.chosen = -1;
    this.list.replaceChildren(...names.map((name, index) => make("li", { role: "option", id: `${this.list.id}-${index}`, "aria-selected": "false" }, name)));
    this.list.hidden = names.length === 0;
    this.input.setAttribute("aria-expanded", String(names.length > 0));
    this.input.removeAttribute("aria-activedescendant");
  }

  close() {
    clearTimeout(this.timer);
    this.asked++;
    this.show([]);
  }

  choose(index) {
    const items = [...this.list.children];
    this.chosen = (index + items.length) % items.length;
    items.forEach((item, place) => item.setAttribute("aria-selected", String(place === this.chosen)));
    items[this.chosen].scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", items[this.chosen].id);
  }

  take(name) {
    const cursor = this.input.selectionStart;
    const before = this.input.value.slice(0, cursor).replace(/[^\s,;]*$/, "");
    const after = this.input.value.slice(cursor).replace(/^[^\s,;]*[\s,;]*/, "");
    this.input.value = `${before}${name}, ${after}`;
    this.input.focus();
    this.close();
  }

  key(event) {
    if (this.list.hidden) return;
    if (event.key === "ArrowDown") this.choose(this.chosen + 1);
    else if (event.key === "ArrowUp") this.choose(this.chosen < 0 ? -1 : this.chosen - 1);
    else if ((event.key === "Enter" || event.key === "Tab") && this.chosen >= 0) this.take(this.list.children[this.chosen].textContent);
    else if (event.key === "Escape") this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

let number = 0;

export function suggestions(root) {
  root.querySelectorAll("input[data-suggest]").forEach((input) => new Suggestions(input, number++));
}
