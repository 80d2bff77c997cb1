"""Whatever comes in: nothing raises, every line is accounted for, every run starts once and ends once."""

import json
from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentpipe.event import decode
from agentpipe.payload import event_schema
from tests.parse.lines import SESSION, encoded, init, lines_in, parsed_bytes, stage, wrapped

VALIDATOR = jsonschema.Draft202012Validator(event_schema())

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)

#: The words that make a line take a path through the adapter.
WORDS = st.sampled_from([
    "system", "assistant", "user", "result", "stream_event", "rate_limit_event", "control_request", "keep_alive",
    "init", "api_retry", "hook_response", "task_updated", "task_notification", "permission_denied", "can_use_tool",
    "compact_boundary", "model_refusal_fallback", "success", "error_max_turns", "conversation_reset",
    "text", "thinking", "redacted_thinking", "tool_use", "tool_result", "image", "web_search_tool_result",
    "message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "text_delta",
    "thinking_delta", "input_json_delta", "Write", "Edit", "MultiEdit", "NotebookEdit", "TodoWrite", "TaskCreate",
    "TaskUpdate", "TaskList", "Bash", "completed", "in_progress", "<synthetic>", "a", "b", "t1", "m1", "1",
    "2026-11-20T07:00:00.000Z", SESSION,
])  # fmt: skip
KEYS = st.sampled_from([
    "type", "subtype", "message", "content", "id", "name", "input", "tool_use_id", "is_error", "event", "index",
    "delta", "content_block",
    "text", "thinking", "usage", "input_tokens", "output_tokens", "model", "modelUsage", "session_id",
    "uuid", "parent_tool_use_id", "timestamp", "tool_use_result", "tool_result_meta", "structuredPatch", "lines",
    "todos", "status", "taskId", "subject", "task", "tasks", "file_path", "old_string", "new_string", "edits", "errors",
    "permission_denials", "total_cost_usd", "duration_ms", "result", "error", "supersedes", "request", "patch",
    "cache_creation", "rate_limit_info", "resetsAt", "retracted_message_uuids", "role", "new_conversation_id", "source",
    "data", "aborted", "isReplay", "origin", "terminal_reason", "attempt", "retry_delay_ms", "tools",
])  # fmt: skip
SHAPES = st.recursive(
    SCALARS | WORDS | WORDS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=7),
    max_leaves=25,
)
LINES = st.builds(
    lambda line, kind: {**line, "type": kind},
    st.dictionaries(KEYS, SHAPES, max_size=9),
    WORDS | st.sampled_from(["assistant", "user", "stream_event", "result"]),
)
GARBAGE = st.text(st.characters(exclude_characters="\n\r", exclude_categories=("Cs",)), max_size=20)
BRACKETS = st.sampled_from(["{", "}", "[", "]", "[{", "}]", "{}", "[]", ",", '"a": 1', "[1]", "null", "  "])
INPUT = st.lists(LINES | ANY.map(json.dumps) | GARBAGE | BRACKETS, max_size=8)

#: The same examples each time: a test that fails now and then helps nobody; longer searches are made by hand.
MANY = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def check(data: bytes) -> list[Any]:
    """Feed *data*, and what must hold for any input."""
    parse = stage()
    made = parsed_bytes(data, parse)
    report = parse.report()
    lines = lines_in(data)
    assert report["in"] == lines
    assert report["sources"] + report["ignored"] + report["raw"] + report["passed_through"] == lines
    assert report["in"] == report["out"] + sum(report["dropped"].values()) + report["merged"] + report["left"]
    events = [decode(event.line) for event in made]
    runs: dict[str, list[Any]] = {}
    for event, head in zip(events, made, strict=True):
        VALIDATOR.validate(event)
        assert (event["type"], event["run_id"], event["sequence"]) == (head.type, head.run_id, head.sequence)
        runs.setdefault(event["run_id"], []).append(event)
    for mine in runs.values():
        assert [event["sequence"] for event in mine] == list(range(1, len(mine) + 1))
        assert [event["type"] for event in mine].count("run_started") == 1
        assert mine[0]["type"] == "run_started"
        assert sum(event["type"].startswith("run_c") or event["type"] == "run_failed" for event in mine) == 1
        assert mine[-1]["type"] in ("run_completed", "run_failed", "run_cancelled")
    return made


@MANY
@given(INPUT)
def test_any_lines(lines: list[Any]) -> None:
    check(encoded(lines))


@MANY
@given(st.lists(LINES, max_size=8))
def test_any_lines_of_a_claude_run(lines: list[Any]) -> None:
    check(encoded([init(), *lines]))


@MANY
@given(INPUT, st.dictionaries(st.sampled_from(["exit_code", "signal", "reason", "duration_ms"]), SHAPES))
def test_any_lines_of_a_process(lines: list[Any], exited: dict[str, Any]) -> None:
    check(encoded(wrapped(lines, **exited)))


@settings(MANY, max_examples=40)
@given(INPUT, st.lists(st.integers(0, 400), max_size=8))
def test_cuts_change_nothing(lines: list[Any], cuts: list[int]) -> None:
    data = encoded(lines)
    whole = [event.line for event in parsed_bytes(data)]
    assert [event.line for event in parsed_bytes(data, cuts=(cut for cut in cuts if cut < len(data)))] == whole


@settings(MANY, max_examples=40)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    parsed_bytes(data)


@settings(MANY, max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(["type", "run_id", "agent_id", "timestamp", "payload", "work_id", "sequence"]),
        SHAPES | st.just("process_output") | st.just("gap"),
    )
)
def test_any_envelope(line: dict[str, Any]) -> None:
    parsed_bytes(encoded([line, init()]))
