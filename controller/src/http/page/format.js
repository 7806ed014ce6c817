// Figures as people read them.
//
// Rule: pure; the same words as the command line where it has some.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** `12,345`. */
export const count = (n) => whole.format(n ?? 0);
/** `12.3K`. */
export const compact = (n) => (Math.abs(n) < 10000 ? whole.format(Math.round(n)) : short.format(n));
/** `48.2/s`. */
export const rate = (n) => (n === undefined ? "–" : `${n < 10 ? Math.round(n * 10) / 10 : compact(n)}/s`);

/** `840 ms`, `12.3 s`, `4 min`, `3.2 h`, `5 d`. */
export function duration(ms) {
  if (ms === undefined || ms === null) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 120000) return `${Math.round(ms / 100) / 10} s`;
  if (ms < 7200000) return `${Math.round(ms / 60000)} min`;
  if (ms < 172800000) return `${Math.round(ms / 360000) / 10} h`;
  return `${Math.round(ms / 86400000)} d`;
}

/** `1.4 MiB`. */
export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) { n /= 1024; at += 1; }
  return `${at === 0 || n >= 100 ? Math.round(n) : Math.round(n * 10) / 10} ${units[at]}`;
}

/** `71 %`, of thousandths. */
export const share = (permille) => (permille === undefined || permille === null ? "–" : `${Math.round(permille / 10)} %`);

/** `14:03:20`, of the reader's zone. */
export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
/** `14:03`, of the reader's zone. */
export const minute = (ms) => clock(ms).slice(0, 5);
/** `2026-11-24 14:03:20`, of the reader's zone. */
export const moment = (ms) => `${new Date(ms).toLocaleDateString("sv-SE")} ${clock(ms)}`;
/** For programs and tooltips: UTC. */
export const utc = (ms) => new Date(ms).toISOString();

/** What an epoch's window waited for on its way out, in order: name and milliseconds. */
export const stages = (epoch) => {
  const us = epoch.stages ?? {};
  const last = (name) => us[`last_${name}_us`] ?? 0;
  // Only the leader that committed and published an epoch knows these.
  return [["decode", last("decode")], ["transform", last("transform")], ["stage", last("stage")], ["report", us.report_us ?? 0],
    ["commit", us.commit_us], ["publish", us.publish_us]].map(([name, us]) => [name, (us ?? 0) / 1000, us !== null && us !== undefined]);
};

/** The beginning of a digest. */
export const digest = (text) => (text.length > 12 ? text.slice(0, 12) : text || "–");
