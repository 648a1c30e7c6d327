// The history of one endpoint: fetched whole once, then only the points that are missing.

import { ask, endpointPath, optional } from "./rest.js";

export const SPANS = { "5m": { text: "5 minutes", seconds: 300 }, "1h": { text: "1 hour", seconds: 3600 }, "24h": { text: "24 hours", seconds: 86400 } };
const GAP_STEPS = 2.5; // a longer distance between points is shown as a gap

export class EndpointHistory {
  constructor(name) {
    this.path = `${endpointPath(name)}/history`;
    this.request = optional((query) => ask(`${this.path}?${new URLSearchParams(query)}`));
    this.choose("1h");
  }

  get refusal() { return this.request.refusal; }

  choose(span) {
    this.span = span;
    this.points = new Map(); // version -> end of the interval -> point
    this.answer = null;
    this.step = 10;
  }

  async refresh() {
    const span = this.span;
    const answer = await this.request.ask({ span, since: Math.max(0, this.lastWhole() - 1) });
    if (!answer || span !== this.span) return; // another span was chosen meanwhile
    this.answer = answer;
    this.step = answer.stepSeconds;
    const names = new Set(answer.versions.map((version) => version.version));
    for (const name of this.points.keys()) if (!names.has(name)) this.points.delete(name);
    for (const version of answer.versions) {
      const kept = this.points.get(version.version) ?? new Map();
      for (const time of kept.keys()) if (time % this.step) kept.delete(time); // an interval that was in progress
      for (const point of version.points) kept.set(point.time, point);
      this.points.set(version.version, kept);
    }
    const from = this.until() - SPANS[span].seconds;
    for (const kept of this.points.values()) for (const time of kept.keys()) if (time <= from) kept.delete(time);
  }

  lastWhole() {
    const times = [...this.points.values()].flatMap((kept) => [...kept.keys()]);
    return Math.max(0, ...times.filter((time) => time % this.step === 0));
  }

  until() {
    const times = [...this.points.values()].flatMap((kept) => [...kept.keys()]);
    return times.length ? Math.max(...times) : Math.floor(Date.now() / 1000);
  }

  // Ends of all intervals, with one more in each gap, where no version has a point.
  times() {
    const all = [...new Set([...this.points.values()].flatMap((kept) => [...kept.keys()]))].sort((one, other) => one - other);
    return all.flatMap((time, place) => (place && time - all[place - 1] > GAP_STEPS * this.step ? [all[place - 1] + this.step, time] : [time]));
  }

  // The values of one version at these times; null where there is none.
  column(version, times, value) {
    const kept = this.points.get(version) ?? new Map();
    return times.map((time) => (kept.has(time) ? value(kept.get(time)) : null));
  }

  codes(versions) {
    const points = versions.flatMap((version) => [...(this.points.get(version) ?? new Map()).values()]);
    return [...new Set(points.flatMap((point) => Object.keys(point.failures)))].sort();
  }

  moves() {
    return (this.answer?.versions ?? []).flatMap((version) => version.scaling.map((move) => ({ ...move, version: version.version })));
  }
}
