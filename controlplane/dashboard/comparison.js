// Control and treatments side by side: sentences, figures, and the interval of the difference as a drawing.

import { draw, make, milliseconds, number, section, showOnChange } from "./elements.js";

const VERDICTS = {
  worse: ["▲ fails more", "bad"],
  better: ["▼ fails less", "ok"],
  slower: ["▲ slower", "bad"],
  faster: ["▼ faster", "ok"],
};
const UNDECIDED = ["● no difference yet", "wait"];
const signed = (digits) => (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}`;
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
  const decided = [found.verdict, found.latencyVerdict].filter((word) => word in VERDICTS).map((word) => VERDICTS[word]);
  const pills = (decided.length ? decided : [UNDECIDED]).map(([text, tone]) => make("span", { class: `pill ${tone}` }, text));
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
    make("h4", {}, treatment.version, ...pills, make("span", { class: "of" }, `over ${spanText}`)),
    make("p", { class: "sentence" }, found.summary),
    make("div", { class: "sides" }, figures, make("div", { class: "intervals" }, ...intervals(found))),
  );
}

function intervals(found) {
  const drawings = [];
  if (found.failureRateDifference !== null) {
    const [low, middle, high] = [found.failureRateInterval[0], found.failureRateDifference, found.failureRateInterval[1]];
    drawings.push(interval([low, middle, high].map((share) => share * 100), signed(2), "failure rate: difference in points", found.verdict));
  }
  if (found.meanDifferenceIntervalMs) {
    const [low, high] = found.meanDifferenceIntervalMs;
    drawings.push(interval([low, found.meanDifferenceMs, high], signed(1), "mean time: difference in ms", found.latencyVerdict));
  }
  return drawings;
}

// A difference with its interval, on a scale with zero in the middle. bounds: low, difference, high.
function interval([low, middle, high], format, title, verdict) {
  const most = Math.max(Math.abs(low), Math.abs(high), 1e-9);
  const at = (value) => 110 + (value / most) * 90;
  const text = (x, y, content) => draw("text", { x: Math.min(Math.max(x, 18), 202), y, "text-anchor": "middle" }, content);
  const near = at(high) - at(low) < 48; // the two numbers would overlap
  const whisker = (x1, x2, y1, y2) => draw("line", { class: "whisker", x1, x2, y1, y2 });
  const drawing = draw(
    "svg",
    { viewBox: "0 0 220 78", class: `interval ${(VERDICTS[verdict] ?? UNDECIDED)[1]}`, role: "img" },
    draw("line", { class: "zero", x1: 110, x2: 110, y1: 24, y2: 46 }),
    whisker(at(low), at(high), 36, 36),
    whisker(at(low), at(low), 30, 42),
    whisker(at(high), at(high), 30, 42),
    draw("circle", { cx: at(middle), cy: 36, r: 4.5 }),
    text(at(middle), 22, format(middle)),
    ...(near ? [text((at(low) + at(high)) / 2, 57, `${format(low)} to ${format(high)}`)] : [text(at(low), 57, format(low)), text(at(high), 57, format(high))]),
    text(110, 73, title),
  );
  drawing.setAttribute("aria-label", `${title} ${format(middle)}, between ${format(low)} and ${format(high)}`);
  return drawing;
}
