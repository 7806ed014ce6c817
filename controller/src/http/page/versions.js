// A job's file, its versions, and what each changed.
//
// Owns: which version is looked at. Does not own: the comparison (the controller).
// Rule: pure but for `fetchVersions`: from what is known to what is shown.

import { h } from "./dom.js";
import { get } from "./api.js";
import * as f from "./format.js";

/** Versions in the list. */
const VERSIONS_SHOWN = 20;

/** The versions of a job and the one that is looked at; only what is not known yet is asked for. */
export async function fetchVersions(job, known, wanted) {
  const path = `jobs/${encodeURIComponent(job.job)}`;
  let next = known;
  if (next?.job !== job.job || next.last !== job.job_version) {
    const { versions } = await get(`${path}/versions?limit=${VERSIONS_SHOWN}`);
    next = { job: job.job, last: job.job_version, versions };
  }
  const version = wanted ?? next.last;
  if (next.version === version) return next;
  const shown = { version, file: undefined, compared: undefined, problem: undefined };
  try {
    const file = await get(`${path}/versions/${version}`);
    const compared = version > 1 ? await get(`${path}/compare?from=${version - 1}&to=${version}`) : undefined;
    Object.assign(shown, { file: file.spec, compared });
  } catch (error) {
    // A file that was not kept is no fault of the line.
    shown.problem = error.message;
  }
  return { ...next, ...shown };
}

export function versionsOf({ versions }) {
  if (!versions) return undefined;
  return h("section", { class: "card", "data-key": "versions" },
    h("div", { class: "head" }, h("h2", {}, "Job file"), h("p", { class: "note" }, `version ${versions.version} of ${f.count(versions.last)}`)),
    versions.problem && h("p", { class: "message" }, versions.problem),
    versions.file !== undefined && h("details", { "data-key": "file" }, h("summary", {}, `The file of version ${versions.version}`),
      h("pre", { class: "file", tabindex: 0, role: "region", "aria-label": "Job file" }, h("code", {}, versions.file))),
    versions.compared && h("details", { "data-key": "compared" },
      h("summary", {}, `What version ${versions.compared.to} changed of version ${versions.compared.from}`), changes(versions.compared)),
    versions.versions.length > 1 && h("details", { "data-key": "list" }, h("summary", {}, "All versions"), list(versions)));
}

function list({ versions, version: shown }) {
  return h("table", { class: "list" },
    h("thead", {}, h("tr", {}, ["Version", "First epoch", "Submitted", "Digest"].map((name, at) => h("th", { scope: "col", class: at === 1 ? "number" : "" }, name)))),
    h("tbody", {}, versions.map((one) => h("tr", { "data-key": one.job_version },
      h("th", { scope: "row" }, h("button", { type: "button", class: "link", "data-version": one.job_version, "aria-pressed": String(one.job_version === shown) }, `Version ${one.job_version}`)),
      h("td", { class: "number", "data-name": "First epoch" }, one.first_epoch === null ? "–" : f.count(one.first_epoch)),
      h("td", { "data-name": "Submitted", title: f.utc(one.submitted_ms) }, f.moment(one.submitted_ms)),
      h("td", { "data-name": "Digest" }, h("code", { title: one.spec_digest }, f.digest(one.spec_digest)))))));
}

function changes({ changes: all, plan_was: was, plan_will_be: willBe }) {
  if (all.length === 0) return h("p", { class: "empty" }, "Nothing but its text.");
  const sides = (before, after) => h("pre", { class: "file" },
    before !== null && before.map((text) => h("del", {}, `- ${text}\n`)), after !== null && after.map((text) => h("ins", {}, `+ ${text}\n`)));
  const lines = (text) => (text === null ? null : text.split("\n"));
  return [
    all.map((change) => h("div", { class: "change", "data-key": change.field }, h("h3", {}, h("code", {}, change.field)), sides(lines(change.was), lines(change.will_be)))),
    willBe.length > 0 && h("div", { class: "change", "data-key": "plan" }, h("h3", {}, "The query's plan"), sides(was, willBe)),
  ];
}
