// The list of runs: the hub's own summaries, kept up to date from events between two readings of `GET /api/runs`.
//
// The rule it keeps: the hub's numbers are the numbers. What is added here follows the hub's rules, and every reading
// replaces it.
import { identity, type AgentEvent } from "../connection/messages";
import type { KnownEvent, ProgressUpdate, RunIteration, Usage } from "../generated/events";

export type RunState = "running" | "completed" | "failed" | "cancelled";

/** As `GET /api/runs` gives it (docs/protocol.md). */
export interface RunSummary {
  run_id: string;
  agent_id: string;
  work_id?: string;
  session_id?: string;
  state: RunState;
  started_at: string;
  updated_at: string;
  events: number;
  tool_calls: number;
  tool_failures: number;
  files_changed: number;
  turns: number;
  title?: string;
  model?: string;
  progress?: Partial<ProgressUpdate>;
  usage?: Usage;
  cost_usd?: number;
  result?: string;
  reason?: string;
  error?: string;
  last_type?: string;
  /** A human is asked and nothing has happened since. Not the hub's: known from the events since the last reading. */
  waiting?: boolean;
  /** What the last call was about; as `waiting`. */
  activity?: string;
}

/** The types that change a summary; texts, chunks and raw output do not (they come in thousands). */
export const LIST_TYPES = [
  "run_started",
  "run_iteration",
  "run_completed",
  "run_failed",
  "run_cancelled",
  "agent_tool_call",
  "agent_tool_result",
  "file_changed",
  "progress_update",
  "usage_update",
  "permission_request",
  "error",
];

/** What an agent tells of itself: a sub-agent's is not the run's. */
const OF_ONE_AGENT = new Set(["progress_update", "usage_update", "run_iteration"]);

export class Runs {
  version = 0;
  readonly #runs = new Map<string, RunSummary>(); // oldest first
  /** Identities since the last reading: a reading and the subscription behind it meet exactly, a new epoch repeats. */
  readonly #seen = new Set<string>();
  /** Files of each run since the last reading, so that a file that changes twice counts once. */
  readonly #files = new Map<string, Set<string>>();

  /** Takes a reading of the hub, newest first, in place of everything. */
  read(newestFirst: readonly RunSummary[]): void {
    const before = new Map(this.#runs);
    this.#runs.clear();
    this.#seen.clear();
    this.#files.clear();
    for (const run of [...newestFirst].reverse()) this.#runs.set(run.run_id, { ...ours(before.get(run.run_id)), ...run });
    this.version += 1;
  }

  get(run: string): RunSummary | undefined {
    return this.#runs.get(run);
  }

  /** Newest first, as the hub orders them: by when they were first heard of. */
  list(): RunSummary[] {
    return [...this.#runs.values()].reverse();
  }

  /** Takes events in order; known ones are dropped. Returns true when one of them ended a run. */
  apply(events: readonly AgentEvent[]): boolean {
    let ended = false;
    for (const event of events) {
      const id = identity(event);
      if (this.#seen.has(id)) continue;
      this.#seen.add(id);
      const before = this.#runs.get(event.run_id) ?? fresh(event);
      const after = summarise(before, event as KnownEvent);
      if (event.type === "file_changed" && !this.#newFile(event as KnownEvent)) after.files_changed = before.files_changed;
      this.#runs.set(event.run_id, after);
      ended ||= before.state === "running" && after.state !== "running";
    }
    if (events.length > 0) this.version += 1;
    return ended;
  }

  #newFile(event: KnownEvent): boolean {
    const files = this.#files.get(event.run_id) ?? new Set();
    this.#files.set(event.run_id, files);
    const path = String((event.payload as { path?: unknown }).path);
    return files.size !== files.add(path).size;
  }
}

/** What the hub does not tell and the events did. */
function ours(run: RunSummary | undefined): Partial<RunSummary> {
  return {
    ...(run?.waiting === undefined ? {} : { waiting: run.waiting }),
    ...(run?.activity === undefined ? {} : { activity: run.activity }),
  };
}

function fresh(event: AgentEvent): RunSummary {
  return {
    run_id: event.run_id,
    agent_id: event.agent_id,
    ...(event.work_id === undefined ? {} : { work_id: event.work_id }),
    state: "running",
    started_at: event.timestamp,
    updated_at: event.timestamp,
    events: 0,
    tool_calls: 0,
    tool_failures: 0,
    files_changed: 0,
    turns: 0,
  };
}

/** The summary after one more event, by the rules of agentpipe/runs.py. */
export function summarise(run: RunSummary, event: KnownEvent): RunSummary {
  const next: RunSummary = { ...run, updated_at: event.timestamp, events: run.events + 1, last_type: event.type };
  next.waiting = event.type === "permission_request" || (run.waiting === true && event.type === "usage_update");
  if (event.parent_id && OF_ONE_AGENT.has(event.type)) return next;
  switch (event.type) {
    case "run_started":
      next.state = "running";
      if (event.payload.model !== undefined) next.model = event.payload.model;
      if (event.payload.session_id !== undefined) next.session_id = event.payload.session_id;
      if (event.payload.command !== undefined) next.title ??= event.payload.command.join(" ");
      break;
    case "agent_tool_call":
      next.tool_calls += 1;
      next.activity = event.payload.title;
      break;
    case "agent_tool_result":
      if (!event.payload.ok) next.tool_failures += 1;
      break;
    case "file_changed":
      next.files_changed += 1;
      break;
    case "progress_update":
      next.progress = event.payload;
      break;
    case "usage_update":
      // Figures of one message do not count: the turn's or the run's own total replaces them.
      if (event.payload.cumulative) outcome(next, { usage: event.payload, cost_usd: event.payload.cost_usd });
      break;
    case "run_iteration":
      next.turns += 1;
      outcome(next, event.payload);
      break;
    case "run_completed":
    case "run_failed":
    case "run_cancelled":
      next.state = event.type === "run_completed" ? "completed" : event.type === "run_failed" ? "failed" : "cancelled";
      next.turns = Math.max(next.turns, event.payload.turns ?? 0);
      if (event.payload.reason !== undefined) next.reason = event.payload.reason;
      outcome(next, event.payload);
      break;
  }
  return next;
}

type Outcome = Pick<RunIteration, "result" | "error" | "usage"> & { cost_usd?: number | undefined };

function outcome(next: RunSummary, found: Outcome): void {
  if (found.result !== undefined) next.result = found.result;
  if (found.error !== undefined) next.error = found.error;
  if (found.usage !== undefined) next.usage = found.usage;
  if (found.cost_usd !== undefined) next.cost_usd = found.cost_usd;
}
