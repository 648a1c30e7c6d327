// All endpoints: health at a glance, one row each, a page at a time.

import { HEALTH, byId, healthPill, make, draw, milliseconds, number, percent, plural, rate, setText } from "./elements.js";
import { ask } from "./rest.js";

const ROWS = 50;
const MANY = 200; // with more endpoints the page asks less often
const ORDERS = { health: "health", name: "name", requests: "requests/s", failures: "failures", latency: "p95" };
const COLUMNS = ["health", "endpoint", "traffic split", "replicas", "slots busy", "requests/s", "failures", "p95"];

export class Overview {
  constructor() {
    this.rows = new Map();
    this.choice = { search: "", health: "", sort: "health", offset: 0 };
    this.everyMs = 2000;
    this.tiles = make("div", { class: "tiles", role: "group", "aria-label": "Health" });
    this.search = make("input", {
      id: "search", type: "search", placeholder: "Search   /", "aria-label": "Search endpoints by name or description",
      oninput: () => this.choose({ search: this.search.value.trim().slice(0, 100) }),
    });
    const options = Object.entries(ORDERS).map(([value, text]) => make("option", { value }, text));
    this.sort = make("select", { id: "sort", onchange: () => this.choose({ sort: this.sort.value }) }, ...options);
    this.body = make("tbody", { role: "rowgroup" });
    const heads = COLUMNS.map((name) => make("th", { scope: "col", role: "columnheader" }, name));
    this.table = make(
      "table",
      { class: "endpoints", role: "table", "aria-label": "Endpoints" },
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)),
      this.body,
    );
    this.none = make("p", { class: "none", hidden: "" }, "No endpoint matches.");
    this.range = make("span", { class: "range", role: "status" });
    this.back = make("button", { type: "button", onclick: () => this.turn(-ROWS) }, "← previous");
    this.next = make("button", { type: "button", onclick: () => this.turn(ROWS) }, "next →");
    this.pager = make("nav", { class: "pager", "aria-label": "Pages of endpoints", hidden: "" }, this.back, this.range, this.next);
    this.tools = make("div", { class: "tools" }, this.tiles, this.search, make("label", { for: "sort" }, "by"), this.sort);
    this.frame = make("div", { class: "card list" }, this.table, this.none);
    this.element = make("div", { class: "page" }, make("h2", { class: "unseen" }, "Endpoints"), this.tools, this.frame, this.pager);
  }

  get title() { return this.troubled ? `(${this.troubled}) scorefront` : "scorefront"; }

  focusSearch() { this.search.focus(); }

  choose(change) {
    this.choice = { ...this.choice, offset: 0, ...change };
    this.refresh().catch(console.warn);
  }

  turn(by) {
    this.choose({ offset: Math.max(0, this.choice.offset + by) });
    window.scrollTo(0, 0);
  }

  async refresh() {
    const wanted = JSON.stringify(this.choice);
    const answer = await ask(`/overview?${new URLSearchParams({ ...this.choice, limit: ROWS })}`);
    if (wanted !== JSON.stringify(this.choice)) return; // a later choice is on its way
    if (answer.offset && !answer.value.length) this.choice.offset = 0;
    this.everyMs = answer.endpoints > MANY ? 5000 : 2000;
    this.show(answer);
  }

  show(answer) {
    this.troubled = answer.endpoints - answer.health.healthy;
    byId("empty").hidden = answer.endpoints > 0 || answer.skipped.length > 0;
    this.element.hidden = answer.endpoints === 0;
    this.showTiles(answer);
    this.showRows(answer.value);
    this.none.hidden = answer.matching > 0;
    this.table.hidden = answer.matching === 0;
    this.pager.hidden = answer.matching <= ROWS;
    const last = answer.offset + answer.value.length;
    setText(this.range, `${number(answer.offset + 1)}–${number(last)} of ${number(answer.matching)}`);
    this.back.disabled = answer.offset === 0;
    this.next.disabled = last >= answer.matching;
    showSkipped(answer.skipped);
    byId("summary").textContent = answer.endpoints ? summaryOf(answer) : "";
  }

  showTiles(answer) {
    const counts = { "": answer.endpoints, ...answer.health };
    if (!this.tiles.children.length) {
      for (const health of Object.keys(counts)) {
        const word = health ? [make("i", { "aria-hidden": "true" }, HEALTH[health].mark), health] : ["all"];
        const press = () => this.choose({ health: this.choice.health === health ? "" : health });
        const tone = health ? HEALTH[health].tone : "";
        this.tiles.append(make("button", { type: "button", class: `tile ${tone}`, "data-health": health, onclick: press }, make("b"), ...word));
      }
    }
    for (const tile of this.tiles.children) {
      const health = tile.dataset.health;
      setText(tile.firstChild, number(counts[health]));
      tile.setAttribute("aria-pressed", String(this.choice.health === health));
      tile.classList.toggle("zero", counts[health] === 0);
    }
  }

  showRows(views) {
    const names = new Set(views.map((view) => view.name));
    for (const [name, row] of this.rows) {
      if (names.has(name)) continue;
      row.element.remove();
      this.rows.delete(name);
    }
    views.forEach((view, place) => {
      if (!this.rows.has(view.name)) this.rows.set(view.name, new EndpointRow(view.name));
      const row = this.rows.get(view.name);
      row.update(view);
      const current = this.body.children[place];
      if (current !== row.element) this.body.insertBefore(row.element, current ?? null);
    });
  }
}

class EndpointRow {
  constructor(name) {
    this.pill = make("span", { class: "pill" });
    this.about = make("span", { class: "about" });
    this.reason = make("span", { class: "reason" });
    this.link = make("a", { href: `#/endpoints/${encodeURIComponent(name)}` }, name);
    this.split = make("div", { class: "split", "aria-hidden": "true" });
    this.shares = make("span", { class: "of" });
    this.replicas = make("span");
    this.slots = make("span");
    this.rate = make("b");
    this.trend = draw("svg", { class: "trend", viewBox: "0 0 29 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.failures = make("span");
    this.p95 = make("span");
    const cells = [
      [this.pill], [this.link, this.about, this.reason], [this.split, this.shares], [this.replicas], [this.slots],
      [this.rate, this.trend], [this.failures], [this.p95],
    ];
    const cell = (content, place) => make("td", { role: "cell", "data-label": COLUMNS[place] }, ...content);
    this.element = make("tr", { role: "row" }, ...cells.map(cell));
  }

  update(view) {
    const mark = JSON.stringify(view);
    if (mark === this.mark) return;
    this.mark = mark;
    healthPill(this.pill, view.health);
    setText(this.about, view.description);
    setText(this.reason, view.reason);
    this.split.replaceChildren(...view.versions.map(shareBar).filter(Boolean));
    const control = view.versions.some((version) => version.type === "Control") ? ", one control" : "";
    setText(this.shares, view.versions.length === 1 ? view.versions[0].version : `${plural(view.versions.length, "version")}${control}`);
    const more = ["starting", "failed"].filter((state) => view[state]).map((state) => `, ${view[state]} ${state}`);
    setText(this.replicas, `${view.ready} of ${view.desired}${more.join("")}`);
    setText(this.slots, `${view.busy} of ${view.total}${view.waiting ? `, ${view.waiting} waiting` : ""}`);
    this.slots.className = view.waiting ? "warned" : "";
    setText(this.rate, rate(view.requestsPerSecond));
    this.trend.replaceChildren(...trendOf(view.trend));
    setText(this.failures, view.failureRate === null ? "–" : percent(view.failureRate));
    this.failures.className = view.failureRate >= 0.01 ? "failed" : "";
    setText(this.p95, milliseconds(view.p95Ms));
  }
}

function shareBar(version, place) {
  if (!version.share) return null;
  const bar = make("i", { class: `c${place % 6}` });
  bar.style.width = `${version.share * 100}%`;
  return bar;
}

function trendOf(rates) {
  const most = Math.max(...rates, 0);
  if (!most) return [];
  const points = rates.map((each, place) => `${place},${(9.5 - (each / most) * 9).toFixed(2)}`);
  return [draw("polyline", { points: points.join(" ") })];
}

function summaryOf(answer) {
  const parts = [plural(answer.endpoints, "endpoint"), `${number(answer.ready)} of ${plural(answer.desired, "replica")} ready`];
  parts.push(`${number(answer.busy)} of ${plural(answer.total, "slot")} busy`);
  if (answer.waiting) parts.push(`${number(answer.waiting)} waiting`);
  if (answer.requestsPerSecond !== null) parts.push(`${rate(answer.requestsPerSecond)} requests/s`);
  return parts.join(" · ");
}

function showSkipped(skipped) {
  byId("skipped").hidden = skipped.length === 0;
  byId("skipped").replaceChildren(
    ...skipped.map(({ name, message }) => make("li", {}, make("strong", {}, `${name} is skipped`), ` ${message}`)),
  );
}
