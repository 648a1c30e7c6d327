// Models and deployments on the dashboard, beside dashboard.js. Data becomes text nodes, never markup.
"use strict";

const WORKSPACE_REFRESH_MS = 2000;
const OPERATIONS = 6; // most ended ones that are shown
const RECENT_S = 900; // and only those of this time
const MODELS = 50;
const LOG_LINES = 200;
const ENDED = { Succeeded: "ok", Failed: "bad", Cancelled: "wait", TimedOut: "bad" };

const operationRows = new Map();
const seconds = (from, to) => `${Math.max(0, to - from).toFixed(1)} s`;
const clock = (at) => new Date(at * 1000).toLocaleString([], { hour12: false });

function sizeOf(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  for (; bytes >= 1000 && place < units.length - 1; place += 1) bytes /= 1000;
  return `${place ? bytes.toFixed(1) : bytes} ${units[place]}`;
}

// ---- deployments

class OperationRow {
  constructor(operation) {
    this.id = operation.id;
    this.isOpen = false;
    this.lines = 0;
    this.pill = make("span", { class: "pill" });
    this.step = make("span", { class: "step" });
    this.steps = make("p", { class: "steps" });
    this.reason = make("strong");
    this.tail = make("pre");
    this.failure = make("div", { class: "message" }, this.reason, this.tail);
    this.log = make("pre", { class: "log", tabindex: "0", "aria-label": `log of the deployment of ${operation.endpoint}` });
    this.toggle = make("button", { type: "button", "aria-expanded": "false", onclick: () => this.setOpen(!this.isOpen) }, "log");
    const version = operation.version && operation.version !== operation.endpoint ? ` · ${operation.version}` : "";
    this.element = make(
      "li",
      {},
      make("div", { class: "head" }, make("b", {}, operation.endpoint, version), this.pill, this.step, this.toggle),
      this.steps,
      this.failure,
      this.log,
    );
    this.setOpen(false);
  }

  setOpen(open) {
    this.isOpen = open;
    this.log.hidden = !open;
    this.toggle.setAttribute("aria-expanded", String(open));
    if (open) this.refreshLog().catch(console.warn);
  }

  update(operation) {
    const isEnded = operation.state in ENDED;
    const end = operation.ended ?? Date.now() / 1000;
    this.pill.className = `pill ${ENDED[operation.state] ?? "wait"}`;
    setText(this.pill, operation.state);
    const step = operation.step && operation.state !== "Succeeded" ? `${operation.step}, ` : "";
    setText(this.step, `${operation.kind} · ${step}${seconds(operation.created, end)} · ${clock(operation.created)}`);
    const texts = operation.steps.map((each) => `${each.step} ${seconds(each.began, each.ended ?? end)}${each.note ? ` (${each.note})` : ""}`);
    setText(this.steps, texts.join(" → "));
    this.failure.hidden = !operation.error;
    if (operation.error) {
      setText(this.reason, operation.error.message);
      setText(this.tail, operation.error.logTail.join("\n"));
      this.tail.hidden = !operation.error.logTail.length;
    }
    if (this.isOpen && !(isEnded && this.isWhole)) {
      this.isWhole = isEnded;
      this.refreshLog().catch(console.warn);
    }
  }

  async refreshLog() {
    const response = await fetch(`/api/v1/operations/${this.id}/logs?from=${this.lines}`, { cache: "no-store" });
    if (!response.ok) throw new Error(`log of ${this.id}: ${response.status}`);
    const entries = (await response.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
    if (!entries.length) return;
    this.lines += entries.length;
    const added = entries.map(({ at, line }) => `${new Date(at * 1000).toLocaleTimeString([], { hour12: false })} ${line}`);
    const kept = this.log.textContent.split("\n").filter(Boolean).concat(added).slice(-LOG_LINES);
    this.log.textContent = `${kept.join("\n")}\n`;
    this.log.scrollTop = this.log.scrollHeight;
  }
}

function showOperations(operations) {
  const running = operations.filter((each) => !(each.state in ENDED));
  const isRecent = (each) => each.state in ENDED && each.ended > Date.now() / 1000 - RECENT_S;
  const shown = [...running, ...operations.filter(isRecent).slice(0, OPERATIONS)];
  const ids = new Set(shown.map((each) => each.id));
  for (const [id, row] of operationRows) {
    if (!ids.has(id)) {
      row.element.remove();
      operationRows.delete(id);
    }
  }
  shown.forEach((operation, place) => {
    if (!operationRows.has(operation.id)) operationRows.set(operation.id, new OperationRow(operation));
    const row = operationRows.get(operation.id);
    row.update(operation);
    const current = byId("operations").children[place];
    if (current !== row.element) byId("operations").insertBefore(row.element, current ?? null);
  });
  byId("deployments").hidden = shown.length === 0;
}

// ---- models

let shownModels = "";

function showModels(models) {
  const mark = JSON.stringify(models.slice(0, MODELS));
  if (mark === shownModels) return;
  shownModels = mark;
  const row = (model) =>
    make(
      "tr",
      {},
      make("td", {}, make("b", {}, model.name), make("span", { class: "of" }, ` : ${model.version}`)),
      make("td", {}, `${plural(model.fileCount, "file")}, ${sizeOf(model.sizeBytes)}`),
      make("td", {}, clock(model.created)),
      make("td", {}, Object.entries(model.tags).map(([key, text]) => (text ? `${key}=${text}` : key)).join(", ")),
    );
  byId("model-rows").replaceChildren(...models.slice(0, MODELS).map(row));
  byId("models").hidden = models.length === 0;
  const more = models.length > MODELS ? `; the first ${MODELS} are shown, scorefront model list shows all` : "";
  setText(byId("model-count"), `${plural(models.length, "model")}${more}`);
}

// ---- origin of versions

async function refreshOrigin(card) {
  const { value } = await ask(`${card.path}/deployments`).catch(() => ({ value: [] }));
  const mark = JSON.stringify(value);
  if (mark === card.seen.origin) return;
  card.seen.origin = mark;
  card.origin.hidden = value.length === 0;
  card.origin.replaceChildren(make("h3", {}, "Deployed from"), make("ul", { class: "origin" }, ...value.map(originRow)));
}

function originRow(deployed) {
  const models = deployed.models.map(({ name, version }) => `${name}:${version}`).join(", ") || "no model";
  const name = [deployed.environmentName, deployed.environmentVersion].filter(Boolean).join(":");
  const key = deployed.environmentKey ? deployed.environmentKey.slice(0, 12) : "";
  const environment = deployed.environmentKey ? `environment ${name ? `${name} ` : ""}(${key})` : "the Python of scorefront";
  return make(
    "li",
    {},
    make("b", {}, deployed.version),
    ` ${models} · ${deployed.entryScript} of ${plural(deployed.source.length, "file")} · ${environment} · ${clock(deployed.deployed)}`,
    make("span", { class: "of" }, ` operation ${deployed.operation}`),
  );
}

// ---- the page

async function refreshWorkspace() {
  if (document.hidden) return true;
  const response = await fetch("/api/v1/operations", { cache: "no-store" });
  if (response.status === 501) return false; // a cluster has no workspace
  if (!response.ok) throw new Error(`/api/v1/operations: ${response.status}`);
  showOperations((await response.json()).value);
  showModels((await ask("/api/v1/models?latest=true")).value);
  return true;
}

async function refreshWorkspaceForEver() {
  for (;;) {
    const goesOn = await refreshWorkspace().catch((error) => {
      console.warn(error);
      return true;
    });
    if (!goesOn) return;
    await new Promise((resolve) => { setTimeout(resolve, WORKSPACE_REFRESH_MS); });
  }
}

refreshWorkspaceForEver();
