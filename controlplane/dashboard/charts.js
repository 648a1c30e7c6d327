// The charts of one endpoint over five minutes, an hour or a day.

import { Chart, dashOf, forgetColors } from "./chart.js";
import { make, milliseconds, percent, rate, setText } from "./elements.js";
import { SPANS } from "./history.js";

const CODE_COLORS = ["--v3", "--v2", "--v4", "--v0", "--v5", "--v1"];
const QUANTILES = [["p50Ms", "p50"], ["p95Ms", "p95"], ["p99Ms", "p99"]];
const share = (value) => (value >= 0.1 || value === 0 ? `${Math.round(value * 100)} %` : percent(value));
const upTo = (least) => (high) => [0, Math.max(least, (high ?? 0) * 1.1)];
const whole = (value) => (Number.isInteger(value) ? String(value) : "");

export class EndpointCharts {
  constructor(history, changed) {
    this.history = history;
    this.version = "";
    this.charts = new Map();
    this.spans = Object.entries(SPANS).map(([span, { text }]) =>
      make("button", { type: "button", "data-span": span, "aria-pressed": String(span === history.span), onclick: () => this.chooseSpan(span, changed) }, text),
    );
    this.versions = make("select", { id: "chart-version", onchange: () => this.chooseVersion() });
    this.picker = make("span", { class: "picker" }, make("label", { for: "chart-version" }, "version"), this.versions);
    this.note = make("p", { class: "none" });
    this.grid = make("div", { class: "charts" });
    const bar = make("div", { class: "bar" }, make("div", { class: "choice", role: "group", "aria-label": "Time" }, ...this.spans), this.picker);
    this.legend = make("p", { class: "none marks" }, "▲ ▼ above a chart: scaling decisions, up and down; the reasons of the latest are below.");
    this.element = make("section", { class: "card block", "aria-label": "Charts" }, bar, this.note, this.grid, this.legend);
    this.themeChanged = () => {
      forgetColors();
      for (const chart of this.charts.values()) chart.redraw();
    };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.themeChanged);
    document.addEventListener("themechange", this.themeChanged);
  }

  close() {
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.themeChanged);
    document.removeEventListener("themechange", this.themeChanged);
    for (const chart of this.charts.values()) chart.close();
  }

  chooseSpan(span, changed) {
    this.history.choose(span);
    for (const button of this.spans) button.setAttribute("aria-pressed", String(button.dataset.span === span));
    changed();
  }

  chooseVersion() {
    this.version = this.versions.value;
    this.show();
  }

  show() {
    const { history } = this;
    if (history.refusal) {
      setText(this.note, `No charts here: ${history.refusal}`);
      this.element.classList.add("refused");
      return;
    }
    const names = [...history.points.keys()];
    if (!names.includes(this.version)) this.version = "";
    this.showPicker(names);
    const times = history.times();
    setText(this.note, times.length ? "" : "The first point comes within ten seconds.");
    this.note.hidden = times.length > 0;
    const shown = this.version ? [this.version] : names;
    const tone = (name) => `--v${names.indexOf(name) % 6}`;
    const perVersion = (value, more = {}) =>
      shown.map((name) => ({ name, color: tone(name), dash: dashOf(names.indexOf(name)), values: history.column(name, times, value), ...more }));
    const until = history.until();
    const from = until - SPANS[history.span].seconds;
    const moves = history.moves().filter((move) => shown.includes(move.version));
    const wanted = new Set();
    const put = (title, series, format, range) => {
      wanted.add(title);
      if (!this.charts.has(title)) this.charts.set(title, new Chart({ title, format, range, sync: "endpoint" }));
      const chart = this.charts.get(title);
      if (!chart.element.isConnected) this.grid.append(chart.element);
      chart.show(times, series, moves, from, until);
    };
    put("Requests per second", perVersion((point) => point.requestsPerSecond), rate, upTo(1));
    put("Failures per minute, by status code", this.failures(shown, times), rate, upTo(1));
    if (shown.length === 1) {
      const series = QUANTILES.map(([field, name], place) => ({ name, color: tone(shown[0]), dash: dashOf(place), values: history.column(shown[0], times, (point) => point[field]) }));
      put("Latency", series, milliseconds, upTo(1));
    } else {
      for (const [field, name] of QUANTILES) put(`Latency, ${name}`, perVersion((point) => point[field]), milliseconds, upTo(1));
    }
    put("Queue wait, p95", perVersion((point) => point.queueWaitP95Ms), milliseconds, upTo(1));
    put("Utilization", perVersion((point) => point.utilization), share, () => [0, 1]);
    const ready = perVersion((point) => point.replicasReady, { stepped: true });
    const desired = perVersion((point) => point.replicasWanted, { stepped: true }).map((each) => ({ ...each, name: `${each.name} wanted`, dash: [2, 4] }));
    put("Replicas ready and wanted", ready.flatMap((each, place) => [each, desired[place]]), whole, upTo(2));
    for (const [title, chart] of this.charts) {
      if (wanted.has(title)) continue;
      chart.close();
      chart.element.remove();
      this.charts.delete(title);
    }
    const order = [...wanted].map((title) => this.charts.get(title).element);
    order.forEach((element, place) => {
      if (this.grid.children[place] !== element) this.grid.insertBefore(element, this.grid.children[place] ?? null);
    });
  }

  failures(shown, times) {
    const codes = this.history.codes(shown);
    const perMinute = (code) => (point) => (60 * (point.failures[code] ?? 0)) / (point.seconds || 1);
    return codes.map((code, place) => {
      const columns = shown.map((name) => this.history.column(name, times, perMinute(code)));
      const values = times.map((_, at) => {
        const found = columns.map((column) => column[at]).filter((value) => value !== null);
        return found.length ? found.reduce((sum, value) => sum + value, 0) : null;
      });
      return { name: code === "499" ? "499 client gone" : code, color: CODE_COLORS[place % 6], dash: dashOf(place), values };
    });
  }

  showPicker(names) {
    this.picker.hidden = names.length < 2;
    if (this.versions.dataset.names === names.join()) return;
    this.versions.dataset.names = names.join();
    this.versions.replaceChildren(make("option", { value: "" }, "all"), ...names.map((name) => make("option", { value: name }, name)));
    this.versions.value = this.version;
  }
}
