// What happened: a timeline, the last event first.
//
// Rule: pure: from what is known to what is shown.

import { h } from "./dom.js";
import * as f from "./format.js";

/** Events on the page of a job. */
const SHOWN_OF_JOB = 30;
const STATES = { error: "failed", warning: "waiting", info: "stopped" };

/** `worker_lost` as words. */
const name = (event) => event.kind.replaceAll("_", " ");

function line(event, withJob) {
  const times = event.count > 1 && h("span", { class: "times", title: `since ${f.moment(event.first_ms)}` }, ` ×${f.count(event.count)}`);
  const job = withJob && event.job && h("a", { href: `#/job/${encodeURIComponent(event.job)}` }, event.job);
  return h("li", { "data-key": `event-${event.id}`, class: event.severity },
    h("time", { title: f.utc(event.last_ms) }, f.moment(event.last_ms)),
    h("span", { class: `state ${STATES[event.severity] ?? "unknown"}` }, name(event)), times,
    h("p", {}, job, job && " ", event.subject && h("code", {}, event.subject), event.subject && " ", event.text));
}

const list = (events, withJob) => h("ol", { class: "events" }, events.toReversed().map((event) => line(event, withJob)));

export function eventsPage({ events, eventsProblem }) {
  return [
    h("h1", {}, "Events"),
    eventsProblem && h("section", { class: "card problem warn", "data-key": "p-events" }, h("h2", {}, "The events may be incomplete"), h("p", { class: "message" }, eventsProblem)),
    events.length === 0
      ? h("section", { class: "card empty" }, h("h2", {}, "No events"), h("p", {}, "Nothing happened within the last seven days."))
      : h("section", { class: "card", "aria-label": "All events" }, list(events, true)),
  ];
}

/** The last events of a job, as a card. */
export function eventsOf(job, events) {
  const mine = events.filter((event) => event.job === job).slice(-SHOWN_OF_JOB);
  return h("section", { class: "card", "data-key": "events" }, h("h2", {}, "Events"),
    mine.length === 0 ? h("p", { class: "empty" }, "None is kept.") : list(mine, false));
}
