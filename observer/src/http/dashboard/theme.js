// Light or dark: as the system has it, or as was chosen.

import { find, mark, say } from "./dom.js";

const CHOICE = "theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function remembered() {
  try {
    return localStorage.getItem(CHOICE);
  } catch {
    // Storage may be refused: then the system's counts.
    return null;
  }
}

export function startTheme(onChange) {
  const root = document.documentElement;
  let choice = remembered();
  const apply = () => {
    root.dataset.theme = choice ?? (dark.matches ? "dark" : "light");
    const other = root.dataset.theme === "dark" ? "light" : "dark";
    say(find("theme"), other === "dark" ? "Dark" : "Light");
    mark(find("theme"), "aria-label", `Use the ${other} theme`);
    onChange();
  };
  dark.addEventListener("change", apply);
  find("theme").addEventListener("click", () => {
    choice = root.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(CHOICE, choice);
    } catch {
      // It lasts until the page is left.
    }
    apply();
  });
  apply();
}
