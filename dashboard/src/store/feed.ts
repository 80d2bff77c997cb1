// The feed of one run: events in, rows out.
//
// The rule it keeps: an event counts once (by its identity), in the order in which it came; every event is either a row,
// part of a row, or one of the types that only the header shows. No clock and no network here: `now` is an argument.
import { identity, type AgentEvent, type HubGap } from "../connection/messages";
import type { Error as ErrorPayload, KnownEvent, ProgressUpdate, RunEnded, Text, ToolCall, ToolResult } from "../generated/events";
import { headline } from "./headline";
import { Ledger, type Hole } from "./ledger";
import type { CallRow, GapRow, Row, TextRow } from "./rows";

const HOLE_PATIENCE_MS = 7_000; // the hub declares what a publisher left out after five seconds; then it is still under way
const SAME_CHARACTERS = 120; // an error and a result that agree in so many say the same (either may be cut after that)
const OUTPUT_LINES = 200; // lines of raw output that share a row: a screenful or three, cheap to draw again

type Of<T extends KnownEvent["type"]> = Extract<KnownEvent, { type: T }>;

export class Feed {
  readonly run: string;
  /** Grows at its end; entries are replaced, never moved. */
  readonly rows: Row[] = [];
  /** Goes up with every change; rows from `changedFrom` on may differ since the last `takeChanges()`. */
  version = 0;
  progress: ProgressUpdate | null = null;
  ended: RunEnded | null = null;

  readonly #seen = new Set<string>();
  readonly #ledger = new Ledger();
  #declaredAnew = 0; // numbers of the gap at hand that were not accounted for before it
  readonly #calls = new Map<string, number>(); // tool-use id → row
  readonly #texts = new Map<string, number>(); // type, message, index → row
  readonly #reported: Array<{ first: number; last: number; row: number }> = [];
  #changed: number[] = [];
  /** Why numbers may be missing before the next event. A run is read from the first event that the hub still keeps. */
  #excuse: string | null = "evicted";
  #announced: number | null = null; // the row of the hole in the hub's log that was told last
  #lastFailed: number | null = null; // the row of the last call that failed
  #lastError: string | null = null; // what the last error row says

  constructor(run: string) {
    this.run = run;
  }

  /** Identities of the events that were taken, in order, and of those that they cover. */
  get eventIds(): string[] {
    return [...this.#seen];
  }

  /** Takes events in order; known ones are dropped. Returns how many were new. `now` is in milliseconds. */
  apply(events: readonly AgentEvent[], now: number): number {
    let fresh = 0;
    for (const event of events) {
      const id = identity(event);
      if (event.run_id !== this.run || this.#seen.has(id)) continue;
      this.#account(event, now);
      this.#seen.add(id);
      if (this.#excuse !== null) this.#explainHoles(this.#excuse);
      this.#take(event as KnownEvent, id);
      fresh += 1;
    }
    if (fresh > 0) this.version += 1;
    return fresh;
  }

  /** Shows holes that nobody declared in time; true when there were any. */
  reportHoles(now: number): boolean {
    const holes = this.#ledger.takeHoles(this.ended !== null ? Infinity : now - HOLE_PATIENCE_MS);
    for (const hole of holes) this.#reportHole(hole, "undeclared");
    if (holes.length > 0) this.version += 1;
    return holes.length > 0;
  }

  /** The hole in front of the first event after an announced one has that reason. */
  #explainHoles(reason: string): void {
    this.#excuse = null;
    for (const hole of this.#ledger.takeHoles(Infinity)) this.#reportHole(hole, reason);
  }

  #reportHole({ first, last }: Hole, reason: string): void {
    const gap = { kind: "gap" as const, count: last - first + 1, reason, ranges: [[first, last]] };
    const announced = this.#announced; // the hub counted entries of its log; what this run lost is known better now
    if (announced !== null && announced === this.rows.length - 1) {
      this.#reported.push({ first, last, row: announced });
      this.#replace(announced, { ...this.rows[announced]!, ...gap });
    } else {
      this.#reported.push({ first, last, row: this.rows.length });
      this.#push({ ...common(this.rows.at(-1)?.at ?? ""), key: `hole:${first}-${last}`, ...gap });
    }
    this.#announced = null;
  }

  /** The hub says that a part of its log will not come; what this run loses by it shows in its numbers. */
  hubGap(gap: HubGap): void {
    const at = this.rows.at(-1)?.at ?? "";
    const count = gap.count ?? (gap.reason === "epoch" ? 0 : gap.to - gap.from + 1);
    this.#push({ ...common(at), key: `hub:${gap.from}-${gap.to}:${this.version}`, kind: "gap", count, reason: gap.reason, ranges: [] });
    this.#excuse = gap.reason;
    this.#announced = gap.reason === "epoch" ? null : this.rows.length - 1;
    this.version += 1;
  }

  /** What the call with this tool-use id is called, for rows of the sub-agent that it started. */
  callTitle(id: string): string {
    const index = this.#calls.get(id);
    const row = index === undefined ? undefined : (this.rows[index] as CallRow);
    return row?.call?.title ?? row?.result?.name ?? id;
  }

  /** Indexes of rows that were added or replaced since the last call. */
  takeChanges(): number[] {
    const changed = this.#changed;
    this.#changed = [];
    return changed;
  }

  #account(event: AgentEvent, now: number): void {
    for (const [first, last] of event.covers ?? []) {
      if (first === undefined) continue;
      this.#ledger.settle(first, last ?? first, now);
      for (let number = first; number <= (last ?? first); number++) this.#seen.add(`${this.run}:${number}`);
    }
    if (event.type !== "gap" && event.sequence !== undefined) {
      const first = firstPart(event);
      if (first !== null && first < event.sequence) this.#ledger.settle(first, event.sequence - 1, now);
      this.#ledger.settle(event.sequence, event.sequence, now);
    }
    if (event.type !== "gap") return;
    this.#declaredAnew = 0;
    for (const [first, last] of (event as Of<"gap">).payload.ranges ?? []) {
      if (first === undefined) continue;
      this.#declaredAnew += this.#ledger.open(first, last ?? first);
      this.#ledger.settle(first, last ?? first, now);
    }
  }

  #take(event: KnownEvent, id: string): void {
    const first = event.covers?.[0]?.[0]; // a text is one row by the name of its first piece, however its pieces came
    const base = { ...common(event.timestamp), key: first === undefined ? id : `${this.run}:${first}`, ...this.#place(event.parent_id) };
    switch (event.type) {
      case "agent_tool_call":
        return this.#call(base, event.payload);
      case "agent_tool_result":
        return this.#result(base, event.payload, event.timestamp);
      case "agent_output":
      case "agent_thinking":
        return this.#text(base, event.type === "agent_output" ? "text" : "thinking", event.payload);
      case "process_output":
        if (event.payload.text === undefined) break;
        return this.#output(base, event.payload.stream, [event.payload.text]);
      case "agent_output_chunk":
        return this.#output(base, event.payload.source, event.payload.lines);
      case "file_changed":
        return this.#push({ ...base, kind: "file", file: event.payload });
      case "error":
        return this.#error(base, event.payload);
      case "permission_request":
        return this.#push({ ...base, kind: "permission", request: event.payload });
      case "gap":
        return this.#gap(base, event);
      case "run_started":
        return this.#push({ ...base, kind: "start", started: event.payload });
      case "run_iteration":
        return this.#push({ ...base, kind: "turn", turn: event.payload, said: event.payload.error === this.#lastError });
      case "run_completed":
      case "run_failed":
      case "run_cancelled":
        return this.#end(base, event.type, event.payload);
      case "progress_update":
        return this.#progress(base.parent, event.payload);
      case "content": // fetched by who asks for it
      case "usage_update": // the header shows the run's sums
      case "heartbeat": // life, not news
        return;
    }
    this.#push({ ...base, kind: "other", type: event.type, headline: headline(event), payload: event.payload });
  }

  #push(row: Row): void {
    this.#changed.push(this.rows.length);
    this.rows.push(row);
  }

  #replace(index: number, row: Row): void {
    this.#changed.push(index);
    this.rows[index] = row;
  }

  #place(parent: string | undefined): { depth: number; parent: string | null } {
    if (!parent) return { depth: 0, parent: null };
    const index = this.#calls.get(parent);
    return { depth: (index === undefined ? 0 : this.rows[index]!.depth) + 1, parent };
  }

  #call(base: ReturnType<typeof common>, call: ToolCall): void {
    const index = this.#calls.get(call.tool_use_id);
    const row = index === undefined ? undefined : (this.rows[index] as CallRow);
    if (index !== undefined && row?.call === null) return this.#replace(index, { ...row, call }); // its result came first
    this.#calls.set(call.tool_use_id, this.rows.length);
    this.#push({ ...base, kind: "call", call, result: null, status: "running", durationMs: null, progress: null });
  }

  #result(base: ReturnType<typeof common>, result: ToolResult, at: string): void {
    const status = result.ok ? "ok" : "failed";
    const index = this.#calls.get(result.tool_use_id);
    const row = index === undefined ? undefined : (this.rows[index] as CallRow);
    if (index === undefined || row === undefined || (row.result !== null && row.call === null)) {
      this.#calls.set(result.tool_use_id, this.rows.length);
      return this.#push({ ...base, kind: "call", call: null, result, status, durationMs: result.duration_ms ?? null, progress: null });
    }
    const durationMs = result.duration_ms ?? between(row.at, at);
    if (!result.ok) this.#lastFailed = index;
    this.#replace(index, { ...row, result, status, durationMs });
  }

  /** An error of rank `tool` that repeats what a failed call's row says is part of that row. */
  #error(base: ReturnType<typeof common>, error: ErrorPayload): void {
    const failed = this.#lastFailed === null ? undefined : (this.rows[this.#lastFailed] as CallRow);
    const start = error.message.trim().slice(0, SAME_CHARACTERS);
    if (error.rank === "tool" && failed?.result?.content.includes(start)) return;
    this.#lastError = error.message;
    this.#push({ ...base, kind: "error", error });
  }

  /** A sub-agent's stands with the call that started it; without that call it has no place. */
  #progress(parent: string | null, progress: ProgressUpdate): void {
    if (parent === null) {
      this.progress = progress;
      return;
    }
    const index = this.#calls.get(parent);
    if (index !== undefined) this.#replace(index, { ...(this.rows[index] as CallRow), progress });
  }

  #text(base: ReturnType<typeof common>, kind: "text" | "thinking", text: Text): void {
    const name = `${kind} ${text.message_id} ${text.index}`;
    const index = this.#texts.get(name);
    const row = index === undefined ? undefined : (this.rows[index] as TextRow);
    if (index === undefined || row === undefined || (row.state === "final" && !text.final)) {
      this.#texts.set(name, this.rows.length);
      this.#push({ ...base, kind, text: text.text, state: text.final ? "final" : "streaming", role: text.role ?? "assistant", whole: text.whole ?? [] });
    } else if (text.final) {
      this.#replace(index, { ...row, text: text.text, state: "final", whole: text.whole ?? [] });
    } else {
      this.#replace(index, { ...row, text: row.text + text.text });
    }
  }

  #output(base: ReturnType<typeof common>, source: string, lines: readonly string[]): void {
    const index = this.rows.length - 1;
    const last = this.rows[index];
    if (last?.kind === "output" && last.source === source && last.parent === base.parent && last.lines.length < OUTPUT_LINES) {
      this.#replace(index, { ...last, lines: [...last.lines, ...lines] });
    } else {
      this.#push({ ...base, kind: "output", source, lines: [...lines] });
    }
  }

  /**
   * A hole that was shown as undeclared and is declared now keeps its row and gets its reason. A gap that declares only
   * what is known here (from a log that the hub has no more) takes nothing away and says nothing.
   */
  #gap(base: ReturnType<typeof common>, { payload }: Of<"gap">): void {
    const inside = (first: number, last: number): boolean =>
      payload.ranges.some(([from, to]) => from !== undefined && from <= first && last <= (to ?? from));
    if (payload.ranges.length > 0 && payload.ranges.every(([from, to]) => this.#hasAll(from!, to ?? from!))) return;
    let explained = 0;
    for (const hole of this.#reported) {
      if (!inside(hole.first, hole.last)) continue;
      const row = this.rows[hole.row] as GapRow;
      this.#replace(hole.row, { ...row, reason: payload.reason });
      explained += row.count;
    }
    if (explained >= payload.count && explained > 0) return;
    if (payload.ranges.length > 0 && this.#declaredAnew === 0 && explained === 0) return;
    this.#push({ ...base, kind: "gap", count: payload.count - explained, reason: payload.reason, ranges: payload.ranges });
  }

  /** Whether every number is known: a hub that lost what this page has is not a hole here. */
  #hasAll(first: number, last: number): boolean {
    for (let number = first; number <= last; number++) if (!this.#seen.has(`${this.run}:${number}`)) return false;
    return true;
  }

  #end(base: ReturnType<typeof common>, type: string, ended: RunEnded): void {
    this.ended = ended;
    this.reportHoles(Infinity);
    this.rows.forEach((row, index) => {
      if (row.kind === "call" && row.status === "running") this.#replace(index, { ...row, status: "unanswered" });
      if ((row.kind === "text" || row.kind === "thinking") && row.state === "streaming") this.#replace(index, { ...row, state: "cut" });
    });
    const state = type === "run_completed" ? "completed" : type === "run_failed" ? "failed" : "cancelled";
    this.#push({ ...base, kind: "end", state, ended, said: ended.error === this.#lastError });
  }
}

/** The number of the first part of the contents that the event names: they stand right before it, and are not asked for. */
function firstPart(event: AgentEvent): number | null {
  const { whole } = (event.payload ?? {}) as { whole?: unknown };
  if (!Array.isArray(whole)) return null;
  const start = `${event.run_id}:`;
  const refs = whole.map((item: { ref?: unknown } | null) => String(item?.ref)).filter((ref) => ref.startsWith(start));
  const first = Math.min(...refs.map((ref) => Number(ref.slice(start.length))));
  return Number.isSafeInteger(first) && first > 0 ? first : null;
}

function common(at: string): { key: string; at: string; depth: number; parent: string | null } {
  return { key: "", at, depth: 0, parent: null };
}

function between(from: string, to: string): number | null {
  const span = Date.parse(to) - Date.parse(from);
  return Number.isFinite(span) && span >= 0 ? span : null;
}
