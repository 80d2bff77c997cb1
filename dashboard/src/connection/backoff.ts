// When to try again: exponential backoff with full jitter, and what a close code allows.
//
// The rule it keeps: many pages that lost one hub do not come back in step, and a page that was told not to come back
// does not.

/** What a close code asks of a client (docs/protocol.md, close codes): the range is the verdict. */
export type Verdict = "return" | "at_once" | "later" | "auth" | "stop";

export function verdict(code: number): Verdict {
  if (code === 4401) return "auth";
  if (code >= 4100 && code < 4200) return "at_once";
  if (code >= 4200 && code < 4300) return "later";
  if (code >= 4400 && code < 4500) return "stop";
  return "return";
}

const FIRST_MS = 300; // a hub that restarts is back in about a second: the first tries come quickly
const CEILING_MS = 10_000; // nobody waits longer than this in front of the page
const LATER_ATTEMPTS = 3; // "come back after backoff" begins where the waits are seconds
const AT_ONCE_MS = 250; // even "at once" is spread a little: every page of the hub was told so

/** The wait before attempt number `attempt` (from 1), in milliseconds; `random` is in [0, 1). */
export function backoffMs(attempt: number, why: Verdict, random: number): number {
  if (why === "at_once" && attempt === 1) return AT_ONCE_MS * random;
  const exponent = Math.min(attempt - 1 + (why === "later" ? LATER_ATTEMPTS : 0), 16);
  return Math.min(CEILING_MS, FIRST_MS * 2 ** exponent) * random;
}
