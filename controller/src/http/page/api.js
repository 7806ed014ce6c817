// Asking the controller, again and again.
//
// Owns: the pace of asking, waiting longer after failures, what is known of the line. Does not own: what is done with
// the answers.
// Rule: one question of a kind is on its way at a time; a hidden page asks nothing.

const INTERVAL_MS = 1000;
const BACKOFF_MAX_MS = 15000;
const TIMEOUT_MS = 10000;

/** Why there is no answer, with the controller's own words where it gave some. */
export class Refused extends Error {
  constructor(message, hint, status) {
    super(message);
    this.hint = hint;
    this.status = status;
  }
}

/** The answer of `/api/v1/PATH`. */
export async function get(path) {
  const response = await fetch(`/api/v1/${path}`, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(body.error ?? `the controller answers ${response.status}`, body.hint ?? "", response.status);
  return body;
}

/** Whether a failure is about the line, and not about what was asked. */
export const isLine = (error) => !(error instanceof Refused) || error.status >= 500;

/**
 * Calls `ask` about once a second. After failures it waits longer and longer; `told` hears of each success and failure.
 * Gives a function that asks at once.
 */
export function again(ask, told) {
  let timer;
  let failures = 0;
  let running = false;
  let pending = false;
  const next = (wait) => {
    clearTimeout(timer);
    timer = setTimeout(turn, wait);
  };
  const turn = async () => {
    if (running) { pending = true; return; }
    if (document.hidden) return;
    running = true;
    const began = performance.now();
    try {
      await ask();
      failures = 0;
      told({ ok: true });
    } catch (error) {
      failures += 1;
      const wait = Math.min(BACKOFF_MAX_MS, INTERVAL_MS * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
      told({ ok: false, error, failures, wait });
      running = false;
      return next(wait);
    }
    running = false;
    // A job with very many shards takes long to tell: it is asked for less often.
    next(pending ? 0 : Math.max(INTERVAL_MS, 4 * (performance.now() - began)));
    pending = false;
  };
  document.addEventListener("visibilitychange", () => document.hidden || next(0));
  window.addEventListener("online", () => next(0));
  next(0);
  return () => next(0);
}
