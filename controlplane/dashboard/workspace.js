// Deployments and models, below the overview.

import { byId, clock, make, plural, setText, sizeOf } from "./elements.js";
import { RestError, ask } from "./rest.js";

const WORKSPACE_REFRESH_MS = 2000;
const MODELS_REFRESH_MS = 10000;
const OPERATIONS = 6; // most ended ones that are shown
const RECENT_S = 900; // and only those of this time
const MODELS = 50;
const LOG_LINES = 200;
const ENDED = { Succeeded: "ok", Failed: "bad", Cancelled: "wait", TimedOut: "bad" };

const operationRows = new Map();
const seconds = (from, to) => `${Math.max(0, to - from).toFixed(1)} s`;
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

// ---- the page

export class Workspace {
  constructor() {
    this.element = byId("workspace");
    this.modelsAt = 0;
  }

  async refresh() {
    if (document.hidden || this.element.hidden) return true;
    try {
      showOperations((await ask("/operations")).value);
    } catch (error) {
      if (error instanceof RestError && error.status === 501) return false; // a cluster has no workspace
      throw error;
    }
    if (Date.now() - this.modelsAt >= MODELS_REFRESH_MS) {
      this.modelsAt = Date.now();
      showModels((await ask("/models?latest=true")).value);
    }
    return true;
  }

  async refreshForEver() {
    for (;;) {
      const goesOn = await this.refresh().catch((error) => {
        console.warn(error);
        return true;
      });
      if (!goesOn) return;
      await new Promise((resolve) => { setTimeout(resolve, WORKSPACE_REFRESH_MS); });
    }
  }
}
