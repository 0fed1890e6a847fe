"use strict";
const SECONDS = 2;
const whole = new Intl.NumberFormat("en");
const number = (value, digits = 4) => (value === null || value === undefined ? "–" : value.toPrecision(digits));
const share = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`);
function fill(id, head, rows) {
  const table = document.getElementById(id);
  const line = (cells, kind) => {
    const row = document.createElement("tr");
    row.append(...cells.map(([text, className]) => element(kind, text, className)));
    return row;
  };
  table.replaceChildren(line(head.map((text) => [text]), "th"), ...rows.map((cells) => line(cells, "td")));
}
function fact(name, value) {
  const made = document.createElement("div");
  made.append(element("dt", name), element("dd", value));
  return made;
}
function show(said) {
  const state = document.getElementById("state");
  state.textContent = said.ready ? "ready" : "not ready";
  state.className = said.ready ? "good" : "bad";
  document.getElementById("main").hidden = !said.ready;
  if (!said.ready) return;
  showShadow(said.shadow);
  document.getElementById("name").textContent = said.name;
  const ms = (name) => (said.latency_ms[name] === null ? "–" : `${said.latency_ms[name].toFixed(1)} ms`);
  document.getElementById("facts").replaceChildren(
    fact("model", said.model), fact("version", said.version), fact("steps", said.steps.join(" → ")),
    fact("deltas", whole.format(said.deltas)), fact("rows scored", whole.format(said.total)),
    fact("requests", whole.format(said.served)), fact("failed", whole.format(said.failed)),
    fact("waiting", whole.format(said.queue)), fact("latency, median", ms("p50")), fact("latency, 99 %", ms("p99")),
  );
  fill("outputs", ["output", "mean", "in training", "stability index"], Object.entries(said.outputs).map(
    ([name, of]) => [[name], [number(of.mean)], [number(of.expected_mean)], [number(of.psi, 3), of.psi > 0.25 ? "bad" : ""]],
  ));
  fill("columns", ["column", "missing", "unknown"], Object.keys(said.missing).map(
    (name) => [[name], [share(said.missing[name])], [name in said.unknown ? share(said.unknown[name]) : ""]],
  ));
}
function showShadow(said) {
  document.getElementById("shadow").hidden = said === null;
  if (said === null) return;
  const counts = ["scored", "dropped", "failed"].map((name) => `${whole.format(said[name])} ${name}`).join(", ");
  document.getElementById("shadow-counts").textContent =
    `${said.shadow.version} (${said.ready ? "ready" : "not ready"}); rows: ${counts}; restarts: ${whole.format(said.restarts)}`;
  fill("shadow-outputs", ["output", "served mean", "shadow mean", "difference", "standard error"], Object.entries(said.outputs).map(
    ([name, of]) => [[name], ...[of.served_mean, of.shadow_mean, of.difference, of.standard_error].map((value) => [number(value)])],
  ));
}
async function refresh() {
  try {
    show(await ask("/v1/status"));
  } catch (error) {
    const state = document.getElementById("state");
    state.textContent = error.message;
    state.className = "bad";
  }
}
whenKeyIsGiven(refresh);
refresh();
setInterval(refresh, 1000 * SECONDS);
