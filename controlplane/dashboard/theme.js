// The theme: that of the system, or the one chosen on this page before. A classic script, so that the first paint has it.
"use strict";

const THEME_KEY = "scorefront-theme";

function storedTheme() {
  try {
    return localStorage.getItem(THEME_KEY) ?? "system";
  } catch {
    return "system"; // storage is switched off
  }
}

function useTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

useTheme(storedTheme());
