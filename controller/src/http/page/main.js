// The dashboard: what is known, which page is shown, when it is drawn.
//
// Owns: the state of the page and its only changes. Does not own: how things look (overview, job), how they are asked
// for (api).
// Rule: what is shown is always all that is known; when the line is lost, it stays, and says how old it is.

import { again, get, isLine } from "./api.js";
import { h, show } from "./dom.js";
import { jobsPage, workersPage } from "./overview.js";
import { WINDOWS_SHOWN, jobPage } from "./job.js";
import * as f from "./format.js";

/** Points of the lines over time. */
const HISTORY_MAX = 400;
/** Jobs whose last windows are asked for at the first look; those of others come with time. */
const SPARKS_MAX = 12;
/** Windows in a job's small line. */
const SPARK_WINDOWS = 30;

const known = {
  cluster: undefined, jobs: [], workers: [], loaded: false,
  recent: new Map(), asked: new Set(),
  job: undefined, epochs: [], history: [], selected: undefined, refused: undefined,
  offset: 0, seen: undefined, line: { ok: undefined },
};

const page = () => {
  const [, kind, name] = location.hash.split("/");
  return kind === "job" ? { kind, name: decodeURIComponent(name ?? "") } : { kind: kind || "jobs" };
};
const now = () => Date.now() + known.offset;

async function ask() {
  const { kind, name } = page();
  const [cluster, { jobs }, { workers }] = await Promise.all([get("cluster"), get("jobs"), get("workers")]);
  Object.assign(known, { cluster, jobs, workers, loaded: true, offset: cluster.now_ms - Date.now() });
  remember(jobs);
  if (kind === "job") await askJob(name);
  else await firstWindows(jobs);
  known.seen = Date.now();
}

/** The small lines go on with every window that is seen. */
function remember(jobs) {
  const names = new Set(jobs.map((job) => job.job));
  for (const name of known.recent.keys()) if (!names.has(name)) known.recent.delete(name);
  for (const { job, last_epoch } of jobs) {
    const list = known.recent.get(job) ?? [];
    if (last_epoch && (list.at(-1)?.epoch ?? 0) < last_epoch.epoch) known.recent.set(job, [...list, last_epoch].slice(-SPARK_WINDOWS));
  }
}

async function firstWindows(jobs) {
  const fresh = jobs.filter(({ job }) => !known.asked.has(job)).slice(0, SPARKS_MAX);
  if (known.asked.size >= SPARKS_MAX) return;
  await Promise.all(fresh.map(async ({ job }) => {
    known.asked.add(job);
    // A job that is gone meanwhile has no windows; that is no fault of the line.
    const { epochs } = await get(`jobs/${encodeURIComponent(job)}/epochs?limit=${SPARK_WINDOWS}`).catch(() => ({ epochs: [] }));
    const later = (known.recent.get(job) ?? []).filter((epoch) => epoch.epoch > (epochs.at(-1)?.epoch ?? 0));
    known.recent.set(job, [...epochs, ...later].slice(-SPARK_WINDOWS));
  }));
}

async function askJob(name) {
  const path = `jobs/${encodeURIComponent(name)}`;
  try {
    const job = await get(path);
    const last = known.epochs.findLast((epoch) => epoch.published)?.epoch ?? 0;
    // Old windows do not change: only the new ones are asked for, and those that were not published yet.
    if (job.epoch > last || known.epochs.length === 0) {
      const query = known.epochs.length === 0 ? `limit=${WINDOWS_SHOWN}` : `from=${last + 1}&limit=${2 * WINDOWS_SHOWN}`;
      const { epochs } = job.epoch > 0 ? await get(`${path}/epochs?${query}`) : { epochs: [] };
      if (page().name !== name) return;
      const first = epochs[0]?.epoch ?? Infinity;
      known.epochs = [...known.epochs.filter((epoch) => epoch.epoch < first), ...epochs].slice(-2 * WINDOWS_SHOWN);
    }
    if (page().name !== name) return;
    const records = job.shards.reduce((sum, shard) => sum + shard.records, 0);
    known.history = [...known.history, { ms: Date.now(), lag: job.lag_ms, records }].slice(-HISTORY_MAX);
    Object.assign(known, { job, refused: undefined });
  } catch (error) {
    if (isLine(error)) throw error;
    known.refused = error;
  }
}

function told(line) {
  known.line = { ...line, until: line.wait ? Date.now() + line.wait : undefined };
  if (line.ok === false && known.seen === undefined) known.loaded = false;
  draw();
}

function draw() {
  const { kind } = page();
  const main = document.getElementById("main");
  drawLine();
  for (const link of document.querySelectorAll("[data-nav]")) {
    const here = link.dataset.nav === (kind === "workers" ? "workers" : "jobs");
    if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (!known.loaded) return show(main, h("p", { class: "card" }, known.line.ok === false ? `There is no answer yet: ${known.line.error.message}` : "Loading…"));
  const style = getComputedStyle(main);
  const width = main.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const facts = { ...known, now: now(), width };
  if (kind === "job") show(main, jobPage(facts));
  else if (kind === "workers") show(main, workersPage(facts));
  else show(main, jobsPage(facts));
  document.title = title(kind);
}

function title(kind) {
  const failed = known.jobs.filter((job) => job.state === "failed").length;
  const what = kind === "job" ? `${page().name} · ${known.job?.state ?? "…"}` : kind === "workers" ? "workers" : `${known.jobs.length} jobs`;
  return `${failed ? `(${failed} failed) ` : ""}${what} – streamctl`;
}

function drawLine() {
  const { cluster, line, seen } = known;
  const connection = document.getElementById("connection");
  const lost = document.getElementById("lost");
  const ok = line.ok === true;
  connection.className = `connection ${ok ? "live" : line.ok === false ? "gone" : ""}`;
  show(connection, ok ? "live" : line.ok === false ? "connection lost" : "connecting…");
  lost.hidden = line.ok !== false;
  if (line.ok === false) {
    const age = seen ? `What is shown is from ${f.clock(seen)}.` : "";
    const wait = Math.max(1, Math.ceil(((line.until ?? 0) - Date.now()) / 1000));
    show(lost, h("strong", {}, "The controller does not answer. "), `${line.error.message}. ${age} `, h("span", { "aria-hidden": "true" }, `Trying again in ${wait} s. `), h("button", { type: "button", "data-action": "retry" }, "Try now"));
    document.body.classList.add("stale");
  } else {
    show(lost);
    document.body.classList.remove("stale");
  }
  if (!cluster) return;
  const where = document.getElementById("cluster");
  if (cluster.leads) show(where, h("strong", {}, cluster.controller), ` leads, term ${cluster.term}`);
  else if (cluster.leader) show(where, h("strong", {}, cluster.controller), " stands by; ", h("strong", {}, cluster.leader), " leads and is asked");
  else show(where, h("strong", {}, cluster.controller), " stands by; no controller leads at the moment");
  show(document.getElementById("foot"), `streamctl ${cluster.version} · times are of your zone · `, h("a", { href: "/metrics" }, "metrics"), " · ", h("a", { href: "/api/v1/jobs" }, "JSON"));
}

/** Another job: nothing of the one before is shown. */
function turn() {
  const { kind, name } = page();
  if (kind !== "job" || known.job?.job !== name) Object.assign(known, { job: undefined, epochs: [], history: [], selected: undefined, refused: undefined });
  draw();
  askNow();
}

function pick(epoch) {
  known.selected = epoch === known.epochs.at(-1)?.epoch ? undefined : epoch;
  draw();
}

document.addEventListener("click", (event) => {
  const bar = event.target.closest("[data-pick]");
  if (bar) pick(Number(bar.dataset.pick));
  if (event.target.closest("[data-action=retry]")) askNow();
});

document.addEventListener("keydown", (event) => {
  if (!event.target.closest?.("[data-chart]")) return;
  const shown = known.epochs.slice(-WINDOWS_SHOWN);
  const at = shown.findIndex((epoch) => epoch.epoch === known.selected);
  const here = at < 0 ? shown.length - 1 : at;
  const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: shown.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  pick(shown[Math.min(shown.length - 1, Math.max(0, to))].epoch);
});

window.addEventListener("hashchange", () => {
  turn();
  document.getElementById("main").focus({ preventScroll: true });
  window.scrollTo(0, 0);
});
window.addEventListener("resize", draw);
const askNow = again(ask, told);
setInterval(() => known.line.ok === false && drawLine(), 1000);
draw();
