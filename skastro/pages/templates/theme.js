// light or dark like the system, until the user presses the button
(() => {
  "use strict";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const remember = (theme) => {
    try { localStorage.setItem("skastro-theme", theme); } catch { /* a file opened without storage */ }
  };
  const tell = () => {
    const button = document.querySelector(".theme");
    if (button) button.textContent = isDark() ? "Light" : "Dark";
    document.dispatchEvent(new CustomEvent("theme", { detail: { dark: isDark() } }));
  };
  try {
    const kept = localStorage.getItem("skastro-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* without storage: like the system */ }
  system.addEventListener("change", tell);
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector(".theme")?.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      remember(root.dataset.theme);
      tell();
    });
    tell();
  });
})();
