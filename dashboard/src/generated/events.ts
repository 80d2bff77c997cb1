// Made by scripts/types.mjs from `agentpipe schema`; do not edit. `npm run types` makes it anew.

/** A line for the log, by the agent or about it. */
export interface AgentLogEntry {
  level: string;
  message: string;
  source?: string;
}

/**
 * ``agent_output`` and ``agent_thinking``: a chunk (``final`` false) carries the new text only; the final one
 * carries the whole text and replaces its chunks. The text is identified by (``message_id``, ``index``).
 */
export interface Text {
  final: boolean;
  index: number;
  message_id: string;
  role?: string;
  text: string;
  whole?: Array<WholeContent>;
}

/**
 * Where the whole of something is that an event shows in part: ``ref`` is the id of its first ``content`` event,
 * and its name in ``GET /api/content/{ref}``; ``bytes`` is the size of the whole.
 */
export interface WholeContent {
  bytes: number;
  media_type: string;
  ref: string;
}

/** A chunk of a raw log. */
export interface OutputChunk {
  lines: Array<string>;
  source: string;
}

/** A watched agent's state file changed; ``changed`` holds the new values of the changed fields. */
export interface AgentStateUpdate {
  changed: Record<string, unknown>;
  snapshot?: Record<string, unknown>;
  state: string;
}

/** The agent calls a tool; ``title`` is one line for people, such as ``Bash: pytest -q``. */
export interface ToolCall {
  background?: boolean;
  input: Record<string, unknown>;
  kind: "delete" | "edit" | "execute" | "fetch" | "move" | "other" | "read" | "search" | "think";
  name: string;
  title: string;
  tool_use_id: string;
  whole?: Array<WholeContent>;
}

/** What the tool gave back. ``content`` may be cut (``truncated``); ``bytes`` is the true size of the whole. */
export interface ToolResult {
  bytes: number;
  content: string;
  detail?: Record<string, unknown>;
  duration_ms?: number;
  exit_code?: number;
  kind: "delete" | "edit" | "execute" | "fetch" | "move" | "other" | "read" | "search" | "think";
  name: string;
  ok: boolean;
  tool_use_id: string;
  truncated: boolean;
  whole?: Array<WholeContent>;
}

/**
 * A part of something that the event after it shows in part or by name only: a long result, an image.
 *
 * Parts stand together in the run, right before that event, and are joined in order: ``text``, or ``base64`` of bytes.
 * ``ref`` is the id of the first part.
 */
export interface Content {
  base64?: string;
  bytes: number;
  media_type: string;
  part: number;
  parts: number;
  ref: string;
  text?: string;
}

/** Something went wrong; ``rank`` keeps a failed tool, a warning, a failed turn and bad input apart. */
export interface Error {
  attempt?: number;
  code?: string;
  message: string;
  rank: "agent" | "input" | "tool" | "turn" | "warning";
  retry_in_ms?: number;
}

/** A file changed, by a tool or as seen by a watcher; ``added`` and ``removed`` count lines. */
export interface FileChanged {
  added?: number;
  change: "created" | "deleted" | "modified" | "renamed";
  old_path?: string;
  patch?: string;
  path: string;
  removed?: number;
  source: "tool" | "watch";
  tool_use_id?: string;
}

/** Events that a consumer will not see, declared: ``ranges`` are ``[first, last]`` sequence numbers. */
export interface Gap {
  count: number;
  ranges: Array<Array<number>>;
  reason: "buffer" | "evicted" | "oversize" | "source" | "throttle";
  types?: Record<string, number>;
}

/** A producer is alive. */
export interface Heartbeat {
  status?: string;
}

/** The agent waits for a human. */
export interface PermissionRequest {
  input: Record<string, unknown>;
  name: string;
  reason?: string;
  tool_use_id?: string;
}

/** The command that ``run`` started has ended; ``signal`` is a name such as ``SIGTERM``. */
export interface ProcessExited {
  duration_ms: number;
  exit_code?: number | null;
  reason: "exit" | "idle_timeout" | "input_ended" | "reader_gone" | "signal" | "timeout";
  signal?: string | null;
}

/**
 * One line of a command's output: ``data`` when it is a JSON object or array, else ``text``. ``torn`` when its line
 * end was missing; ``invalid_utf8`` when bytes that are no UTF-8 stand as U+FFFD.
 */
export interface ProcessOutput {
  data?: unknown;
  invalid_utf8?: boolean;
  stream: "stderr" | "stdout";
  text?: string;
  torn?: boolean;
}

/** ``run`` started a command. */
export interface ProcessStarted {
  command: Array<string>;
  cwd: string;
  pid: number;
}

/**
 * How far a run has come; ``eta_s`` is left out when nothing honest can be said. ``went_back`` says why
 * ``percent`` is less than it was told before, and is there whenever it is.
 */
export interface ProgressUpdate {
  basis: "declared" | "plan" | "turns";
  current?: string;
  done: number;
  elapsed_s: number;
  eta_range_s?: Array<number>;
  eta_s?: number;
  items?: Array<PlanItem>;
  percent: number;
  total: number;
  went_back?: string;
}

/** One item of a plan or to-do list. */
export interface PlanItem {
  status: "cancelled" | "completed" | "in_progress" | "pending";
  text: string;
}

/** A line that the adapter does not know (``data``) or could not read (``text``): never lost. */
export interface Raw {
  data?: unknown;
  format: string;
  reason: string;
  text?: string;
  whole?: Array<WholeContent>;
}

/**
 * The last event of a run: ``run_completed``, ``run_failed`` or ``run_cancelled``.
 *
 * ``incomplete`` says why the agent's own account is not whole (a cut last line, no result line).
 */
export interface RunEnded {
  cost_usd?: number;
  duration_ms: number;
  error?: string;
  exit_code?: number;
  incomplete?: string;
  reason?: "exit" | "idle_timeout" | "input_ended" | "reader_gone" | "signal" | "timeout";
  result?: string;
  signal?: string;
  turns?: number;
  usage?: Usage;
}

/** Tokens as a turn or a run counts them; ``input_tokens`` is without the cache. */
export interface Usage {
  cache_read_tokens?: number;
  cache_write_tokens?: number;
  input_tokens?: number;
  output_tokens?: number;
}

/** A turn ended; sent the moment the agent says so. A run may have several. */
export interface RunIteration {
  cost_usd?: number;
  duration_ms?: number;
  error?: string;
  ok: boolean;
  result?: string;
  turn: number;
  usage?: Usage;
}

/** Always the first event of a run. */
export interface RunStarted {
  agent: string;
  agent_version?: string;
  command?: Array<string>;
  cwd?: string;
  model?: string;
  pid?: number;
  schema: "agentpipe/1";
  session_id?: string;
  tools?: Array<string>;
}

/** ``spec_created`` and ``screenshot_available``. */
export interface Artifact {
  bytes?: number;
  media_type?: string;
  path: string;
  preview?: string;
}

/** Tokens and cost; ``cumulative`` tells a total of the run from the figures of one message or turn. */
export interface UsageUpdate {
  cache_read_tokens?: number;
  cache_write_tokens?: number;
  context_used?: number;
  cost_usd?: number;
  cumulative: boolean;
  input_tokens: number;
  model?: string;
  output_tokens: number;
}

export interface PhaseTransition {
  from?: string;
  to: string;
}

/** Every type of schema agentpipe/1 and its payload. */
export interface Payloads {
  agent_log_entry: AgentLogEntry;
  agent_output: Text;
  agent_output_chunk: OutputChunk;
  agent_state_update: AgentStateUpdate;
  agent_thinking: Text;
  agent_tool_call: ToolCall;
  agent_tool_result: ToolResult;
  content: Content;
  error: Error;
  file_changed: FileChanged;
  file_operation: Record<string, unknown>;
  gap: Gap;
  heartbeat: Heartbeat;
  permission_request: PermissionRequest;
  process_exited: ProcessExited;
  process_output: ProcessOutput;
  process_started: ProcessStarted;
  progress_update: ProgressUpdate;
  raw: Raw;
  run_cancelled: RunEnded;
  run_completed: RunEnded;
  run_failed: RunEnded;
  run_iteration: RunIteration;
  run_started: RunStarted;
  screenshot_available: Artifact;
  spec_created: Artifact;
  tool_execution: Record<string, unknown>;
  usage_update: UsageUpdate;
  workflow_phase_transition: PhaseTransition;
}

/** What every event carries besides its type and payload. */
export interface Envelope {
  run_id: string;
  agent_id: string;
  work_id?: string;
  parent_id?: string;
  sequence?: number;
  timestamp: string;
  event_id?: string;
  covers?: Array<Array<number>>;
}

/** One event of a known type. */
export type EventOf<T extends keyof Payloads> = Envelope & { type: T; payload: Payloads[T] };

/** One event of any known type, told apart by `type`. */
export type KnownEvent = { [T in keyof Payloads]: EventOf<T> }[keyof Payloads];
