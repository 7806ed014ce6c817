// Small charts: bars over time, a bar of a share, a tree of shards.
//
// Owns: how figures become shapes. Does not own: the figures, colours (style.css).
// Rule: a chart never is the only place of a figure: what it shows is also text beside it, or in a table.

import { h, hint } from "./dom.js";

/** A round number at or above `n`, so that an axis does not jump at every window. */
export function roundUp(n) {
  if (n <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 1.5, 2, 3, 5, 7.5, 10].find((step) => step * power >= n) * power;
}

/**
 * Stacked bars, one per window, the newest at the right.
 * `bars`: `[{ key, label, parts: [number, …], gap }]`, `gap`: why it does not follow the one before; `kinds`: a class for each part; `axis`: how its top is written.
 */
export function bars({ id, name, bars: list, kinds, axis, width, height = 160, slots, selected, ticks = [] }) {
  const [left, right, top, bottom] = [46, 4, 8, 20];
  const most = roundUp(Math.max(0, ...list.map((bar) => bar.parts.reduce((a, b) => a + b, 0))));
  const step = (width - left - right) / slots;
  const inner = height - top - bottom;
  const offset = slots - list.length;
  const columns = list.map((bar, index) => {
    const x = left + (offset + index) * step;
    let y = top + inner;
    const shapes = bar.parts.map((part, at) => {
      const tall = (part / most) * inner;
      // What is there is seen, however little it is.
      const drawn = part > 0 ? Math.max(tall, 1.5) : 0;
      y -= drawn;
      return drawn > 0 && h("rect", { class: `part ${kinds[at]}`, x: x + step * 0.12, y, width: step * 0.76, height: drawn });
    });
    const chosen = bar.key === selected;
    return h("g", { class: chosen ? "bar chosen" : "bar", "data-pick": bar.key, "data-key": `b${bar.key}` },
      h("rect", { class: "touch", x, y: top, width: step, height: inner }), shapes, hint(bar.label),
      bar.gap && h("g", { class: "gap" }, h("line", { x1: x, x2: x, y1: top, y2: top + inner }), hint(bar.gap)));
  });
  const at = list.findIndex((bar) => bar.key === selected);
  return h("svg", {
    class: "chart", viewBox: `0 0 ${width} ${height}`, "data-chart": id, "data-key": `chart-${id}`,
    role: list.length ? "slider" : "img", tabindex: list.length ? 0 : undefined, "aria-label": name,
    "aria-valuemin": list.length ? 1 : undefined, "aria-valuemax": list.length || undefined,
    "aria-valuenow": list.length ? at + 1 || list.length : undefined,
    "aria-valuetext": list.length ? (list[at] ?? list.at(-1)).label : undefined,
  },
  grid(left, width, top, inner, most, axis),
  columns,
  ticks.map(({ index, text }) => {
    // The last one ends with the chart.
    const last = offset + index === slots - 1;
    return h("text", { class: "tick", x: left + (offset + index + (last ? 1 : 0.5)) * step, y: height - 5, "text-anchor": last ? "end" : "middle" }, text);
  }));
}

function grid(left, width, top, inner, most, axis) {
  return [1, 0.5, 0].map((part) => {
    const y = top + inner * (1 - part);
    return h("g", {},
      h("line", { class: "grid", x1: left, x2: width - 4, y1: y, y2: y }),
      h("text", { class: "tick", x: left - 6, y: y + 4, "text-anchor": "end" }, axis(most * part)));
  });
}

/** A very small line without axes. */
export function spark(values, name) {
  const [width, height] = [96, 26];
  const most = Math.max(1, ...values);
  const step = width / Math.max(1, values.length - 1);
  const path = values.map((value, at) => `${at ? "L" : "M"}${Math.round(at * step * 10) / 10} ${Math.round((height - 2 - (value / most) * (height - 4)) * 10) / 10}`).join("");
  return h("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name },
    values.length > 1 && h("path", { class: "area line-a", d: `${path}L${width} ${height}L0 ${height}Z` }),
    values.length > 1 && h("path", { class: "line line-a", d: path }));
}

/** How much of a whole, as a bar behind a number. */
export function share(part, of, text) {
  return h("span", { class: "share" },
    h("svg", { class: "meter", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
      h("rect", { class: "meter-back", width: 100, height: 6 }),
      h("rect", { class: "meter-part", width: of > 0 ? Math.min(100, (100 * part) / of) : 0, height: 6 })),
    h("span", {}, text));
}

/** Where shards come from: each generation is a column, lines lead from parents to children. */
export function lineage(shards) {
  const byName = new Map(shards.map((shard) => [shard.shard, shard]));
  const depth = new Map();
  const depthOf = (name, seen = new Set()) => {
    if (depth.has(name)) return depth.get(name);
    if (seen.has(name)) return 0;
    seen.add(name);
    const parents = (byName.get(name)?.parents ?? []).filter((parent) => byName.has(parent));
    const found = parents.length ? 1 + Math.max(...parents.map((parent) => depthOf(parent, seen))) : 0;
    depth.set(name, found);
    return found;
  };
  const columns = [];
  for (const shard of shards) (columns[depthOf(shard.shard)] ??= []).push(shard);
  if (columns.length < 2) return undefined;
  const [wide, tall, gap] = [170, 26, 70];
  const height = Math.max(...columns.map((column) => column.length)) * (tall + 10) + 10;
  const spot = new Map();
  columns.forEach((column, x) => column.forEach((shard, y) => {
    const free = height / column.length;
    spot.set(shard.shard, [10 + x * (wide + gap), free * (y + 0.5) - tall / 2]);
  }));
  const lines = shards.flatMap((shard) => shard.parents.filter((parent) => spot.has(parent)).map((parent) => {
    const [[x1, y1], [x2, y2]] = [spot.get(parent), spot.get(shard.shard)];
    const [ax, ay, bx, by] = [x1 + wide, y1 + tall / 2, x2, y2 + tall / 2];
    return h("path", { class: "edge", d: `M${ax} ${ay}C${ax + gap / 2} ${ay} ${bx - gap / 2} ${by} ${bx} ${by}` });
  }));
  const boxes = shards.map((shard) => {
    const [x, y] = spot.get(shard.shard);
    return h("g", { class: shard.ended ? "shard ended" : "shard" },
      h("rect", { x, y, width: wide, height: tall, rx: 6 }),
      h("text", { x: x + 10, y: y + 17 }, shard.shard.length > 22 ? `…${shard.shard.slice(-21)}` : shard.shard),
      hint(`${shard.shard}${shard.ended ? ", read to its end" : ""}`));
  });
  const width = 20 + columns.length * wide + (columns.length - 1) * gap;
  return h("svg", { class: "lineage", viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": `Lineage of ${shards.length} shards in ${columns.length} generations` }, lines, boxes);
}
