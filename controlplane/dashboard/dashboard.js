// The page people leave open: its address chooses the overview or an endpoint, which refresh themselves while it is seen.

import { byId } from "./elements.js";
import { Overview } from "./overview.js";
import { Workspace } from "./workspace.js";

const THEMES = { system: "◐ system", light: "☀ light", dark: "☾ dark" };
const overview = new Overview();
const workspace = new Workspace();
let page = overview;
let wake = () => {};
let hasChosen = false;

async function choosePage() {
  const [, kind, name] = decodeURIComponent(location.hash).split("/");
  const wanted = kind === "endpoints" && name ? name : "";
  if (page !== overview) page.close();
  if (wanted) {
    const { EndpointPage } = await import("./endpoint.js"); // with the charts: not needed for the first paint
    page = new EndpointPage(wanted);
  } else {
    page = overview;
  }
  byId("content").replaceChildren(page.element);
  byId("empty").hidden = true;
  workspace.element.hidden = page !== overview;
  window.scrollTo(0, 0);
  if (page.heading && hasChosen) page.heading.focus({ preventScroll: true }); // not when the page is opened
  hasChosen = true;
  wake();
}

function showLink(isUp) {
  byId("link").className = isUp ? "pill ok" : "pill bad";
  byId("link").textContent = isUp ? "● live" : "✖ no answer, retrying";
}

async function refreshForEver() {
  for (;;) {
    const shown = page;
    if (!document.hidden) {
      try {
        await shown.refresh();
        if (shown === page) document.title = shown.title;
        showLink(true);
      } catch (error) {
        showLink(false);
        console.warn(error);
      }
    }
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, page.everyMs);
      wake = () => { clearTimeout(timer); resolve(); };
    });
  }
}

function beginTheme() {
  const button = byId("theme");
  const show = () => {
    const theme = document.documentElement.dataset.theme ?? "system";
    button.textContent = THEMES[theme];
    button.setAttribute("aria-label", `theme: ${theme}; press to change`);
  };
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % names.length];
    useTheme(next); // of theme.js
    try {
      localStorage.setItem(THEME_KEY, next);
    } catch { /* storage is switched off: the choice lasts as long as the page */ }
    show();
    document.dispatchEvent(new Event("themechange"));
  });
  show();
}

function pressed(event) {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "/" && !isTyping && page === overview && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    overview.focusSearch();
  }
  if (event.key === "Escape" && !isTyping && page !== overview) location.hash = "#/";
}

beginTheme();
addEventListener("hashchange", () => {
  if (location.hash !== "#content") choosePage().catch(console.warn); // the link that skips to the content
});
document.addEventListener("keydown", pressed);
document.addEventListener("visibilitychange", () => wake());
await choosePage();
refreshForEver();
workspace.refreshForEver();
