// The dashboard: what is known, which page is shown, when it is drawn.
//
// Owns: the state of the page and its only changes. Does not own: how things look (overview, job), how they are asked
// for (api).
// Rule: what is shown is always all that is known; when the line is lost, it stays, and says how old it is.

import { again, get, isLine } from "./api.js";
import { h, show } from "./dom.js";
import { eventsPage } from "./events.js";
import { jobsPage, workersPage } from "./overview.js";
import { SPANS } from "./history.js";
import { WINDOWS_SHOWN, jobPage } from "./job.js";
import { fetchSample } from "./samples.js";
import { fetchVersions } from "./versions.js";
import { workerPage } from "./worker.js";
import * as f from "./format.js";

/** Points of the lines over time. */
const HISTORY_MAX = 400;
/** Jobs whose last windows are asked for at the first look; those of others come with time. */
const SPARKS_MAX = 12;
/** Windows in a job's small line. */
const SPARK_WINDOWS = 30;
/** Events that are kept here; the controllers keep about as many. */
const EVENTS_MAX = 1024;
/** Time between two looks at the past. */
const PAST_INTERVAL_MS = 5000;

const known = {
  cluster: undefined, jobs: [], workers: [], loaded: false,
  recent: new Map(), asked: new Set(),
  events: [], eventsToken: "", eventsProblem: "",
  job: undefined, epochs: [], history: [], selected: undefined, refused: undefined,
  versions: undefined, version: undefined, profile: undefined, sample: undefined,
  at: undefined, windowsAt: undefined,
  span: SPANS[1][1], past: undefined, worker: undefined,
  offset: 0, seen: undefined, line: { ok: undefined },
};

const page = () => {
  const [, kind, name] = location.hash.split("/");
  return ["job", "worker"].includes(kind) ? { kind, name: decodeURIComponent(name ?? "") } : { kind: kind || "jobs" };
};
const now = () => Date.now() + known.offset;

async function ask() {
  const { kind, name } = page();
  const [cluster, { jobs }, { workers }] = await Promise.all([get("cluster"), get("jobs"), get("workers")]);
  Object.assign(known, { cluster, jobs, workers, loaded: true, offset: cluster.now_ms - Date.now() });
  remember(jobs);
  // A leader of an earlier version has none: that is no fault of the line.
  await askEvents().catch((error) => { if (isLine(error) && error.status !== 503) throw error; known.eventsProblem = error.message; });
  if (kind === "job") await askJob(name);
  else if (kind === "worker") await askWorker(name);
  else await firstWindows(jobs);
  known.seen = Date.now();
}

async function askWorker(name) {
  try {
    const worker = await get(`workers/${encodeURIComponent(name)}?span_ms=${known.span}`);
    if (page().name === name) Object.assign(known, { worker, refused: undefined });
  } catch (error) {
    if (isLine(error)) throw error;
    known.refused = error;
  }
}

/** A point is of ten seconds at least: there is nothing new in between. */
async function askPast(path, span) {
  const old = known.past;
  if (old && old.span === span && Date.now() - old.read < PAST_INTERVAL_MS) return old;
  const past = await get(`${path}/history?span_ms=${span}`).catch(() => undefined);
  return past ? { ...past, span, read: Date.now() } : old;
}

/** Only what is new; an event that happened again takes the place of what was known of it. */
async function askEvents() {
  for (let more = true; more;) {
    const page = await get(`events?limit=500&after=${encodeURIComponent(known.eventsToken)}`);
    const ids = new Set(page.events.map((event) => event.id));
    known.events = [...known.events.filter((event) => !ids.has(event.id)), ...page.events].slice(-EVENTS_MAX);
    Object.assign(known, { eventsToken: page.next_page_token, eventsProblem: page.problem });
    more = page.more;
  }
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
    await askWindowsAt(path, name);
    if (page().name !== name) return;
    const records = job.shards.reduce((sum, shard) => sum + (shard.records ?? 0), 0);
    known.history = [...known.history, { ms: Date.now(), lag: job.lag_ms, records }].slice(-HISTORY_MAX);
    Object.assign(known, { job, refused: undefined });
    // A leader of an earlier version has neither: that is no fault of the line.
    const isNew = known.profile === undefined || known.profile.last?.epoch !== job.epoch;
    const profile = isNew ? await get(`${path}/profile`).catch(() => known.profile) : known.profile;
    const versions = await fetchVersions(job, known.versions, known.version).catch(() => known.versions);
    const past = await askPast(path, known.span);
    if (page().name === name) Object.assign(known, { profile, versions, past });
  } catch (error) {
    if (isLine(error)) throw error;
    known.refused = error;
  }
}

/** The windows of a time that the reader chose: they do not change, so they are read once. */
async function askWindowsAt(path, name) {
  const { at } = known;
  if (at === undefined || known.windowsAt?.at === at) return;
  const { epochs } = await get(`${path}/epochs?since_ms=${at}&limit=${WINDOWS_SHOWN}`);
  if (page().name === name && known.at === at) Object.assign(known, { windowsAt: { at, epochs }, selected: epochs[0]?.epoch });
}

/** On request only; an answer that comes after another request, or on another page, is dropped. */
async function sample(kind, epoch) {
  const { name } = page();
  const wanted = { kind, epoch };
  known.sample = wanted;
  draw();
  const read = await fetchSample(name, kind, epoch);
  if (known.sample !== wanted) return;
  known.sample = read;
  draw();
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
    const here = link.dataset.nav === ({ workers: "workers", worker: "workers", events: "events" }[kind] ?? "jobs");
    if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (!known.loaded) return show(main, h("p", { class: "card" }, known.line.ok === false ? `There is no answer yet: ${known.line.error.message}` : "Loading…"));
  const style = getComputedStyle(main);
  const width = main.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const facts = { ...known, now: now(), width };
  if (kind === "job") show(main, jobPage(facts));
  else if (kind === "worker") show(main, workerPage(facts));
  else if (kind === "workers") show(main, workersPage(facts));
  else if (kind === "events") show(main, eventsPage(facts));
  else show(main, jobsPage(facts));
  document.title = title(kind);
}

function title(kind) {
  const failed = known.jobs.filter((job) => job.state === "failed").length;
  const what = kind === "job" ? `${page().name} · ${known.job?.state ?? "…"}` : kind === "worker" ? `${page().name} · worker` : ["workers", "events"].includes(kind) ? kind : `${known.jobs.length} jobs`;
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
  else if (cluster.leader) show(where, h("strong", {}, cluster.controller), " stands by; data from the leader, ", h("strong", {}, cluster.leader));
  else show(where, h("strong", {}, cluster.controller), " stands by; no controller leads at the moment");
  show(document.getElementById("foot"), `streamctl ${cluster.version} · times are of your zone · `, h("a", { href: "/metrics" }, "metrics"), " · ", h("a", { href: "/api/v1/jobs" }, "JSON"));
}

/** Another job: nothing of the one before is shown. */
function turn() {
  const { kind, name } = page();
  if (kind !== "job" || known.job?.job !== name) Object.assign(known, { at: undefined, windowsAt: undefined, job: undefined, epochs: [], history: [], selected: undefined, refused: undefined, versions: undefined, version: undefined, profile: undefined, past: undefined, sample: undefined });
  if (kind !== "worker" || known.worker?.worker.worker !== name) known.worker = undefined;
  if (kind === "worker") known.refused = undefined;
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
  const span = event.target.closest("[data-span]");
  if (span) {
    known.span = Number(span.dataset.span);
    askNow();
  }
  const version = event.target.closest("[data-version]");
  if (version) {
    known.version = Number(version.dataset.version);
    askNow();
  }
  const sampled = event.target.closest("[data-sample]");
  if (sampled) sample(sampled.dataset.sample, Number(sampled.dataset.epoch));
  if (event.target.closest("[data-action=hide-sample]")) {
    known.sample = undefined;
    draw();
  }
  if (event.target.closest("[data-action=retry]")) askNow();
  if (event.target.closest("[data-action=newest]")) {
    Object.assign(known, { at: undefined, windowsAt: undefined, selected: undefined });
    draw();
  }
});

document.addEventListener("change", (event) => {
  const field = event.target.closest("[data-at]");
  const at = field ? new Date(field.value).getTime() : NaN;
  if (!(at > 0)) return;
  known.at = at;
  askNow();
});

document.addEventListener("keydown", (event) => {
  if (!event.target.closest?.("[data-chart]")) return;
  const shown = known.windowsAt?.epochs ?? known.epochs.slice(-WINDOWS_SHOWN);
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
