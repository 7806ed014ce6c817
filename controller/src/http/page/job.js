// One job: what it waits for, its windows, stages, shards, tasks, lookups.
//
// Rule: pure: from what is known to what is shown.

import { h } from "./dom.js";
import { bars, lineage, share } from "./charts.js";
import { eventsOf } from "./events.js";
import { badge, tile } from "./overview.js";
import { historyOf, stagesOf } from "./history.js";
import { planOf } from "./plan.js";
import { samplesOf } from "./samples.js";
import { versionsOf } from "./versions.js";
import * as f from "./format.js";

/** Windows in a chart. */
export const WINDOWS_SHOWN = 60;
/** More shards than this are not drawn as a tree. */
const LINEAGE_MAX = 64;
/** Bars have at least so many places. */
const WINDOWS_LEAST = 24;
/** Two cards stand side by side from this width of the page on; as in style.css. */
const PAIR_WIDTH = 856;
const ROWS = ["out", "unmatched", "dead"];

export function jobPage({ job, epochs, windowsAt, events, history, profile, versions, sample, past, span, now, selected, refused, width }) {
  if (refused) return missing(refused);
  if (!job) return h("p", { class: "card" }, "Loading…");
  const newest = epochs.slice(-WINDOWS_SHOWN);
  const shown = windowsAt?.epochs ?? newest;
  // A young job's bars are wider, so that they do not stand alone in a corner.
  const space = { ...room(width), slots: Math.min(WINDOWS_SHOWN, Math.max(WINDOWS_LEAST, shown.length)) };
  const picked = shown.find((epoch) => epoch.epoch === selected) ?? shown.at(-1);
  return [
    h("p", { class: "crumbs" }, h("a", { href: "#/" }, "Jobs"), " / "),
    h("h1", { class: "job" }, h("span", { class: "name" }, job.job), " ", badge(job.state)),
    problems(job, now),
    tiles(job, newest, history, now),
    windows(shown, picked, space, windowsAt),
    samplesOf({ sample, picked }),
    h("div", { class: "pair" }, stages(shown, picked, space), stagesOf(past)),
    historyOf({ past: past && { ...past, window_ms: windowOf(shown) }, span, now, late: delays(shown) }, space),
    planOf({ profile }),
    shards(job, now),
    h("div", { class: "pair" }, lookups(job, now), tasks(job)),
    eventsOf(job.job, events),
    versionsOf({ versions }),
    about(job),
  ];
}

/** Windows side by side; a mark shows a gap in time between two of them. */
const gapBefore = (epochs, index) => {
  const [before, epoch] = [epochs[index - 1], epochs[index]];
  return before && epoch.window.start_ms > before.window.end_ms ? `no window from ${f.moment(before.window.end_ms)} to ${f.moment(epoch.window.start_ms)}` : undefined;
};

/** The length of a window. */
const windowOf = (epochs) => (epochs.length > 0 ? epochs.at(-1).window.end_ms - epochs.at(-1).window.start_ms : 0);

/** The width of a chart in a card across the page, and in one of a pair. */
function room(width) {
  const full = Math.max(240, width - 38);
  return { full, half: width >= PAIR_WIDTH ? Math.max(240, (width - 16) / 2 - 38) : full };
}

function missing({ message, hint }) {
  return [h("h1", {}, "No such job"), h("section", { class: "card problem bad" }, h("p", {}, message), hint && h("p", { class: "hint" }, hint), h("p", {}, h("a", { href: "#/" }, "All jobs")))];
}

/** What each stage waits for, and since when. */
function waits(list, now) {
  const line = (wait) => h("li", { class: "message" }, h("strong", {}, wait.stage), ` ${wait.text}`, wait.since_ms && h("span", { class: "times" }, ` since ${f.duration(Math.max(0, now - wait.since_ms))}`));
  return list.length > 0 && h("section", { class: "card problem warn", "data-key": "p-waits" }, h("h2", {}, "Waits for"), h("ul", {}, list.map(line)));
}

function problems(job, now) {
  const bad = (title, text, hint) =>
    h("section", { class: "card problem bad", "data-key": `p-${title}` }, h("h2", {}, title), h("p", { class: "message" }, text), hint && h("p", { class: "hint" }, h("strong", {}, "What to do: "), hint));
  const lookups = job.lookups.filter((lookup) => lookup.problem);
  return [
    job.error && bad("Stopped with an error", job.error, job.hint),
    waits(job.waits.filter((wait) => !wait.normal), now),
    lookups.map((lookup) => h("section", { class: "card problem warn", "data-key": `p-${lookup.name}` }, h("h2", {}, `Lookup ${lookup.name} stays at its version`), h("p", { class: "message" }, lookup.problem))),
  ];
}

function tiles(job, epochs, history, now) {
  const last = epochs.at(-1);
  const since = epochs.at(-6) ?? epochs[0];
  const over = last ? (last.window.end_ms - since.window.start_ms) / 1000 : 0;
  const tail = epochs.slice(-6);
  const sum = (key) => tail.reduce((total, epoch) => total + epoch.counts[key], 0);
  const live = ["running", "waiting", "draining", "starting"].includes(job.state);
  const quiet = last && now - last.committed_ms > last.window.end_ms - last.window.start_ms + 5000;
  const rate = (key) => (over > 0 && live ? f.rate(quiet ? 0 : sum(key) / over) : "–");
  const reading = readingNow(history);
  const part = (n) => (job.totals.rows_in ? `${((100 * n) / job.totals.rows_in).toFixed(n ? 2 : 0)} % of all` : "");
  return h("dl", { class: "tiles" },
    tile("Lag", live ? f.duration(job.lag_ms) : "–", `${f.count(job.shards_open)} open shards, ${f.count(job.shards_ended)} ended`),
    tile("Rows in", rate("rows_in"), reading === undefined || !live ? `${f.compact(job.totals.rows_in)} in all` : `reading ${f.rate(reading)} now`),
    tile("Rows out", rate("rows_out"), `${f.compact(job.totals.rows_out)} in all`),
    tile("Dead letters", f.compact(job.totals.rows_dead), part(job.totals.rows_dead), job.totals.rows_dead ? "warn" : ""),
    tile("Unmatched", f.compact(job.totals.rows_unmatched), part(job.totals.rows_unmatched)),
    tile("Published", f.count(job.published), job.published < job.epoch ? `${f.count(job.epoch - job.published)} on their way` : last ? `${f.duration(Math.max(0, now - last.committed_ms))} ago` : "no window yet"));
}

/** Records read per second, of the last seconds that this page has seen. */
function readingNow(history) {
  const last = history.at(-1);
  const first = history.findLast((point) => last.ms - point.ms >= 4000) ?? history[0];
  if (!last || last.ms === first.ms || last.records < first.records) return undefined;
  return ((last.records - first.records) * 1000) / (last.ms - first.ms);
}

/** Some times along the axis, not too close. */
const ticks = (epochs) => epochs.map((epoch, index) => ({ index, text: f.clock(epoch.window.start_ms) })).filter((_, at) => (epochs.length - 1 - at) % 12 === 0 && (at > 1 || epochs.length < 4));

const words = (epoch) =>
  `window ${f.clock(epoch.window.start_ms)}, epoch ${epoch.epoch}: ${f.count(epoch.counts.rows_in)} rows in, ${f.count(epoch.counts.rows_out)} out, ${f.count(epoch.counts.rows_dead)} dead, ${f.count(epoch.counts.rows_unmatched)} unmatched`;

function legend(kinds) {
  return h("ul", { class: "legend", "aria-hidden": "true" }, kinds.map(([kind, name]) => h("li", {}, h("span", { class: `swatch ${kind}` }), name)));
}

/** A field for a time of the reader's zone, to the minute. */
const localMinute = (ms) => {
  const date = new Date(ms);
  return new Date(ms - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
};

function whichWindows(windowsAt) {
  return h("p", { class: "note", "data-key": "which-windows" },
    h("label", {}, "Windows from ", h("input", { type: "datetime-local", "data-at": true, value: windowsAt && localMinute(windowsAt.at), "aria-label": "Show windows from this time on" })), " ",
    windowsAt && h("button", { type: "button", class: "link", "data-action": "newest" }, "Back to the newest"));
}

function windows(epochs, picked, { full, slots }, windowsAt) {
  const list = epochs.map((epoch, index) => ({
    gap: gapBefore(epochs, index), key: epoch.epoch, label: words(epoch), parts: [epoch.counts.rows_out, epoch.counts.rows_unmatched, epoch.counts.rows_dead],
  }));
  return h("section", { class: "card", "data-key": "windows" },
    h("div", { class: "head" }, h("h2", {}, "Windows"), legend([["out", "rows out"], ["unmatched", "unmatched"], ["dead", "dead letters"]])),
    whichWindows(windowsAt),
    epochs.length === 0
      ? h("p", { class: "empty" }, windowsAt ? "No window ends after this time." : "No window is committed yet. The first one shows as soon as it is over.")
      : [bars({ id: "windows", name: "Rows of each window; arrow keys choose one", bars: list, kinds: ROWS, axis: f.compact, width: full, height: 190, slots, selected: picked?.epoch, ticks: ticks(epochs) }),
        picked && details(picked)],
    epochs.length > 0 && h("details", { "data-key": "windows-table" }, h("summary", {}, "As a table"), table(epochs)));
}

function details(epoch) {
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const delay = epoch.committed_ms - epoch.window.end_ms;
  return h("div", { class: "picked", "data-key": "picked" },
    h("h3", {}, `Window ${f.clock(epoch.window.start_ms)} – ${f.clock(epoch.window.end_ms)}`, h("span", { class: epoch.published ? "state running" : "state waiting" }, epoch.published ? "published" : "committed")),
    h("dl", { class: "facts" },
      fact("Epoch", f.count(epoch.epoch)),
      fact("Rows in", f.count(epoch.counts.rows_in)),
      fact("Rows out", f.count(epoch.counts.rows_out)),
      fact("Dead letters", f.count(epoch.counts.rows_dead)),
      fact("Unmatched", f.count(epoch.counts.rows_unmatched)),
      fact("Read", f.bytes(epoch.counts.bytes_in)),
      fact("Objects", `${f.count(epoch.objects)}, ${f.bytes(epoch.bytes_out)}`),
      fact("Committed", isBacklog(epoch) ? `${f.duration(delay)} after its end: a backlog` : `${f.duration(Math.max(0, delay))} after its end`),
      f.stages(epoch).map(([name, ms, known]) => fact(`${name[0].toUpperCase()}${name.slice(1)}`, known ? f.duration(ms) : "–"))),
    epoch.unmatched.length > 0 && h("p", { class: "keys" }, "Keys without a partner: ",
      epoch.unmatched.slice(0, 8).map((key) => h("span", { class: "key", title: `lookup ${key.lookup}` }, h("q", {}, key.key), ` ${f.count(key.rows)}`))),
    h("p", { class: "path" }, `Version ${epoch.job_version} of the job, `, h("code", {}, epoch.manifest)));
}

function table(epochs) {
  const names = ["Epoch", "Window", "Rows in", "Rows out", "Dead", "Unmatched", "Objects", "Size", "State"];
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Windows as a table" }, h("table", {},
    h("thead", {}, h("tr", {}, names.map((name, at) => h("th", { scope: "col", class: at === 1 || at === 8 ? "" : "number" }, name)))),
    h("tbody", {}, epochs.toReversed().map((epoch) => h("tr", { "data-key": epoch.epoch },
      h("th", { scope: "row", class: "number" }, f.count(epoch.epoch)),
      h("td", { title: f.utc(epoch.window.start_ms) }, f.moment(epoch.window.start_ms)),
      [epoch.counts.rows_in, epoch.counts.rows_out, epoch.counts.rows_dead, epoch.counts.rows_unmatched, epoch.objects].map((n) => h("td", { class: "number" }, f.count(n))),
      h("td", { class: "number" }, f.bytes(epoch.bytes_out)),
      h("td", {}, epoch.published ? "published" : "committed"))))));
}

function stages(epochs, picked, { half, slots }) {
  const names = f.stages(epochs.at(-1) ?? {}).map(([name]) => name);
  const list = epochs.map((epoch, index) => {
    const times = f.stages(epoch);
    return { gap: gapBefore(epochs, index), key: epoch.epoch, label: `window ${f.clock(epoch.window.start_ms)}: ${times.map(([name, ms]) => `${name} ${f.duration(ms)}`).join(", ")}`, parts: times.map(([, ms]) => ms) };
  });
  const kinds = names.map((_, at) => `stage-${at % 6}`);
  return h("section", { class: "card", "data-key": "stages" },
    h("div", { class: "head" }, h("h2", {}, "From closed to published"), legend(names.map((name, at) => [kinds[at], name]))),
    epochs.length === 0 ? h("p", { class: "empty" }, "Nothing yet.")
      : bars({ id: "stages", name: "What each window waited for on its way out, stage after stage; arrow keys choose one", bars: list, kinds, axis: f.duration, width: half, slots, selected: picked?.epoch, ticks: ticks(epochs) }));
}

/** A window that is committed later than this after its end was a backlog: its delay is how far the job was behind, not how long a window takes. */
const BACKLOG_MS = 60_000;
const isBacklog = ({ committed_ms, window }) => committed_ms - window.end_ms > BACKLOG_MS + (window.end_ms - window.start_ms);

/** How late the shown windows were committed that were read as they came. */
function delays(epochs) {
  const live = epochs.filter((epoch) => !isBacklog(epoch));
  const late = live.map((epoch) => Math.max(0, epoch.committed_ms - epoch.window.end_ms)).sort((a, b) => a - b);
  const at = (part) => f.duration(late[Math.min(late.length - 1, Math.floor(part * late.length))]);
  const backlog = epochs.length - live.length;
  return [
    late.length > 0 && `From a window's end to its commit: median ${at(0.5)}, 95th percentile ${at(0.95)}, ${f.count(late.length)} windows.`,
    backlog > 0 && `${f.count(backlog)} windows were a backlog and are not counted.`,
  ].filter(Boolean).join(" ");
}

function shards(job, now) {
  const reads = !["stopped", "completed", "failed"].includes(job.state);
  if (job.shards.length === 0) return h("section", { class: "card" }, h("h2", {}, "Shards"), h("p", { class: "empty" }, "None is known yet."));
  const worst = Math.max(1000, ...job.shards.map((shard) => shard.lag_ms));
  const tree = job.shards.length <= LINEAGE_MAX ? lineage(job.shards) : undefined;
  const names = ["Shard", "Worker", "Lag", "Records", "Bytes", "Throttled", "Last record", "Committed position"];
  const ended = job.shards.filter((shard) => shard.ended);
  const open = job.shards.filter((shard) => !shard.ended);
  const rows = (list, label) => shardTable(list, label, { names, worst, now, reads });
  return h("section", { class: "card", "data-key": "shards" },
    h("div", { class: "head" }, h("h2", {}, "Shards"), h("p", { class: "note" }, `${f.count(job.shards_open)} open, ${f.count(job.shards_ended)} ended${job.shards_omitted ? `; the ${f.count(job.shards.length)} farthest behind are shown` : ""}`)),
    tree && h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Where shards come from" }, tree),
    open.length === 0
      ? rows(ended, "Ended shards as a table")
      : [rows(open, "Shards as a table"), ended.length > 0 && h("details", { "data-key": "ended" }, h("summary", {}, `${f.count(ended.length)} ended`), rows(ended, "Ended shards as a table"))]);
}

function shardTable(list, label, { names, worst, now, reads }) {
  return list.length > 0 && h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, h("table", { class: "broad" },
      h("thead", {}, h("tr", {}, names.map((name, at) => h("th", { scope: "col", class: at > 2 && at < 6 ? "number" : "" }, name)))),
      h("tbody", {}, list.map((shard) => h("tr", { "data-key": shard.shard, class: shard.ended ? "ended" : "" },
        h("th", { scope: "row" }, h("code", {}, shard.shard), shard.parents.length > 0 && h("span", { class: "remark" }, `from ${shard.parents.join(" and ")}`)),
        h("td", {}, shard.ended ? "read to its end" : shard.worker || (reads ? h("em", {}, "not assigned") : "–")),
        h("td", {}, shard.ended ? "–" : share(shard.lag_ms, worst, f.duration(shard.lag_ms))),
        h("td", { class: "number" }, shard.records === null ? "–" : f.count(shard.records)),
        h("td", { class: "number" }, shard.bytes === null ? "–" : f.bytes(shard.bytes)),
        h("td", { class: "number" }, f.count(shard.throttles)),
        h("td", {}, shard.last_arrival_ms ? `${f.duration(Math.max(0, now - shard.last_arrival_ms))} ago` : "–", shard.data_losses > 0 && h("span", { class: "remark bad" }, `records were lost ${f.count(shard.data_losses)} times`)),
        h("td", {}, h("code", { class: "position", title: shard.committed }, shard.committed)))))));
}

function lookups(job, now) {
  return h("section", { class: "card", "data-key": "lookups" }, h("h2", {}, "Lookups"),
    job.lookups.length === 0 ? h("p", { class: "empty" }, "The job joins with none.")
      : h("table", { class: "list" }, h("thead", {}, h("tr", {}, ["Lookup", "Rows", "Version", "Looked at"].map((name, at) => h("th", { scope: "col", class: at === 1 ? "number" : "" }, name)))),
        h("tbody", {}, job.lookups.map((lookup) => h("tr", { "data-key": lookup.name },
          h("th", { scope: "row" }, lookup.name, lookup.problem && h("span", { class: "remark warn" }, lookup.problem), lookup.duplicate_rows > 0 && h("span", { class: "remark warn" }, `${f.count(lookup.duplicate_rows)} rows share ${f.count(lookup.duplicate_keys)} keys`)),
          h("td", { class: "number", "data-name": "Rows" }, f.count(lookup.rows)),
          h("td", { "data-name": "Version" }, h("code", { title: lookup.version }, f.digest(lookup.version))),
          h("td", { "data-name": "Looked at" }, lookup.seen_ms ? `${f.duration(Math.max(0, now - lookup.seen_ms))} ago` : "never"))))));
}

function tasks(job) {
  return h("section", { class: "card", "data-key": "tasks" }, h("h2", {}, "Tasks"),
    job.tasks.length === 0 ? h("p", { class: "empty" }, "No tasks.")
      : h("table", { class: "list" }, h("thead", {}, h("tr", {}, ["Task", "Worker", "Shards", "Reported up to"].map((name, at) => h("th", { scope: "col", class: at === 2 ? "number" : "" }, name)))),
        h("tbody", {}, job.tasks.map((task) => h("tr", { "data-key": task.task },
          h("th", { scope: "row" }, h("code", {}, task.task)),
          h("td", { "data-name": "Worker" }, task.worker),
          h("td", { class: "number", "data-name": "Shards" }, f.count(task.shards)),
          h("td", { "data-name": "Reported up to" }, time(task.watermark_ms)))))));
}

/** Far beyond all times: all its shards have ended. */
const time = (ms) => (ms <= 0 ? "nothing yet" : ms > 8e15 ? "the end" : f.clock(ms));

function about(job) {
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return h("section", { class: "card", "data-key": "about" }, h("h2", {}, "About"), h("dl", { class: "facts" },
    fact("Submitted", f.moment(job.submitted_ms)),
    fact("Version", job.changed_ms ? `${job.job_version}, since ${f.moment(job.changed_ms)}` : `${job.job_version}`),
    fact("Job file", h("code", { title: job.spec_digest }, f.digest(job.spec_digest))),
    fact("Tasks that failed", f.count(job.retries)),
    // Here it moves nothing when it comes and goes.
    fact("Waits now for", job.waits.filter((wait) => wait.normal).map((wait) => wait.text).join("; ") || "–")),
  h("p", { class: "path" }, "Writes to ", h("code", {}, job.sink)));
}
