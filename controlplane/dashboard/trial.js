// "Try it": one scoring request, sent by the control plane with the endpoint's own credential; and the call as curl.

import { copyButton, make, milliseconds, section, setText, sizeOf } from "./elements.js";
import { ask, endpointPath, optional, send } from "./rest.js";

const HIDDEN_KEY = "••••••••••••";

export class Trial {
  constructor(name) {
    this.path = endpointPath(name);
    this.secret = "";
    this.sampling = optional(() => ask(`${this.path}/sample`));
    this.input = make("textarea", { id: "trial-body", rows: "5", spellcheck: "false", onkeydown: (event) => this.pressed(event), oninput: () => { this.isEdited = true; } });
    this.source = make("span", { class: "of" });
    this.versions = make("select", { id: "trial-version" }, make("option", { value: "" }, "by the traffic split"));
    this.button = make("button", { type: "submit", class: "primary" }, "Send");
    this.outcome = make("p", { class: "outcome", role: "status" });
    this.output = make("pre", { class: "output", tabindex: "0", "aria-label": "response", hidden: "" });
    this.form = make(
      "form",
      { class: "trial", onsubmit: (event) => this.submitted(event) },
      make("div", { class: "bar" }, make("label", { for: "trial-body" }, "Request body"), this.source),
      this.input,
      make("div", { class: "bar" }, make("label", { for: "trial-version" }, "to"), this.versions, this.button, make("span", { class: "of" }, "Ctrl+Enter")),
      this.outcome,
      this.output,
    );
    this.note = make("p", { class: "none", hidden: "" });
    this.url = make("code");
    this.curl = make("code");
    this.show = make("button", { type: "button", onclick: () => this.toggleSecret() }, "show key");
    const copyUrl = copyButton(async () => this.view.status.scoringUri);
    const copyCurl = copyButton(async () => this.curlLine(this.secret || (await this.fetchSecret())));
    this.element = section(
      "Try it",
      this.note,
      this.form,
      make("div", { class: "call" }, this.url, copyUrl),
      make("div", { class: "call" }, this.curl, this.show, copyCurl),
    );
  }

  async begin() {
    const sample = await this.sampling.ask().catch(() => ({ body: '{"data": []}', source: "" }));
    this.form.hidden = Boolean(this.sampling.refusal);
    this.note.hidden = !this.sampling.refusal;
    setText(this.note, this.sampling.refusal);
    if (!sample || this.isEdited) return;
    this.input.value = sample.body;
    this.input.rows = Math.min(12, Math.max(3, sample.body.split("\n").length));
    setText(this.source, sample.source ? `the sample from ${sample.source}` : "no sample.json and no swagger.json: an empty list");
  }

  update(view) {
    this.view = view;
    const names = Object.keys(view.status.versions);
    if (this.versions.dataset.names !== names.join()) {
      this.versions.dataset.names = names.join();
      this.versions.replaceChildren(this.versions.firstChild, ...names.map((name) => make("option", { value: name }, `version ${name}`)));
    }
    setText(this.url, view.status.scoringUri);
    setText(this.curl, this.curlLine(this.secret || HIDDEN_KEY));
    const word = view.status.auth === "token" ? "token" : "key";
    this.show.hidden = view.status.auth === "none";
    setText(this.show, `${this.secret ? "hide" : "show"} ${word}`);
  }

  pressed(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
  }

  async submitted(event) {
    event.preventDefault();
    this.button.disabled = true;
    setText(this.outcome, "sending…");
    try {
      const answer = await send(`${this.path}/try`, { body: this.input.value, version: this.versions.value || null });
      this.showAnswer(answer);
    } catch (error) {
      this.outcome.className = "outcome failed";
      setText(this.outcome, `not sent: ${error.message}`);
      this.output.hidden = true;
    } finally {
      this.button.disabled = false;
    }
  }

  showAnswer(answer) {
    const good = answer.status < 400;
    this.outcome.className = `outcome ${good ? "good" : "failed"}`;
    const parts = [`${good ? "✓" : "✖"} status ${answer.status}${answer.errorCode ? ` ${answer.errorCode}` : ""}`, milliseconds(answer.durationMs)];
    if (answer.version) parts.push(`version ${answer.version}`);
    if (answer.requestId) parts.push(`request id ${answer.requestId}`);
    if (!answer.isWhole) parts.push(`the first ${sizeOf(answer.sizeBytes)}`);
    setText(this.outcome, parts.join(" · "));
    this.output.hidden = answer.body === "";
    this.output.textContent = answer.contentType.includes("json") ? indented(answer.body) : answer.body;
  }

  curlLine(secret) {
    const header = this.view.status.auth === "none" ? "" : ` -H 'Authorization: Bearer ${secret}'`;
    const body = this.input.value || '{"data": []}';
    const data = body.length > 300 ? "@request.json" : body.replaceAll("'", "'\\''").replaceAll("\n", " ");
    return `curl${header} -H 'Content-Type: application/json' -d '${data}' ${this.view.status.scoringUri}`;
  }

  async fetchSecret() {
    if (this.view.status.auth === "none") return "";
    if (this.view.status.auth === "token") return (await send(`${this.path}/token`, {})).accessToken;
    return (await ask(`${this.path}/keys`)).primaryKey;
  }

  async toggleSecret() {
    this.secret = this.secret ? "" : await this.fetchSecret();
    this.update(this.view);
  }
}

function indented(text) {
  try {
    const value = JSON.parse(text);
    const line = JSON.stringify(value);
    return line.length <= 100 ? line : JSON.stringify(value, null, 1);
  } catch {
    return text;
  }
}
