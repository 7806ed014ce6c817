// What a job's query did: its operators as a graph, the busy ones coloured, and as a table.
//
// Owns: where each operator stands. Does not own: the figures (the controller).
// Rule: pure; colour is never the only sign: each box has its share as text, and the table has all figures.

import { h, hint } from "./dom.js";
import * as f from "./format.js";

/** Shares of the time from which an operator is warm, and hot. */
const WARM = 0.1;
const HOT = 0.25;
const [WIDE, TALL, GAP, BETWEEN] = [168, 44, 34, 12];

/** Time of an operator. */
const time = (us) => (us === null ? "–" : us < 1000 ? `${us} µs` : f.duration(us / 1000));
const rows = (n) => (n === null ? "–" : f.count(n));
const part = (operator, total) => (operator.compute_us === null || total === 0 ? undefined : operator.compute_us / total);
const percent = (share) => (share === undefined ? "–" : `${Math.round(share * 100)} %`);
const heat = (share) => (share >= HOT ? "hot" : share >= WARM ? "warm" : "cool");

export function planOf({ profile }) {
  if (!profile) return undefined;
  const head = h("h2", {}, "Query");
  const { last, sum } = profile;
  if (!last) return h("section", { class: "card", "data-key": "plan" }, head, h("p", { class: "empty" }, "No window is committed under this leader yet."));
  const omitted = last.tasks_omitted > 0 ? `, without ${f.count(last.tasks_omitted)} of another plan` : "";
  return h("section", { class: "card", "data-key": "plan" },
    h("div", { class: "head" }, head, h("p", { class: "note" }, `epoch ${f.count(last.epoch)}: ${time(last.total_us)} in ${f.count(last.tasks)} ${last.tasks === 1 ? "task" : "tasks"}${omitted}`)),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Operators as a graph" }, graph(last)),
    h("details", { "data-key": "operators" }, h("summary", {}, "As a table"), table(last, sum, profile.windows)));
}

/** Each operator's children: those that follow it and are one deeper. */
function tree(operators) {
  const above = [];
  return operators.map((operator, at) => {
    above[operator.depth] = at;
    return { ...operator, at, parent: operator.depth > 0 ? above[operator.depth - 1] : undefined };
  });
}

/** Rows flow from left to right; each leaf has a line of its own, and others stand in the middle of those they read. */
function graph({ operators, total_us: total }) {
  const nodes = tree(operators);
  const deepest = Math.max(...nodes.map((node) => node.depth));
  const lines = new Map();
  let next = 0;
  for (const node of nodes.toReversed()) {
    const below = nodes.filter((other) => other.parent === node.at).map((other) => lines.get(other.at));
    lines.set(node.at, below.length ? below.reduce((sum, line) => sum + line, 0) / below.length : next++);
  }
  const spot = (node) => [4 + (deepest - node.depth) * (WIDE + GAP), 4 + lines.get(node.at) * (TALL + BETWEEN)];
  const edges = nodes.filter((node) => node.parent !== undefined).map((node) => {
    const [[x1, y1], [x2, y2]] = [spot(node), spot(nodes[node.parent])];
    const [ax, ay, bx, by] = [x1 + WIDE, y1 + TALL / 2, x2, y2 + TALL / 2];
    return h("path", { class: "edge", d: `M${ax} ${ay}C${ax + GAP / 2} ${ay} ${bx - GAP / 2} ${by} ${bx} ${by}` });
  });
  const boxes = nodes.map((node) => {
    const [x, y] = spot(node);
    const share = part(node, total);
    return h("g", { class: `operator ${heat(share ?? 0)}`, "data-key": `operator-${node.at}` },
      h("rect", { x, y, width: WIDE, height: TALL, rx: 6 }),
      h("text", { class: "name", x: x + 10, y: y + 18 }, cut(node.name)),
      h("text", { x: x + 10, y: y + 35 }, `${node.rows === null ? "–" : f.compact(node.rows)} rows · ${time(node.compute_us)} · ${percent(share)}`),
      hint(words(node, share)));
  });
  const width = 8 + (deepest + 1) * WIDE + deepest * GAP;
  const height = 8 + next * (TALL + BETWEEN) - BETWEEN;
  return h("svg", { class: "lineage plan", viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": `${nodes.length} operators of the query; the busiest: ${words(...busiest(nodes, total))}` }, edges, boxes);
}

const cut = (name) => (name.length > 20 ? `${name.slice(0, 19)}…` : name);
const words = (node, share) => `${node.name}: ${rows(node.rows)} rows, ${time(node.compute_us)}, ${percent(share)} of the time${node.detail ? `; ${node.detail}` : ""}`;

function busiest(nodes, total) {
  const node = nodes.reduce((most, other) => ((other.compute_us ?? 0) > (most.compute_us ?? 0) ? other : most));
  return [node, part(node, total)];
}

function table(last, sum, windows) {
  const names = ["Operator", "Rows", "Time", "Share", `Rows of ${f.count(windows)} windows`, "Time of these", "Share of these", "Detail"];
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Operators as a table" }, h("table", { class: "broad operators" },
    h("thead", {}, h("tr", {}, names.map((name, at) => h("th", { scope: "col", class: at > 0 && at < 7 ? "number" : "" }, name)))),
    h("tbody", {}, last.operators.map((operator, at) => {
      const all = sum.operators[at];
      return h("tr", { "data-key": at },
        h("th", { scope: "row" }, "\u00a0".repeat(2 * operator.depth), operator.name),
        [rows(operator.rows), time(operator.compute_us), percent(part(operator, last.total_us)), rows(all.rows), time(all.compute_us), percent(part(all, sum.total_us))]
          .map((text) => h("td", { class: "number" }, text)),
        h("td", {}, h("code", {}, operator.detail)));
    }))));
}
