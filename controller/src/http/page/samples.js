// Some rows, and some dead letters, of an epoch: on request.
//
// Owns: how values look. Does not own: what is read, and where it is cut (the controller).
// Rule: nothing is read unless the reader of the page requests it, and what was read stays until another sample takes
// its place: windows come and go every second. Values are text and nothing else.

import { h } from "./dom.js";
import { get } from "./api.js";
import * as f from "./format.js";

const TITLES = { rows: "Rows", "dead-letters": "Dead letters" };
/** What a sample is read from. */
const ORIGINS = { memory: "from a worker's memory", objects: "from the published objects", stream: "computed from the stream again" };

/** Reads a sample; gives it with its error, if there is one. */
export async function fetchSample(job, kind, epoch) {
  try {
    return { kind, epoch, answer: await get(`jobs/${encodeURIComponent(job)}/epochs/${epoch}/${kind}`) };
  } catch (error) {
    return { kind, epoch, error };
  }
}

/** The buttons for the window that is chosen, and the sample that was read last. */
export function samplesOf({ sample, picked }) {
  if (!picked) return undefined;
  return h("section", { class: "card", "data-key": "samples" },
    h("div", { class: "head" }, h("h2", {}, `Sample of epoch ${f.count(picked.epoch)}`), h("div", { class: "spans", role: "group", "aria-label": "What to read" },
      button("rows", picked), button("dead-letters", picked), sample && h("button", { type: "button", class: "link", "data-action": "hide-sample" }, "Hide"))),
    !picked.published && h("p", { class: "note" }, `Epoch ${f.count(picked.epoch)} is not published yet.`),
    sample ? shown(sample) : h("p", { class: "note" }, "Some rows of the chosen window, as they were written, or some records that are not in the result. They are read when you request them."));
}

const button = (kind, { epoch, published }) =>
  h("button", { type: "button", class: "link", "data-sample": kind, "data-epoch": epoch, disabled: !published }, TITLES[kind]);

function shown({ kind, epoch, answer, error }) {
  const title = h("h3", {}, `${TITLES[kind]} of epoch ${f.count(epoch)}`);
  const body = (...parts) => h("div", { class: "picked", "data-key": `sample-${kind}-${epoch}`, role: "status" }, title, parts);
  if (error) return body(h("p", { class: "message" }, error.message), error.hint && h("p", { class: "hint" }, h("strong", {}, "What to do: "), error.hint));
  if (!answer) return body(h("p", { class: "note" }, "Reading…"));
  const table = kind === "rows" ? rowsTable(answer) : lettersTable(answer);
  return body(h("p", { class: "note" }, summary(kind, answer)),
    answer.problem && h("p", { class: "message" }, `Not all could be read: ${answer.problem}`),
    answer.rows.length > 0 && h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": TITLES[kind] }, table));
}

function summary(kind, { rows, rows_in_epoch: total, rows_from: origin }) {
  const what = kind === "rows" ? "rows" : "dead letters";
  if (rows.length === 0) return `This epoch has no ${what}.`;
  const of = total === null ? "" : ` of ${f.count(total)}`;
  return [`${f.count(rows.length)}${of} ${what}`, ORIGINS[origin]].filter(Boolean).join(", ");
}

const cell = (name, text, kind) =>
  h("td", { class: kind, "data-name": name }, text === null ? h("em", {}, "null") : h("span", { class: "value" }, text));

const head = (names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));

function rowsTable({ columns, rows }) {
  return h("table", { class: "list sample" }, head(["#", ...columns.map((column) => column.name)]),
    h("tbody", {}, rows.map((row, at) => h("tr", { "data-key": at },
      h("th", { scope: "row" }, at + 1), row.map((text, n) => cell(columns[n].name, text))))));
}

/** Reason, place and bytes, whatever order the columns have. */
function lettersTable({ columns, rows }) {
  const at = (name) => columns.findIndex((column) => column.name === name);
  const [reason, shard, sequence, sub, time, payload, kind] = ["reason", "shard", "sequence_number", "sub_sequence", "arrival_time", "payload", "kind"].map(at);
  const place = (row) => (row[kind] === "row" ? "a row of the result" : `${row[shard]} ${row[sequence]}${row[sub] === "0" ? "" : `/${row[sub]}`}`);
  return h("table", { class: "list sample" }, head(["Reason", "Place", "Arrived", "Payload"]),
    h("tbody", {}, rows.map((row, n) => h("tr", { "data-key": n },
      h("th", { scope: "row" }, h("span", { class: "value" }, row[reason])),
      cell("Place", place(row)), h("td", { "data-name": "Arrived", title: row[time] }, f.moment(Date.parse(row[time]))), cell("Payload", row[payload], "whole")))));
}
