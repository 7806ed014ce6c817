// One worker: its jobs, its limits, its load over time.
//
// Rule: pure: from what is known to what is shown.

import { h } from "./dom.js";
import { spans, timeline } from "./history.js";
import { tile } from "./overview.js";
import * as f from "./format.js";

const cores = (permille) => (permille === null || permille === undefined ? "–" : `${(permille / 1000).toFixed(2)}`);

/** Far beyond all times: all its shards have ended. */
const upTo = (ms) => (ms <= 0 ? "nothing yet" : ms > 8e15 ? "the end" : f.clock(ms));

export function workerPage({ worker: details, refused, now, span, width }) {
  if (refused) return [h("h1", {}, "No such worker"), h("section", { class: "card problem bad" }, h("p", {}, refused.message), refused.hint && h("p", { class: "hint" }, refused.hint), h("p", {}, h("a", { href: "#/workers" }, "All workers")))];
  if (!details) return h("p", { class: "card" }, "Loading…");
  const { worker, tasks, load } = details;
  const shards = tasks.reduce((sum, task) => sum + task.shards, 0);
  const jobs = new Set(tasks.map((task) => task.job)).size;
  const half = width >= 856 ? Math.max(240, (width - 16) / 2 - 38) : Math.max(240, width - 38);
  const frame = { from: now - span, to: now, step: details.step_ms, width: half };
  const at = (key) => load.map((point) => [point.at_ms, point[key]]);
  const limit = worker.memory_limit_bytes;
  return [
    h("p", { class: "crumbs" }, h("a", { href: "#/workers" }, "Workers"), " / "),
    h("h1", { class: "job" }, h("span", { class: "name" }, worker.worker), " ", h("span", { class: worker.leaving ? "state draining" : "state running" }, worker.leaving ? "leaving" : "ready")),
    h("dl", { class: "tiles" },
      tile("CPU", cores(worker.cpu_permille), "processors, of the whole process"),
      tile("Busy", f.share(worker.busy_permille), "what bounds it"),
      tile("Memory", f.bytes(worker.memory_bytes), limit ? `limit ${f.bytes(limit)}` : "resident"),
      tile("Jobs", f.count(jobs), `${f.count(tasks.length)} tasks, ${f.count(shards)} shards`),
      tile("Compute threads", worker.compute_threads ?? "–", worker.version ? `version ${worker.version}` : ""),
      tile("Connected", f.duration(Math.max(0, now - worker.joined_ms)), f.moment(worker.joined_ms))),
    h("div", { class: "head past" }, h("h2", {}, "Over time"), spans(span)),
    h("div", { class: "pair" },
      h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "CPU, in processors")),
        timeline({ ...frame, id: "cpu", name: "CPU time in processors", axis: (n) => (n / 1000).toFixed(1), least: 1000, series: [{ name: "CPU", kind: "line-a", points: at("cpu_permille") }] })),
      h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Memory")),
        timeline({ ...frame, id: "memory", name: "Resident memory", axis: f.bytes, least: 64 << 20, series: [{ name: "memory", kind: "line-a", points: at("memory_bytes") }] }))),
    h("section", { class: "card", "data-key": "worker-tasks" }, h("h2", {}, "Tasks"),
      tasks.length === 0 ? h("p", { class: "empty" }, "It has none.")
        : h("table", { class: "list" }, h("thead", {}, h("tr", {}, ["Job", "Task", "Shards", "Reported up to"].map((name, n) => h("th", { scope: "col", class: n === 2 ? "number" : "" }, name)))),
          h("tbody", {}, tasks.map((task) => h("tr", { "data-key": task.task },
            h("th", { scope: "row" }, h("a", { href: `#/job/${encodeURIComponent(task.job)}` }, task.job)),
            h("td", { "data-name": "Task" }, h("code", {}, task.task)),
            h("td", { class: "number", "data-name": "Shards" }, f.count(task.shards)),
            h("td", { "data-name": "Reported up to" }, upTo(task.watermark_ms))))))),
    h("section", { class: "card" }, h("h2", {}, "About"), h("dl", { class: "facts" }, h("div", {}, h("dt", {}, "Flight address"), h("dd", {}, h("code", {}, worker.flight_address))))),
  ];
}
