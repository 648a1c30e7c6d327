// The last failed requests of an endpoint.

import { copyButton, make, milliseconds, section, setText, showOnChange, timeOf } from "./elements.js";
import { ask, endpointPath, optional } from "./rest.js";

const SHOWN = 25;
const COLUMNS = ["time", "status", "version", "reason", "request id", "took"];

export class Failures {
  constructor(name) {
    this.request = optional(() => ask(`${endpointPath(name)}/failures?last=${SHOWN}`));
    this.body = make("tbody");
    const head = make("thead", {}, make("tr", {}, ...COLUMNS.map((column) => make("th", { scope: "col" }, column))));
    this.table = make("table", { "aria-label": "Recent failures" }, head, this.body);
    this.note = make("p", { class: "none" });
    this.frame = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of recent failures" }, this.table);
    this.element = section("Recent failures", this.note, this.frame);
  }

  async refresh() {
    const answer = await this.request.ask();
    const found = answer?.value ?? [];
    this.frame.hidden = found.length === 0;
    this.note.hidden = found.length > 0;
    setText(this.note, this.request.refusal || "None since the routers started.");
    showOnChange(this.body, found, () => found.map(failureRow));
  }
}

function failureRow(failed) {
  const wait = failed.queueWaitMs >= 1 ? `, of it ${milliseconds(failed.queueWaitMs)} in the queue` : "";
  const replica = failed.replica ? make("span", { class: "of" }, ` ${failed.replica}`) : "";
  return make(
    "tr",
    {},
    make("td", {}, make("time", { datetime: new Date(failed.at * 1000).toISOString() }, timeOf(failed.at))),
    make("td", {}, make("b", {}, String(failed.status)), failed.code ? ` ${failed.code}` : ""),
    make("td", {}, failed.version || "–"),
    make("td", {}, failed.reason, replica),
    make("td", { class: "id" }, make("code", {}, failed.requestId), copyButton(async () => failed.requestId)),
    make("td", {}, milliseconds(failed.durationMs), make("span", { class: "of" }, wait)),
  );
}
