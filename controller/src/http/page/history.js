// The past, from the server: lines over time with a real time axis.
//
// Owns: which span of time is shown, how points become lines. Does not own: the points (the controller).
// Rule: where nothing was recorded, a line has a gap; it is never drawn across one.

import { h, hint } from "./dom.js";
import { roundUp } from "./charts.js";
import * as f from "./format.js";

/** Spans of time to choose from, in milliseconds. */
export const SPANS = [["15 min", 900000], ["1 h", 3600000], ["6 h", 21600000], ["24 h", 86400000]];
/** Distances of the marks on the time axis. */
const MARKS_MS = [60000, 300000, 600000, 1800000, 3600000, 7200000, 14400000, 21600000];
/** Marks at most, by width. */
const MARK_WIDTH = 78;

/** Buttons that choose the span of time of all lines on the page. */
export const spans = (span) => h("div", { class: "spans", role: "group", "aria-label": "Span of time" },
  SPANS.map(([name, ms]) => h("button", { type: "button", class: "link", "data-span": ms, "aria-pressed": String(ms === span) }, name)));

/**
 * Lines over time. `series`: `[{ name, kind, points: [[ms, number|null], …] }]`; `step`: the length of a point; a larger
 * distance of two points is a gap.
 */
export function timeline({ id, name, series, axis, from, to, step, width, height = 160, least = 1 }) {
  const [left, right, top, bottom] = [46, 6, 8, 22];
  const inner = height - top - bottom;
  const all = series.flatMap(({ points }) => points).filter(([, value]) => value !== null && value !== undefined);
  const most = Math.max(least, roundUp(Math.max(0, ...all.map(([, value]) => value))));
  const x = (ms) => Math.round((left + ((ms - from) / (to - from)) * (width - left - right)) * 10) / 10;
  const y = (value) => Math.round((top + inner * (1 - value / most)) * 10) / 10;
  return h("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${name}. ${series.map(words(axis)).join("; ")}`, "data-key": `time-${id}`, "data-timeline": id },
    [1, 0.5, 0].map((part) => h("g", {},
      h("line", { class: "grid", x1: left, x2: width - right, y1: y(most * part), y2: y(most * part) }),
      h("text", { class: "tick", x: left - 6, y: y(most * part) + 4, "text-anchor": "end" }, axis(most * part)))),
    marks(from, to, width).map((ms) => h("g", { "data-mark": ms },
      h("line", { class: "grid mark", x1: x(ms), x2: x(ms), y1: top, y2: top + inner }),
      h("text", { class: "tick", x: x(ms), y: height - 6, "text-anchor": "middle" }, f.minute(ms)))),
    series.map(({ kind, points }) => runs(points, from, step).map((run) => {
      const at = (point) => `${x(Math.max(from, point[0] + step / 2))} ${y(point[1])}`;
      // A single point is a short line.
      const path = run.length === 1 ? `M${x(Math.max(from, run[0][0]))} ${y(run[0][1])}L${x(run[0][0] + step)} ${y(run[0][1])}` : run.map((point, n) => `${n ? "L" : "M"}${at(point)}`).join("");
      return h("path", { class: `line ${kind}`, d: path }, hint(`${f.moment(run[0][0])} – ${f.moment(run.at(-1)[0])}`));
    })));
}

/** A line is cut where points are missing for longer than a step. */
function runs(points, from, step) {
  const found = [];
  let before;
  for (const point of points) {
    if (point[1] === null || point[1] === undefined || point[0] + step < from) continue;
    if (before !== undefined && point[0] - before <= 1.5 * step) found.at(-1).push(point);
    else found.push([point]);
    before = point[0];
  }
  return found;
}

/** Round times of the reader's zone, as many as there is room for. */
function marks(from, to, width) {
  const most = Math.max(2, Math.floor(width / MARK_WIDTH));
  const distance = MARKS_MS.find((ms) => (to - from) / ms <= most) ?? MARKS_MS.at(-1);
  const zone = new Date(to).getTimezoneOffset() * 60000;
  const first = Math.ceil((from - zone) / distance) * distance + zone;
  const all = [];
  for (let ms = first; ms <= to; ms += distance) all.push(ms);
  return all;
}

/** The last value, and the largest, as text. */
const words = (axis) => ({ name, points }) => {
  const values = points.map(([, value]) => value).filter((value) => value !== null && value !== undefined);
  return values.length === 0 ? `${name}: nothing was measured` : `${name}: last ${axis(values.at(-1))}, most ${axis(Math.max(...values))}`;
};

const card = (id, title, legend, chart, note) => h("section", { class: "card", "data-key": `history-${id}` },
  h("div", { class: "head" }, h("h2", {}, title), legend && h("ul", { class: "legend", "aria-hidden": "true" }, legend.map(([kind, name]) => h("li", {}, h("span", { class: `swatch ${kind}` }), name)))), chart, note && h("p", { class: "note" }, note));

/** Rows, lag and the way out of a job over time. */
export function historyOf({ past, span, now, late }, { full, half }) {
  if (!past) return undefined;
  const at = (read) => past.points.map((point) => [point.at_ms, read(point)]);
  // The windows of a point may be longer than it, and the last point is not over.
  const length = (point) => Math.max(point.epochs * (past.window_ms ?? 0), Math.min(past.step_ms, now - point.at_ms), 1);
  const perSecond = (key) => at((point) => (point.epochs > 0 ? (point[key] * 1000) / length(point) : null));
  const stage = (key) => at((point) => (point.stages.closed_to_published ? point.stages.closed_to_published[key] / 1000 : null));
  // Windows may be longer than a point: what is between two of them is no gap.
  const gap = Math.max(past.step_ms, past.window_ms ?? 0);
  const frame = { from: now - span, to: now, step: past.step_ms, width: half };
  const note = past.omitted ? "There are more jobs than histories; this job has none."
    : past.reading ? "The windows of earlier leaders are being read." : "Lag, commit and publish are known since this controller leads; rows and delays also before.";
  return [
    h("div", { class: "head past", "data-key": "past" }, h("h2", {}, "Over time"), spans(span)),
    h("div", { class: "pair", "data-key": "past-1" },
      card("rows", "Rows per second", [["line-in", "in"], ["line-a", "out"]],
        timeline({ ...frame, step: gap, id: "rows", name: "Rows per second", axis: f.compact, series: [{ name: "in", kind: "line-in", points: perSecond("rows_in") }, { name: "out", kind: "line-a", points: perSecond("rows_out") }] })),
      card("lag", "Lag, and delay of windows", [["line-a", "lag"], ["line-in", "from a window's end to its commit"]],
        timeline({ ...frame, step: gap, id: "past-lag", name: "Lag and delay", axis: f.duration, least: 1000, series: [{ name: "delay", kind: "line-in", points: at((point) => point.delay_ms) }, { name: "lag", kind: "line-a", points: at((point) => point.lag_ms) }] }), late)),
    card("out", "From closed to published", [["line-a", "median"], ["line-bad", "95th percentile"]],
      timeline({ ...frame, width: full, step: gap, id: "closed-to-published", name: "Time from closed to published", axis: f.duration, least: 10, series: [{ name: "median", kind: "line-a", points: stage("p50_us") }, { name: "95th percentile", kind: "line-bad", points: stage("p95_us") }] })),
    h("p", { class: "note past-note", "data-key": "past-note" }, note),
  ];
}

const NAMES = ["decode", "transform", "stage", "report", "commit", "publish", "closed_to_published"];

/** Each stage now, and at its worst of the span. */
export function stagesOf(past) {
  if (!past) return undefined;
  const measured = (name) => past.points.filter((point) => point.stages[name]).map((point) => point.stages[name]);
  const ms = (us) => f.duration(us / 1000);
  return h("section", { class: "card", "data-key": "history-stages" }, h("h2", {}, "Stages over time"),
    h("table", { class: "list" }, h("thead", {}, h("tr", {}, ["Stage", "Last median", "Last 95th", "Worst 95th"].map((name, n) => h("th", { scope: "col", class: n > 0 ? "number" : "" }, name)))),
      h("tbody", {}, NAMES.map((name) => {
        const all = measured(name);
        const last = all.at(-1);
        const texts = last ? [ms(last.p50_us), ms(last.p95_us), ms(Math.max(...all.map((one) => one.p95_us)))] : ["–", "–", "–"];
        return h("tr", { "data-key": name }, h("th", { scope: "row" }, name.replaceAll("_", " ")), texts.map((text, n) => h("td", { class: "number", "data-name": ["Last median", "Last 95th", "Worst 95th"][n] }, text)));
      }))));
}
