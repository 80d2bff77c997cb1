// What the feed shows: one row for a call with its result, a text with its chunks, a hole, a start, an end.
//
// The rule it keeps: rows are values. A row that changes is a new object under the same `key`, so a view redraws that
// row and no other.
import type {
  Error as ErrorPayload,
  FileChanged,
  PermissionRequest,
  ProgressUpdate,
  RunEnded,
  RunIteration,
  RunStarted,
  ToolCall,
  ToolResult,
  WholeContent,
} from "../generated/events";

interface Common {
  /** Identity of the row's first event; stays the same as the row grows. */
  key: string;
  /** The first event's time, RFC 3339. */
  at: string;
  /** 0 for the run itself, 1 for what a sub-agent does, and so on. */
  depth: number;
  /** The tool-use id of the call that the row belongs to, when a sub-agent made it. */
  parent: string | null;
}

export type CallStatus = "running" | "ok" | "failed" | "unanswered";

export interface CallRow extends Common {
  kind: "call";
  /** Null when a result came whose call was never seen. */
  call: ToolCall | null;
  result: ToolResult | null;
  status: CallStatus;
  durationMs: number | null;
  /** How far the sub-agent is that the call started. */
  progress: ProgressUpdate | null;
}
interface Said<Kind> extends Common {
  kind: Kind;
  text: string;
  /** streaming: more is to come · final: the whole text · cut: the run ended and the final text did not come */
  state: "streaming" | "final" | "cut";
  role: string;
  /** What the text shows in part or by name only. */
  whole: readonly WholeContent[];
}
export type TextRow = Said<"text"> | Said<"thinking">;
export interface OutputRow extends Common {
  kind: "output";
  source: string;
  lines: string[];
}
export interface FileRow extends Common {
  kind: "file";
  file: FileChanged;
}
export interface ErrorRow extends Common {
  kind: "error";
  error: ErrorPayload;
}
export interface PermissionRow extends Common {
  kind: "permission";
  request: PermissionRequest;
}
export interface GapRow extends Common {
  kind: "gap";
  count: number;
  /** As declared (`throttle`, `buffer`, `evicted`, …), `epoch` for a new log, or `undeclared`. */
  reason: string;
  /** Sequence numbers, `[first, last]`; empty when the hole is one of the hub's log. */
  ranges: number[][];
}
export interface StartRow extends Common {
  kind: "start";
  started: RunStarted;
}
export interface TurnRow extends Common {
  kind: "turn";
  turn: RunIteration;
  /** Its error is what the last error row said already. */
  said: boolean;
}
export interface EndRow extends Common {
  kind: "end";
  state: "completed" | "failed" | "cancelled";
  ended: RunEnded;
  /** Its error is what the last error row said already. */
  said: boolean;
}
/** Anything else, known or not: a headline, and the payload for who opens it. */
export interface OtherRow extends Common {
  kind: "other";
  type: string;
  headline: string;
  payload: unknown;
}

export type Row =
  | CallRow
  | TextRow
  | OutputRow
  | FileRow
  | ErrorRow
  | PermissionRow
  | GapRow
  | StartRow
  | TurnRow
  | EndRow
  | OtherRow;
