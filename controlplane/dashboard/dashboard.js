// The dashboard polls the REST API once a second and shows the answers. Data becomes text nodes, never markup.
"use strict";

const REFRESH_MS = 1000;
const HISTORY_POINTS = 180; // three minutes of utilization
const MOST_SQUARES = 48; // more slots are shown as one bar
const FEW = 3; // up to this many endpoints are expanded initially
const DECISIONS = 8;
const HIDDEN_KEY = "••••••••••••";

const cards = new Map();
const byId = (id) => document.getElementById(id);

// ---- elements

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

function draw(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const percent = (share) => `${Math.round(share * 1000) / 10} %`;
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// ---- one version

function slotsOf(status) {
  const holder = make("div", { class: "slots" });
  if (status.total > MOST_SQUARES) {
    const fill = make("i");
    fill.style.width = `${Math.min(status.utilization, 1) * 100}%`;
    holder.append(make("span", { class: "meter" }, fill));
  } else {
    for (let slot = 0; slot < status.total; slot += 1) {
      holder.append(make("span", { class: slot < status.busy ? "slot busy" : "slot" }));
    }
    for (let each = 0; each < Math.min(status.waiting, 12); each += 1) {
      holder.append(make("span", { class: "slot waiting" }));
    }
  }
  const waiting = status.waiting ? make("em", {}, ` · ${status.waiting} waiting`) : "";
  holder.append(make("span", { class: "said" }, `${status.busy} of ${plural(status.total, "slot")} busy`, waiting));
  return holder;
}

function replicasOf(status) {
  const states = ["starting", "draining", "failed"].filter((state) => status[state] > 0);
  const counts = states.flatMap((state, place) => [
    place ? ", " : "",
    make("span", { class: state }, `${status[state]} ${state}`),
  ]);
  return make(
    "div",
    { class: "replicas" },
    make("b", {}, `${status.ready} of ${status.desired}`),
    " ready",
    counts.length ? make("span", { class: "states" }, ...counts) : null,
  );
}

function sparkline(history) {
  const chart = draw("svg", { viewBox: `0 0 ${HISTORY_POINTS - 1} 30`, preserveAspectRatio: "none", role: "img" });
  const first = HISTORY_POINTS - history.length;
  const points = history.map((use, place) => `${first + place},${(28 - Math.min(use, 1) * 26).toFixed(1)}`);
  chart.setAttribute("aria-label", "utilization over the last three minutes");
  chart.append(draw("line", { class: "floor", x1: 0, x2: HISTORY_POINTS - 1, y1: 29, y2: 29 }));
  if (points.length > 1) {
    const area = [`${first},29`, ...points, `${HISTORY_POINTS - 1},29`].join(" ");
    chart.append(draw("polygon", { class: "area", points: area }));
    chart.append(draw("polyline", { class: "curve", points: points.join(" ") }));
  }
  return chart;
}

function messageOf(status) {
  if (!status.message) return null;
  const [first, ...rest] = status.message.split("\n");
  const message = make("div", { class: status.failed ? "message" : "message soft" }, make("strong", {}, first));
  if (rest.length) message.append(make("pre", {}, rest.join("\n")));
  return message;
}

function versionRow(name, status, place, history, isOnly) {
  const row = make(
    "div",
    { class: `version c${place % 6}` },
    make(
      "div",
      { class: "name" },
      make("b", {}, name),
      status.isDefault && !isOnly ? make("span", { class: "tag" }, "default") : null,
      status.type === "Control" ? make("span", { class: "tag" }, "control") : null,
      make("span", { class: "share" }, status.share ? `${percent(status.share)} of traffic` : "pinned requests only"),
    ),
    replicasOf(status),
    slotsOf(status),
    make("div", { class: "use" }, sparkline(history), make("b", {}, `${Math.round(status.utilization * 100)} %`)),
  );
  const message = messageOf(status);
  if (message) row.append(message);
  return row;
}

// ---- one endpoint

class Card {
  constructor(name) {
    this.name = name;
    this.path = `/api/v1/endpoints/${encodeURIComponent(name)}`;
    this.history = new Map();
    this.secret = "";
    this.seen = {};
    this.pill = make("span", { class: "pill" });
    this.auth = make("span", { class: "tag" });
    this.about = make("p", { class: "about" });
    this.split = make("div", { class: "split", "aria-hidden": "true" });
    this.rows = make("div");
    this.toggle = make("button", { class: "toggle", type: "button", onclick: () => this.setOpen(!this.isOpen) });
    this.more = make("div", { class: "more" });
    this.buildMore();
    this.element = make(
      "article",
      { class: "card" },
      make("div", { class: "head" }, make("h2", {}, name), this.pill, this.auth, make("span", { class: "note" }, this.toggle)),
      this.about,
      this.split,
      this.rows,
      this.more,
    );
    this.setOpen(false);
  }

  buildMore() {
    this.url = make("code");
    this.curl = make("code");
    this.show = make("button", { type: "button", onclick: () => this.toggleSecret() });
    const copyUrl = copyButton(async () => this.view.status.scoringUri);
    const copyCurl = copyButton(async () => this.curlLine(this.secret || (await this.fetchSecret())));
    this.decisions = make("ul", { class: "decisions" });
    this.origin = make("section", { hidden: "" });
    this.more.append(
      make(
        "section",
        {},
        make("h3", {}, "Score it"),
        make("div", { class: "call" }, this.url, copyUrl),
        make("div", { class: "call" }, this.curl, this.show, copyCurl),
      ),
      this.origin,
      make("section", {}, make("h3", {}, "Latest scaling decisions"), this.decisions),
    );
  }

  setOpen(open) {
    this.isOpen = open;
    this.more.hidden = !open;
    this.toggle.textContent = open ? "less" : "more";
    this.toggle.setAttribute("aria-expanded", String(open));
    if (open) this.refreshMore();
    else this.hideSecret();
  }

  update(view) {
    this.view = view;
    const versions = Object.entries(view.status.versions);
    for (const [name, status] of versions) {
      const history = this.history.get(name) ?? [];
      history.push(status.utilization);
      this.history.set(name, history.slice(-HISTORY_POINTS));
    }
    this.updateHead(view, versions);
    const isOnly = versions.length === 1;
    const row = ([name, status], place) => versionRow(name, status, place, this.history.get(name), isOnly);
    this.rows.replaceChildren(...versions.map(row));
    this.split.replaceChildren(...versions.map(([, status], place) => shareBar(status, place)).filter(Boolean));
    this.split.hidden = isOnly;
    this.updateCall();
    if (this.isOpen) this.refreshMore();
  }

  refreshMore() {
    this.refreshDecisions();
    refreshOrigin(this); // workspace.js
  }

  updateHead(view, versions) {
    const hasFailed = versions.some(([, status]) => status.failed > 0);
    this.pill.className = `pill ${view.status.ready ? "ok" : hasFailed ? "bad" : "wait"}`;
    this.pill.textContent = view.status.ready ? "ready" : hasFailed ? "failing" : "starting";
    this.element.classList.toggle("troubled", !view.status.ready && hasFailed);
    this.auth.textContent = { key: "key auth", token: "token auth", none: "open to anyone" }[view.status.auth];
    this.about.textContent = view.spec.description ?? "";
    this.about.hidden = !view.spec.description;
  }

  updateCall() {
    setText(this.url, this.view.status.scoringUri);
    setText(this.curl, this.curlLine(this.secret || HIDDEN_KEY));
    const what = this.view.status.auth === "token" ? "token" : "key";
    this.show.hidden = this.view.status.auth === "none";
    setText(this.show, `${this.secret ? "hide" : "show"} ${what}`);
  }

  curlLine(secret) {
    const header = this.view.status.auth === "none" ? "" : ` -H 'Authorization: Bearer ${secret}'`;
    const body = ` -H 'Content-Type: application/json' -d '{"data": [[1, 2, 3, 4]]}'`;
    return `curl${header}${body} ${this.view.status.scoringUri}`;
  }

  async fetchSecret() {
    if (this.view.status.auth === "none") return "";
    if (this.view.status.auth === "token") return (await ask(`${this.path}/token`, { method: "POST" })).accessToken;
    return (await ask(`${this.path}/keys`)).primaryKey;
  }

  async toggleSecret() {
    if (this.secret) return this.hideSecret();
    this.secret = await this.fetchSecret();
    return this.updateCall();
  }

  hideSecret() {
    this.secret = "";
    if (this.view) this.updateCall();
  }

  async refreshDecisions() {
    const decisions = (await ask(`${this.path}/decisions?last=${DECISIONS}`).catch(() => ({ value: [] }))).value;
    const mark = JSON.stringify(decisions);
    if (mark === this.seen.decisions) return;
    this.seen.decisions = mark;
    const rows = decisions.reverse().map(decisionRow);
    this.decisions.replaceChildren(...(rows.length ? rows : [make("li", { class: "none" }, "None yet.")]));
  }
}

function shareBar(status, place) {
  if (!status.share) return null;
  const bar = make("i", { class: `c${place % 6}` });
  bar.style.width = `${status.share * 100}%`;
  return bar;
}

function decisionRow(decision) {
  const moved = decision.direction === "hold" ? `${decision.desired}` : `${decision.previous} → ${decision.desired}`;
  return make(
    "li",
    { class: ["up", "down"].includes(decision.direction) ? decision.direction : "hold" },
    make("time", {}, new Date(decision.at * 1000).toLocaleTimeString([], { hour12: false })),
    make("span", { class: "step" }, moved, make("span", { class: "of" }, ` ${decision.version}`)),
    make("p", {}, decision.reason),
  );
}

function copyButton(text) {
  const button = make("button", { type: "button" }, "copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(await text());
      button.textContent = "copied";
    } catch {
      button.textContent = "no access";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
  return button;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text; // an unchanged text keeps its selection
}

// ---- the page

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

function showEndpoints(views) {
  const isFew = views.length <= FEW;
  const names = new Set(views.map((view) => view.metadata.name));
  for (const [name, card] of cards) {
    if (!names.has(name)) {
      card.element.remove();
      cards.delete(name);
    }
  }
  views.forEach((view, place) => {
    const name = view.metadata.name;
    let card = cards.get(name);
    if (!card) {
      card = new Card(name);
      cards.set(name, card);
      card.view = view;
      card.setOpen(isFew);
    }
    card.update(view);
    const current = byId("endpoints").children[place];
    if (current !== card.element) byId("endpoints").insertBefore(card.element, current ?? null);
  });
  byId("endpoints").classList.toggle("few", isFew);
  byId("empty").hidden = views.length > 0;
  byId("filter").hidden = views.length <= 2 * FEW;
  applyFilter();
}

function showSkipped(skipped) {
  byId("skipped").hidden = skipped.length === 0;
  byId("skipped").replaceChildren(
    ...skipped.map(({ name, message }) => make("li", {}, make("strong", {}, `${name} is skipped`), ` ${message}`)),
  );
  if (skipped.length) byId("empty").hidden = true;
}

function summarize(views) {
  const notReady = views.filter((view) => !view.status.ready).length;
  const statuses = views.flatMap((view) => Object.values(view.status.versions));
  const sum = (field) => statuses.reduce((total, status) => total + status[field], 0);
  const parts = [plural(views.length, "endpoint"), `${plural(sum("ready"), "replica")} ready`];
  parts.push(`${sum("busy")} of ${plural(sum("total"), "slot")} busy`);
  if (sum("waiting")) parts.push(`${sum("waiting")} waiting`);
  if (notReady) parts.push(`${notReady} not ready`);
  byId("summary").textContent = views.length ? parts.join(" · ") : "";
  document.title = notReady ? `(${notReady}) scorefront` : "scorefront";
}

function applyFilter() {
  const wanted = byId("filter").hidden ? "" : byId("filter").value.trim().toLowerCase();
  for (const [name, card] of cards) card.element.hidden = !name.includes(wanted);
}

function showLink(isUp) {
  byId("link").className = isUp ? "pill ok" : "pill bad";
  byId("link").textContent = isUp ? "live" : "no answer, retrying";
}

async function refresh() {
  if (document.hidden) return;
  try {
    const { value: views, skipped = [] } = await ask("/api/v1/endpoints");
    views.sort((one, other) => one.status.ready - other.status.ready); // stable: unready endpoints first, then by name
    showEndpoints(views);
    showSkipped(skipped);
    summarize(views);
    showLink(true);
  } catch (error) {
    showLink(false);
    console.warn(error);
  }
}

async function refreshForEver() {
  for (;;) {
    await refresh();
    await new Promise((resolve) => { setTimeout(resolve, REFRESH_MS); });
  }
}

byId("filter").addEventListener("input", applyFilter);
document.addEventListener("visibilitychange", refresh);
document.addEventListener("DOMContentLoaded", refreshForEver); // once workspace.js is there
