// One chart: uPlot on a canvas, its key with values as text, marks of scaling decisions, and a table of the same data.

import uPlot from "./uplot.js";

import { draw, make, setText, timeOf } from "./elements.js";

const HEIGHT = 150;
const TABLE_ROWS = 60;
const MOST_LINES = 12; // more scaling decisions in view are marked at the top only
const MARK_PIXELS = 9; // marks of the same direction that would overlap are drawn once
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [1, 2], [12, 4]];
const seenColors = new Map();

// A custom property as a colour of the present theme; `light-dark()` is resolved by the browser.
function color(name) {
  if (!seenColors.has(name)) {
    const probe = document.getElementById("probe");
    probe.style.color = `var(${name})`;
    seenColors.set(name, getComputedStyle(probe).color);
  }
  return seenColors.get(name);
}

export function forgetColors() {
  seenColors.clear();
}

export const dashOf = (place) => DASHES[place % DASHES.length];

export class Chart {
  // title: of the chart; unit: after values; format: value -> text; sync: key of the common cursor.
  constructor({ title, format, sync, range }) {
    this.title = title;
    this.format = format;
    this.sync = sync;
    this.range = range;
    this.moves = [];
    this.key = make("ul", { class: "key" });
    this.canvas = make("div", { class: "canvas", tabindex: "0", role: "img", onkeydown: (event) => this.step(event), onblur: () => this.showValues(null) });
    this.rows = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${title}` });
    this.table = make("details", { ontoggle: () => this.fillTable() }, make("summary", {}, "table"), this.rows);
    this.element = make("figure", { class: "chart" }, make("figcaption", {}, title), this.key, this.canvas, this.table);
    this.resizing = new ResizeObserver(() => this.fit());
    this.resizing.observe(this.canvas);
  }

  close() {
    this.resizing.disconnect();
    this.plot?.destroy();
  }

  // times: ends of the intervals; series: [{name, values, color, dash, stepped}]; moves: scaling decisions.
  show(times, series, moves, from, until) {
    this.times = times;
    this.series = series;
    this.moves = moves;
    this.from = from;
    this.until = until;
    const shape = JSON.stringify(series.map(({ name, color: tone, dash }) => [name, tone, dash]));
    const data = [times, ...series.map((each) => each.values)];
    if (shape !== this.shape || !this.plot) {
      this.shape = shape;
      this.plot?.destroy();
      this.plot = new uPlot(this.options(), data, this.canvas);
      const entries = series.map((each) => this.keyEntry(each));
      this.key.replaceChildren(...(entries.length ? entries : [make("li", {}, "none in this time")]));
    } else {
      this.plot.setData(data);
    }
    this.showValues(this.plot.cursor.idx ?? null);
    this.canvas.setAttribute("aria-label", this.summary());
    if (this.table.open) this.fillTable();
  }

  redraw() {
    this.plot?.redraw(false);
  }

  options() {
    const quiet = () => color("--quiet");
    const grid = { stroke: () => color("--line"), width: 1 };
    const lines = this.series.map((each) => ({
      label: each.name,
      stroke: () => color(each.color),
      width: 1.75,
      dash: each.dash,
      points: { show: (plot, place) => plot.data[place].filter((value) => value !== null).length < 3 },
      paths: each.stepped ? uPlot.paths.stepped({ align: -1 }) : undefined,
    }));
    return {
      width: Math.max(this.canvas.clientWidth, 200),
      height: HEIGHT,
      padding: [14, 20, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: this.sync }, points: { size: 6 } },
      scales: { x: { time: true, range: () => [this.from, this.until] }, y: { range: (plot, low, high) => this.range(high) } },
      axes: [
        { stroke: quiet, grid: { show: false }, ticks: grid, font: "11px system-ui", size: 30, space: 70, values: (plot, splits) => splits.map((at) => this.axisTime(at)) },
        { stroke: quiet, grid, ticks: { show: false }, font: "11px system-ui", size: 52, space: 32, values: (plot, splits) => splits.map((value) => this.format(value)) },
      ],
      series: [{}, ...lines],
      hooks: { draw: [(plot) => this.drawMoves(plot)], setCursor: [(plot) => this.showValues(plot.cursor.idx ?? null)] },
    };
  }

  axisTime(at) {
    const text = timeOf(at);
    return this.until - this.from <= 300 ? text : text.slice(0, 5);
  }

  drawMoves(plot) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio || 1;
    ctx.save();
    ctx.font = `${10 * ratio}px system-ui`;
    ctx.textAlign = "center";
    ctx.lineWidth = ratio;
    const seen = this.moves.filter((move) => move.time >= this.from && move.time <= this.until);
    const marked = { true: -Infinity, false: -Infinity };
    for (const move of seen.sort((one, other) => one.time - other.time)) {
      const x = Math.round(plot.valToPos(move.time, "x", true));
      const isUp = move.desired > move.previous;
      if (x - marked[isUp] < MARK_PIXELS * ratio) continue;
      marked[isUp] = x;
      ctx.strokeStyle = ctx.fillStyle = color(isUp ? "--warn" : "--good");
      ctx.fillText(isUp ? "▲" : "▼", x, bbox.top + (isUp ? -2 : 8) * ratio);
      if (seen.length > MOST_LINES) continue;
      ctx.setLineDash([2 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  keyEntry(each) {
    const line = draw("line", { x1: 0, y1: 5, x2: 22, y2: 5, "stroke-dasharray": each.dash.join(" ") });
    const sample = draw("svg", { width: 22, height: 10, "aria-hidden": "true", class: "sample" }, line);
    line.style.stroke = `var(${each.color})`;
    return make("li", {}, sample, make("span", {}, each.name), make("b"));
  }

  // Values at a place of the cursor; null: the newest ones.
  showValues(place) {
    if (!this.series) return;
    this.series.forEach((each, index) => {
      const value = place === null ? each.values.findLast((one) => one !== null) : each.values[place];
      const entry = this.key.children[index]?.lastChild;
      if (entry) setText(entry, value === null || value === undefined ? "–" : this.format(value));
    });
    const at = place === null ? "" : ` at ${timeOf(this.times[place])}`;
    setText(this.element.firstChild, `${this.title}${at}`);
  }

  summary() {
    const newest = this.series.map((each) => {
      const value = each.values.findLast((one) => one !== null);
      return `${each.name} ${value === null || value === undefined ? "no value" : this.format(value)}`;
    });
    return `${this.title}, newest values: ${newest.join(", ") || "none"}. Arrow keys move through time; the table has the same data.`;
  }

  step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.times.length) return;
    event.preventDefault();
    const place = Math.min(Math.max((this.plot.cursor.idx ?? this.times.length - 1) + by, 0), this.times.length - 1);
    this.plot.setCursor({ left: this.plot.valToPos(this.times[place], "x"), top: 10 });
  }

  fillTable() {
    if (!this.table.open || !this.series) return;
    const head = ["time", ...this.series.map((each) => each.name)].map((name) => make("th", { scope: "col" }, name));
    const rows = this.times.map((time, place) => [timeOf(time), ...this.series.map(({ values }) => (values[place] === null ? "–" : this.format(values[place])))]);
    const shown = rows.reverse().slice(0, TABLE_ROWS).map((row) => make("tr", {}, ...row.map((text) => make("td", {}, text))));
    const note = rows.length > TABLE_ROWS ? make("p", { class: "none" }, `the newest ${TABLE_ROWS} of ${rows.length}`) : null;
    this.rows.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...shown)), ...(note ? [note] : []));
  }

  fit() {
    const width = this.canvas.clientWidth;
    if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }
}
