// Which runs tell of the same session: the agent's own stream, its transcript, its hooks, its sub-agents (DESIGN §3,
// Identity).
//
// The rule it keeps: a run stands in exactly one session, and a session where its newest run stands.
import type { RunSummary } from "./runs";

export interface SessionEntry {
  key: string;
  /** Never empty; the agent's own stream first. */
  tellers: readonly RunSummary[];
}

const RANKS = ["stream", "transcript", "hooks"]; // then everything else, by name

/** The runs by session, in the order of the first run of each. */
export function sessionsOf(runs: readonly RunSummary[]): SessionEntry[] {
  const found = new Map<string, RunSummary[]>();
  for (const run of runs) {
    const key = sessionOf(run);
    const others = found.get(key);
    if (others === undefined) found.set(key, [run]);
    else others.push(run);
  }
  return [...found].map(([key, tellers]) => ({ key, tellers: tellers.length > 1 ? tellers.sort(ownFirst) : tellers }));
}

/** All that tell of this run's session, itself among them. */
export function tellersOf(run: RunSummary, runs: readonly RunSummary[]): readonly RunSummary[] {
  const key = sessionOf(run);
  return runs.filter((other) => sessionOf(other) === key).sort(ownFirst);
}

/** What the run is of its session: `stream` for the agent's own account, else what its id says. */
export function teller(run: RunSummary): string {
  const start = `${run.session_id ?? ""}/`;
  return run.run_id.length > start.length && run.run_id.startsWith(start) ? run.run_id.slice(start.length) : "stream";
}

function sessionOf(run: RunSummary): string {
  return run.session_id ?? run.run_id;
}

function ownFirst(one: RunSummary, other: RunSummary): number {
  const [name, otherName] = [teller(one), teller(other)];
  const rank = place(name) - place(otherName);
  return rank || name.localeCompare(otherName, "en", { numeric: true }) || (one.started_at < other.started_at ? -1 : 1);
}

function place(name: string): number {
  const found = RANKS.indexOf(name);
  return found < 0 ? RANKS.length : found;
}
