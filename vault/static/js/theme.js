// Runs before the page is drawn: follow the system's light or dark, and tell the styles that scripts run.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const follow = () => { root.dataset.bsTheme = dark.matches ? "dark" : "light"; };
  dark.addEventListener("change", follow);
  follow();
  root.classList.add("with-script");
})();
