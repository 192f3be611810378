// A link ends in #CODE, which no server and no log sees; put the code into the form's field.
export function codes() {
  const form = document.querySelector("form[data-code]");
  const take = () => {
    const code = decodeURIComponent(location.hash.slice(1));
    if (!form || !code || code === "main") return;
    form.querySelector("[data-code-field]").value = code;
    history.replaceState(null, "", location.pathname);
    if (form.dataset.code === "send") form.requestSubmit();
  };
  addEventListener("hashchange", take);
  take();
}
