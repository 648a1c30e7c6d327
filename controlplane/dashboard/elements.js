// Elements and texts. Data becomes text nodes, never markup.

export const byId = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text; // an unchanged text keeps its selection
}

// Remake the children of an element only when their data has changed, so that focus and selection stay.
export function showOnChange(element, data, build) {
  const mark = JSON.stringify(data);
  if (element.dataset.mark === mark) return;
  element.dataset.mark = mark;
  element.replaceChildren(...build());
}

export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
export const percent = (share) => `${Math.round(share * 1000) / 10} %`;
export const clock = (at) => new Date(at * 1000).toLocaleString([], { hour12: false });
export const timeOf = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });
export const number = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 0 });

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 ms";
  if (value >= 10000) return `${(value / 1000).toFixed(1)} s`;
  return value >= 100 ? `${Math.round(value)} ms` : `${value.toPrecision(2)} ms`;
}

export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 100) return number(value);
  return String(Math.round(value * 10) / 10);
}

export function sizeOf(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  for (; bytes >= 1000 && place < units.length - 1; place += 1) bytes /= 1000;
  return `${place ? bytes.toFixed(1) : bytes} ${units[place]}`;
}

export const HEALTH = {
  failing: { mark: "✖", tone: "bad" },
  starting: { mark: "◔", tone: "wait" },
  degraded: { mark: "▲", tone: "wait" },
  healthy: { mark: "●", tone: "ok" },
};

export function healthPill(pill, health) {
  pill.className = `pill ${HEALTH[health].tone}`;
  setText(pill, `${HEALTH[health].mark} ${health}`);
}

export function copyButton(text, label = "copy") {
  const button = make("button", { type: "button" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(await text());
      button.textContent = "copied";
    } catch {
      button.textContent = "no access";
    }
    setTimeout(() => { button.textContent = label; }, 1500);
  });
  return button;
}

export function section(title, ...children) {
  const id = `section-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  return make("section", { class: "card block", "aria-labelledby": id }, make("h3", { id }, title), ...children);
}
