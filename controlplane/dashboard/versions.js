// The versions of an endpoint as they are now: replicas, slots, utilization, messages.

import { make, percent, plural } from "./elements.js";

const MOST_SQUARES = 48; // more slots are shown as one bar

function slotsOf(status) {
  const holder = make("div", { class: "slots" });
  if (status.total > MOST_SQUARES) {
    const fill = make("i");
    fill.style.width = `${Math.min(status.utilization, 1) * 100}%`;
    holder.append(make("span", { class: "meter", "aria-hidden": "true" }, fill));
  } else {
    const squares = [];
    for (let slot = 0; slot < status.total; slot += 1) {
      squares.push(make("i", { class: slot < status.busy ? "slot busy" : "slot" }));
    }
    for (let each = 0; each < Math.min(status.waiting, 12); each += 1) squares.push(make("i", { class: "slot waiting" }));
    holder.append(make("span", { class: "squares", "aria-hidden": "true" }, ...squares));
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

function messageOf(status) {
  if (!status.message) return null;
  const [first, ...rest] = status.message.split("\n");
  const message = make("div", { class: status.failed ? "message" : "message soft" }, make("strong", {}, first));
  if (rest.length) message.append(make("pre", { tabindex: "0", "aria-label": "last log lines" }, rest.join("\n")));
  return message;
}

function versionRow(name, status, place, isOnly) {
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
    make("div", { class: "use" }, make("b", {}, `${Math.round(status.utilization * 100)} %`), " in use"),
  );
  const message = messageOf(status);
  if (message) row.append(message);
  return row;
}

export function versionRows(versions) {
  const entries = Object.entries(versions);
  return entries.map(([name, status], place) => versionRow(name, status, place, entries.length === 1));
}
