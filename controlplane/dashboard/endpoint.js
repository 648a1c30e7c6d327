// The page of one endpoint.

import { EndpointCharts } from "./charts.js";
import { Comparisons } from "./comparison.js";
import { byId, clock, healthPill, make, plural, section, setText, showOnChange, timeOf } from "./elements.js";
import { Failures } from "./failures.js";
import { EndpointHistory, SPANS } from "./history.js";
import { ask, endpointPath, optional } from "./rest.js";
import { Trial } from "./trial.js";
import { versionRows } from "./versions.js";

const DECISIONS = 12;
const SLOW_MS = 5000; // interval of history, failures and decisions

export class EndpointPage {
  constructor(name) {
    this.name = name;
    this.path = endpointPath(name);
    this.everyMs = 1000;
    this.slowAt = 0;
    this.pill = make("span", { class: "pill" });
    this.auth = make("span", { class: "tag" });
    this.about = make("p", { class: "about" });
    this.reason = make("p", { class: "reason", hidden: "" });
    this.split = make("div", { class: "split", "aria-hidden": "true" });
    this.rows = make("div");
    this.now = make("section", { class: "card", "aria-label": "Versions now" }, this.split, this.rows, legend());
    this.history = new EndpointHistory(name);
    this.charts = new EndpointCharts(this.history, () => this.refreshHistory().catch(console.warn));
    this.comparisons = new Comparisons();
    this.failures = new Failures(name);
    this.trial = new Trial(name);
    this.decisions = make("ul", { class: "decisions" });
    this.scaling = section("Latest scaling decisions", this.decisions);
    this.origins = make("ul", { class: "origin" });
    this.origin = section("Deployed from", this.origins);
    this.origin.hidden = true;
    this.deployed = optional(() => ask(`${this.path}/deployments`));
    this.gone = make("p", { class: "message", hidden: "" });
    this.heading = make("h2", { tabindex: "-1" }, name);
    this.parts = make("div", { class: "parts" }, this.now, this.charts.element, this.comparisons.element, this.failures.element, this.scaling, this.trial.element, this.origin);
    this.element = make(
      "div",
      { class: "page endpoint" },
      make("p", { class: "crumb" }, make("a", { href: "#/" }, "← all endpoints")),
      make("div", { class: "head" }, this.heading, this.pill, this.auth),
      this.about,
      this.reason,
      this.gone,
      this.parts,
    );
    this.trial.begin().catch(console.warn);
  }

  get title() { return `${this.name} · scorefront`; }

  close() { this.charts.close(); }

  async refresh() {
    let view;
    try {
      view = await ask(this.path);
    } catch (error) {
      if (error.status !== 404) throw error;
      this.parts.hidden = true;
      this.gone.hidden = false;
      setText(this.gone, error.message);
      this.everyMs = 10000;
      return;
    }
    this.gone.hidden = true;
    this.parts.hidden = false;
    this.update(view);
    if (Date.now() - this.slowAt < SLOW_MS) return;
    this.slowAt = Date.now();
    await Promise.all([this.refreshHealth(), this.refreshHistory(), this.failures.refresh(), this.refreshDecisions(), this.refreshOrigin()]);
  }

  update(view) {
    const versions = Object.entries(view.status.versions);
    setText(this.auth, { key: "key auth", token: "token auth", none: "open to anyone" }[view.status.auth]);
    setText(this.about, view.spec.description ?? "");
    this.about.hidden = !view.spec.description;
    showOnChange(this.rows, view.status.versions, () => versionRows(view.status.versions));
    showOnChange(this.split, versions.map(([, status]) => status.share), () => versions.map(([, status], place) => shareBar(status, place)).filter(Boolean));
    this.split.hidden = versions.length === 1;
    this.trial.update(view);
    const ready = versions.reduce((sum, [, status]) => sum + status.ready, 0);
    byId("summary").textContent = `${this.name}: ${plural(ready, "replica")} ready`;
  }

  async refreshHealth() {
    const [row] = (await ask(`/overview?${new URLSearchParams({ name: this.name })}`)).value;
    if (!row) return;
    healthPill(this.pill, row.health);
    this.reason.hidden = row.reason === "";
    setText(this.reason, row.reason);
  }

  async refreshHistory() {
    await this.history.refresh();
    this.charts.show();
    this.comparisons.show(this.history.answer?.comparisons ?? [], SPANS[this.history.span].text);
  }

  async refreshDecisions() {
    const found = (await ask(`${this.path}/decisions?last=${DECISIONS}`)).value.reverse();
    showOnChange(this.decisions, found, () => (found.length ? found.map(decisionRow) : [make("li", { class: "none" }, "None yet.")]));
  }

  async refreshOrigin() {
    const found = (await this.deployed.ask())?.value ?? [];
    this.origin.hidden = found.length === 0;
    showOnChange(this.origins, found, () => found.map(originRow));
  }
}

function legend() {
  const square = (kind) => make("i", { class: `slot ${kind}`, "aria-hidden": "true" });
  return make(
    "p",
    { class: "legend" },
    make("span", {}, square("busy"), " busy slot"),
    make("span", {}, square(""), " free slot"),
    make("span", {}, square("waiting"), " waiting request"),
  );
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
    make("time", {}, timeOf(decision.at)),
    make("span", { class: "step" }, moved, make("span", { class: "of" }, ` ${decision.version}`)),
    make("p", {}, decision.reason),
  );
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
