"""The payloads of schema ``agentpipe/1``, one typed dictionary a type; prose and examples in ``docs/events.md``.

The rule this module keeps: what is stated here is stated once. ``agentpipe schema`` prints it as JSON Schema, the tests
hold every event that we make against that, and the page's TypeScript types are generated from it.

Units: ``_ms`` milliseconds, ``_s`` seconds, ``_usd`` US dollars, ``bytes`` bytes of UTF-8, ``percent`` 0–100.
Keys that are not listed may be present: consumers ignore what they do not know.
"""

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

from agentpipe.event import JSON

__all__ = [
    "PAYLOADS",
    "AgentLogEntry",
    "AgentStateUpdate",
    "Artifact",
    "Change",
    "Content",
    "Error",
    "FileChanged",
    "Gap",
    "Heartbeat",
    "Kind",
    "OutputChunk",
    "PermissionRequest",
    "PhaseTransition",
    "PlanItem",
    "ProcessExited",
    "ProcessOutput",
    "ProcessStarted",
    "ProgressUpdate",
    "Raw",
    "RunEnded",
    "RunIteration",
    "RunStarted",
    "Text",
    "ToolCall",
    "ToolResult",
    "Usage",
    "UsageUpdate",
    "WholeContent",
    "event_schema",
]

Kind: TypeAlias = Literal["read", "edit", "delete", "move", "search", "execute", "think", "fetch", "other"]
Rank: TypeAlias = Literal["tool", "warning", "turn", "input", "agent"]
EndReason: TypeAlias = Literal["exit", "signal", "timeout", "idle_timeout", "reader_gone", "input_ended"]
GapReason: TypeAlias = Literal["throttle", "buffer", "evicted", "oversize", "source"]
Change: TypeAlias = Literal["created", "modified", "deleted", "renamed"]
Object: TypeAlias = dict[str, Any]


class Usage(TypedDict):
    """Tokens as a turn or a run counts them; ``input_tokens`` is without the cache."""

    input_tokens: NotRequired[int]
    output_tokens: NotRequired[int]
    cache_read_tokens: NotRequired[int]
    cache_write_tokens: NotRequired[int]


class RunStarted(TypedDict):
    """Always the first event of a run."""

    schema: Literal["agentpipe/1"]
    agent: str
    agent_version: NotRequired[str]
    model: NotRequired[str]
    session_id: NotRequired[str]
    command: NotRequired[list[str]]
    cwd: NotRequired[str]
    pid: NotRequired[int]
    tools: NotRequired[list[str]]


class RunIteration(TypedDict):
    """A turn ended; sent the moment the agent says so. A run may have several."""

    turn: int
    ok: bool
    result: NotRequired[str]
    error: NotRequired[str]
    usage: NotRequired[Usage]
    cost_usd: NotRequired[float]
    duration_ms: NotRequired[int]


class RunEnded(TypedDict):
    """The last event of a run: ``run_completed``, ``run_failed`` or ``run_cancelled``.

    ``incomplete`` says why the agent's own account is not whole (a cut last line, no result line).
    """

    duration_ms: int
    exit_code: NotRequired[int]
    signal: NotRequired[str]
    reason: NotRequired[EndReason]
    error: NotRequired[str]
    result: NotRequired[str]
    turns: NotRequired[int]
    usage: NotRequired[Usage]
    cost_usd: NotRequired[float]
    incomplete: NotRequired[str]


class WholeContent(TypedDict):
    """Where the whole of something is that an event shows in part: ``ref`` is the id of its first ``content`` event,
    and its name in ``GET /api/content/{ref}``; ``bytes`` is the size of the whole.
    """

    ref: str
    media_type: str
    bytes: int


class Text(TypedDict):
    """``agent_output`` and ``agent_thinking``: a chunk (``final`` false) carries the new text only; the final one
    carries the whole text and replaces its chunks. The text is identified by (``message_id``, ``index``).
    """

    message_id: str
    index: int
    text: str
    final: bool
    role: NotRequired[str]
    whole: NotRequired[list[WholeContent]]


class Content(TypedDict):
    """A part of something that the event after it shows in part or by name only: a long result, an image.

    Parts stand together in the run, right before that event, and are joined in order: ``text``, or ``base64`` of bytes.
    ``ref`` is the id of the first part.
    """

    ref: str
    media_type: str
    bytes: int
    part: int
    parts: int
    text: NotRequired[str]
    base64: NotRequired[str]


class ToolCall(TypedDict):
    """The agent calls a tool; ``title`` is one line for people, such as ``Bash: pytest -q``."""

    tool_use_id: str
    name: str
    kind: Kind
    input: Object
    title: str
    background: NotRequired[bool]
    whole: NotRequired[list[WholeContent]]


class ToolResult(TypedDict):
    """What the tool gave back. ``content`` may be cut (``truncated``); ``bytes`` is the true size of the whole."""

    tool_use_id: str
    name: str
    kind: Kind
    ok: bool
    content: str
    bytes: int
    truncated: bool
    duration_ms: NotRequired[int]
    exit_code: NotRequired[int]
    detail: NotRequired[Object]
    whole: NotRequired[list[WholeContent]]


class FileChanged(TypedDict):
    """A file changed, by a tool or as seen by a watcher; ``added`` and ``removed`` count lines."""

    path: str
    change: Change
    source: Literal["tool", "watch"]
    old_path: NotRequired[str]
    tool_use_id: NotRequired[str]
    added: NotRequired[int]
    removed: NotRequired[int]
    patch: NotRequired[str]


class PlanItem(TypedDict):
    """One item of a plan or to-do list."""

    text: str
    status: Literal["pending", "in_progress", "completed", "cancelled"]


class ProgressUpdate(TypedDict):
    """How far a run has come; ``eta_s`` is left out when nothing honest can be said. ``went_back`` says why
    ``percent`` is less than it was told before, and is there whenever it is.
    """

    percent: float
    done: int
    total: int
    elapsed_s: float
    basis: Literal["plan", "turns", "declared"]
    current: NotRequired[str]
    eta_s: NotRequired[float]
    eta_range_s: NotRequired[list[float]]
    items: NotRequired[list[PlanItem]]
    went_back: NotRequired[str]


class UsageUpdate(TypedDict):
    """Tokens and cost; ``cumulative`` tells a total of the run from the figures of one message or turn."""

    input_tokens: int
    output_tokens: int
    cumulative: bool
    model: NotRequired[str]
    cache_read_tokens: NotRequired[int]
    cache_write_tokens: NotRequired[int]
    cost_usd: NotRequired[float]
    context_used: NotRequired[int]


class PermissionRequest(TypedDict):
    """The agent waits for a human."""

    name: str
    input: Object
    tool_use_id: NotRequired[str]
    reason: NotRequired[str]


class Error(TypedDict):
    """Something went wrong; ``rank`` keeps a failed tool, a warning, a failed turn and bad input apart."""

    rank: Rank
    message: str
    code: NotRequired[str]
    retry_in_ms: NotRequired[int]
    attempt: NotRequired[int]


class AgentStateUpdate(TypedDict):
    """A watched agent's state file changed; ``changed`` holds the new values of the changed fields."""

    state: str
    changed: Object
    snapshot: NotRequired[Object]


class AgentLogEntry(TypedDict):
    """A line for the log, by the agent or about it."""

    level: str
    message: str
    source: NotRequired[str]


#: A workflow went from one phase to the next; ``from`` is absent at the first.
PhaseTransition = TypedDict("PhaseTransition", {"from": NotRequired[str], "to": str})


class Artifact(TypedDict):
    """``spec_created`` and ``screenshot_available``."""

    path: str
    bytes: NotRequired[int]
    media_type: NotRequired[str]
    preview: NotRequired[str]


class OutputChunk(TypedDict):
    """A chunk of a raw log."""

    source: str
    lines: list[str]


class ProcessStarted(TypedDict):
    """``run`` started a command."""

    command: list[str]
    cwd: str
    pid: int


class ProcessOutput(TypedDict):
    """One line of a command's output: ``data`` when it is a JSON object or array, else ``text``. ``torn`` when its line
    end was missing; ``invalid_utf8`` when bytes that are no UTF-8 stand as U+FFFD.
    """

    stream: Literal["stdout", "stderr"]
    data: NotRequired[JSON]
    text: NotRequired[str]
    torn: NotRequired[bool]
    invalid_utf8: NotRequired[bool]


class ProcessExited(TypedDict):
    """The command that ``run`` started has ended; ``signal`` is a name such as ``SIGTERM``."""

    duration_ms: int
    reason: EndReason
    exit_code: NotRequired[int | None]
    signal: NotRequired[str | None]


class Heartbeat(TypedDict):
    """A producer is alive."""

    status: NotRequired[str]


class Gap(TypedDict):
    """Events that a consumer will not see, declared: ``ranges`` are ``[first, last]`` sequence numbers."""

    ranges: list[list[int]]
    count: int
    reason: GapReason
    types: NotRequired[dict[str, int]]


class Raw(TypedDict):
    """A line that the adapter does not know (``data``) or could not read (``text``): never lost."""

    format: str
    reason: str
    text: NotRequired[str]
    data: NotRequired[JSON]
    whole: NotRequired[list[WholeContent]]


#: The explicit table: every type of the schema and its payload; None where another product's client decides.
PAYLOADS: dict[str, Any] = {
    "agent_log_entry": AgentLogEntry,
    "agent_output": Text,
    "agent_output_chunk": OutputChunk,
    "agent_state_update": AgentStateUpdate,
    "agent_thinking": Text,
    "agent_tool_call": ToolCall,
    "agent_tool_result": ToolResult,
    "content": Content,
    "error": Error,
    "file_changed": FileChanged,
    "file_operation": None,
    "gap": Gap,
    "heartbeat": Heartbeat,
    "permission_request": PermissionRequest,
    "process_exited": ProcessExited,
    "process_output": ProcessOutput,
    "process_started": ProcessStarted,
    "progress_update": ProgressUpdate,
    "raw": Raw,
    "run_cancelled": RunEnded,
    "run_completed": RunEnded,
    "run_failed": RunEnded,
    "run_iteration": RunIteration,
    "run_started": RunStarted,
    "screenshot_available": Artifact,
    "spec_created": Artifact,
    "tool_execution": None,
    "usage_update": UsageUpdate,
    "workflow_phase_transition": PhaseTransition,
}


def event_schema(only: str | None = None) -> dict[str, JSON]:
    """The JSON Schema (2020-12) of an event: of every known type, or of the type *only*.

    Unknown types are valid as long as their envelope is. Raises KeyError when *only* is not a type of the schema.
    """
    import msgspec.json

    names = [only] if only is not None else sorted(PAYLOADS)
    shapes = {name: PAYLOADS[name] for name in names}
    known = [shape for shape in shapes.values() if shape is not None]
    _, definitions = msgspec.json.schema_components(known, ref_template="#/$defs/{name}")
    rules = [_rule(name, shape) for name, shape in shapes.items()]
    envelope: dict[str, JSON] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "agentpipe/1 event",
        "type": "object",
        "required": ["type", "run_id", "agent_id", "timestamp", "payload"],
        "properties": {
            "type": {"type": "string", "minLength": 1} if only is None else {"const": only},
            "run_id": {"type": "string", "minLength": 1},
            "agent_id": {"type": "string"},
            "work_id": {"type": "string"},
            "parent_id": {"type": "string"},
            "sequence": {"type": "integer", "minimum": 1},
            "timestamp": {
                "type": "string",
                "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$",
            },
            "event_id": {"type": "string"},
            "covers": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            "payload": {"type": "object"},
        },
        "allOf": rules,
        "$defs": definitions,
    }
    return envelope


def _rule(name: str, shape: JSON) -> dict[str, JSON]:
    payload = {"$ref": f"#/$defs/{shape.__name__}"} if shape is not None else {"type": "object"}
    return {
        "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
        "then": {"properties": {"payload": payload}},
    }
