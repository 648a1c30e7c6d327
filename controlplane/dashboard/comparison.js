// Control and treatments side by side: sentences, figures, and the interval of the difference as a drawing.

import { draw, make, milliseconds, number, section, showOnChange } from "./elements.js";

const VERDICTS = { worse: ["▲ worse", "bad"], better: ["▼ better", "ok"], "no difference yet": ["● no difference yet", "wait"] };
const points = (share) => `${share > 0 ? "+" : share < 0 ? "−" : ""}${Math.abs(share * 100).toFixed(2)}`;
const exact = (share) => (share === null ? "–" : `${(share * 100).toFixed(2)} %`);

export class Comparisons {
  constructor() {
    this.rows = make("div", { class: "comparisons" });
    this.element = section("Control and treatments", this.rows);
    this.element.hidden = true;
  }

  show(comparisons, spanText) {
    this.element.hidden = comparisons.length === 0;
    showOnChange(this.rows, [comparisons, spanText], () => comparisons.map((each) => comparison(each, spanText)));
  }
}

function comparison(found, spanText) {
  const { control, treatment } = found;
  const [verdict, tone] = VERDICTS[found.verdict];
  const row = (name, field) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, field(control)), make("td", {}, field(treatment)));
  const head = ["", `${control.version} (control)`, treatment.version].map((name) => (name ? make("th", { scope: "col" }, name) : make("td")));
  const figures = make(
    "table",
    { "aria-label": `${treatment.version} and ${control.version} over ${spanText}` },
    make("thead", {}, make("tr", {}, ...head)),
    make(
      "tbody",
      {},
      row("requests", (arm) => number(arm.requests)),
      row("failures", (arm) => number(arm.failures)),
      row("failure rate", (arm) => exact(arm.failureRate)),
      row("mean time", (arm) => milliseconds(arm.meanMs)),
    ),
  );
  return make(
    "article",
    { class: "comparison" },
    make("h4", {}, treatment.version, make("span", { class: `pill ${tone}` }, verdict), make("span", { class: "of" }, `over ${spanText}`)),
    make("p", { class: "sentence" }, found.summary),
    make("div", { class: "sides" }, figures, found.failureRateDifference === null ? "" : interval(found)),
  );
}

// The difference of the failure rates with its interval, on a scale with zero in the middle.
function interval(found) {
  const [low, high] = found.failureRateInterval;
  const most = Math.max(Math.abs(low), Math.abs(high), 0.001);
  const at = (share) => 110 + (share / most) * 90;
  const text = (x, y, content, anchor = "middle") => draw("text", { x, y, "text-anchor": anchor }, content);
  const drawing = draw(
    "svg",
    { viewBox: "0 0 220 78", class: `interval ${VERDICTS[found.verdict][1]}`, role: "img" },
    draw("line", { class: "zero", x1: 110, x2: 110, y1: 18, y2: 58 }),
    draw("line", { class: "whisker", x1: at(low), x2: at(high), y1: 36, y2: 36 }),
    draw("line", { class: "whisker", x1: at(low), x2: at(low), y1: 30, y2: 42 }),
    draw("line", { class: "whisker", x1: at(high), x2: at(high), y1: 30, y2: 42 }),
    draw("circle", { cx: at(found.failureRateDifference), cy: 36, r: 4.5 }),
    text(at(found.failureRateDifference), 22, points(found.failureRateDifference)),
    text(Math.max(at(low), 16), 56, points(low)),
    text(Math.min(at(high), 204), 56, points(high)),
    text(110, 73, "difference in percentage points"),
  );
  const between = `between ${points(low)} and ${points(high)}`;
  drawing.setAttribute("aria-label", `difference of the failure rates ${points(found.failureRateDifference)} percentage points, ${between}`);
  return drawing;
}
