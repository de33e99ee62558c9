// Light or dark: as the system says, until the user chooses.

import { byId } from "./dom.js";

const KEY = "fantasytalking-theme";

function apply(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function startTheme() {
  const select = byId("theme");
  select.value = localStorage.getItem(KEY) ?? "system";
  apply(select.value);
  select.addEventListener("change", () => {
    localStorage.setItem(KEY, select.value);
    apply(select.value);
  });
}
