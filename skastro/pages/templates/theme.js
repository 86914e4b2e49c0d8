// light or dark as the system says, until the button says otherwise
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
  } catch { /* no storage: as the system says */ }
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
