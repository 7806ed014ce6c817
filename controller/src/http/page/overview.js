// The list of jobs, and the list of workers.
//
// Rule: pure: from what is known to what is shown.

import { h } from "./dom.js";
import { spark } from "./charts.js";
import * as f from "./format.js";

const ORDER = ["failed", "waiting", "starting", "draining", "running", "stopped", "completed"];

/** A job's state, as a word with a colour. */
export const badge = (state) => h("span", { class: `state ${ORDER.includes(state) ? state : "unknown"}` }, state);

/** A figure under its name. */
export const tile = (name, value, note, kind) =>
  h("div", { class: `tile ${kind ?? ""}`, "data-key": `tile-${name}` },
    h("dt", {}, name), h("dd", {}, value), note && h("p", { class: "note" }, note));

/** Rows per second of the last window; 0 when a window has passed since without rows; undefined when nothing is read. */
export function lastRate(job, now, which = "rows_in") {
  const epoch = job.last_epoch;
  if (!epoch) return undefined;
  const length = epoch.window.end_ms - epoch.window.start_ms;
  if (!["running", "waiting", "draining"].includes(job.state)) return undefined;
  // The next window is committed a moment after its end.
  const recent = now - epoch.committed_ms < length + 5000;
  return recent ? (epoch.counts[which] * 1000) / length : 0;
}

export function jobsPage({ jobs, workers, now, recent }) {
  const sorted = [...jobs].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || (a.job < b.job ? -1 : 1));
  const of = (...states) => jobs.filter((job) => states.includes(job.state)).length;
  const rows = jobs.reduce((sum, job) => sum + (lastRate(job, now) ?? 0), 0);
  const lag = Math.max(0, ...jobs.filter((job) => !["stopped", "completed", "failed"].includes(job.state)).map((job) => job.lag_ms));
  const failed = of("failed");
  const waiting = of("waiting", "starting");
  return [
    h("h1", {}, "Jobs"),
    h("dl", { class: "tiles" },
      tile("Running", f.count(of("running", "draining")), jobs.length === 1 ? "of 1 job" : `of ${f.count(jobs.length)} jobs`),
      tile("Waiting", f.count(waiting), waiting ? "reasons below" : "none", waiting ? "warn" : ""),
      tile("Failed", f.count(failed), failed ? "need attention" : "none", failed ? "bad" : ""),
      tile("Rows in", f.rate(rows), "last windows, all jobs"),
      tile("Farthest behind", f.duration(lag), "of all running jobs"),
      tile("Workers", f.count(workers.length), workers.length ? `${f.bytes(workers.reduce((sum, w) => sum + w.memory_bytes, 0))} of memory` : "none is connected", workers.length ? "" : "warn")),
    jobs.length === 0
      ? h("section", { class: "card empty" }, h("h2", {}, "No jobs yet"), h("p", {}, "Start one from its job file:"), h("pre", {}, h("code", {}, "streamctl submit job.toml")))
      : h("section", { class: "card", "aria-label": "All jobs" }, h("table", { class: "list" },
        h("thead", {}, h("tr", {}, ["Job", "State", "Lag", "Rows in", "Rows out", "Dead", "Unmatched", "Published", "Rows per window"].map((name, at) => h("th", { scope: "col", class: at > 1 ? "number" : "" }, name)))),
        h("tbody", {}, sorted.map((job) => row(job, now, recent.get(job.job)))))),
  ];
}

function row(job, now, epochs = []) {
  const link = `#/job/${encodeURIComponent(job.job)}`;
  const remark = job.error || job.waiting_on.join("; ");
  const cell = (name, value) => h("td", { class: "number", "data-name": name }, value);
  return h("tr", { "data-key": job.job },
    h("th", { scope: "row" }, h("a", { href: link }, job.job), remark && h("span", { class: job.error ? "remark bad" : "remark warn" }, remark)),
    h("td", { "data-name": "State" }, badge(job.state)),
    cell("Lag", ["stopped", "completed", "failed"].includes(job.state) ? "–" : f.duration(job.lag_ms)),
    cell("Rows in", f.rate(lastRate(job, now))),
    cell("Rows out", f.rate(lastRate(job, now, "rows_out"))),
    cell("Dead", f.compact(job.totals.rows_dead)),
    cell("Unmatched", f.compact(job.totals.rows_unmatched)),
    cell("Published", job.published < job.epoch ? `${f.count(job.published)} of ${f.count(job.epoch)}` : f.count(job.published)),
    cell("Rows per window", spark(epochs.map((epoch) => epoch.counts.rows_in), `Rows of the last ${epochs.length} windows`)));
}

export function workersPage({ workers }) {
  return [
    h("h1", {}, "Workers"),
    workers.length === 0
      ? h("section", { class: "card empty" }, h("h2", {}, "No worker is connected"), h("p", {}, "Jobs wait until one is:"), h("pre", {}, h("code", {}, "streamctl-worker --controller http://…")))
      : h("section", { class: "card", "aria-label": "All workers" }, h("table", { class: "list" },
        h("thead", {}, h("tr", {}, ["Worker", "State", "Tasks", "Busy", "Memory", "Flight address"].map((name, at) => h("th", { scope: "col", class: at > 1 && at < 5 ? "number" : "" }, name)))),
        h("tbody", {}, workers.map((worker) => h("tr", { "data-key": worker.worker },
          h("th", { scope: "row" }, h("a", { href: `#/worker/${encodeURIComponent(worker.worker)}` }, worker.worker)),
          h("td", { "data-name": "State" }, h("span", { class: worker.leaving ? "state draining" : "state running" }, worker.leaving ? "leaving" : "ready")),
          h("td", { class: "number", "data-name": "Tasks" }, f.count(worker.tasks)),
          h("td", { class: "number", "data-name": "Busy" }, f.share(worker.busy_permille)),
          h("td", { class: "number", "data-name": "Memory" }, f.bytes(worker.memory_bytes)),
          h("td", { "data-name": "Flight" }, h("code", {}, worker.flight_address))))))),
  ];
}
