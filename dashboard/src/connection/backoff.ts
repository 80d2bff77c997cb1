// When to try again: exponential backoff with full jitter, and what a close code allows.
//
// The rule it keeps: many pages that lost one hub do not come back in step, and a page that was told not to come back
// does not.

/**
 * What the end of a connection asks of a client (docs/protocol.md, close codes): the range is the verdict.
 * return, later: come back with backoff, later with longer waits · at_once · auth: the hub does not accept who we are ·
 * stop: do not come back unchanged.
 */
export type Verdict = "return" | "at_once" | "later" | "auth" | "stop";

const OUR_FAULT: readonly number[] = [1002, 1003, 1007, 1008, 1009, 1010]; // RFC 6455 §7.4.1: the same bytes would bring it again
const REFUSED: readonly number[] = [4401, 4403];
const NO_CODE: readonly number[] = [1005, 1006]; // what a browser says when no code came: `bye` stands in for it

/** The verdict of a connection that closed with `code`; `bye` is the code that the hub announced, if it did. */
export function verdict(code: number, bye: number | null = null): Verdict {
  if (NO_CODE.includes(code) && bye !== null) code = bye;
  if (REFUSED.includes(code)) return "auth";
  if (code >= 4100 && code < 4200) return "at_once";
  if (code >= 4200 && code < 4300) return "later";
  if ((code >= 4400 && code < 4500) || OUR_FAULT.includes(code)) return "stop";
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
