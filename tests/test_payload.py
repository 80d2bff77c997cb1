"""The JSON Schema of the events is a true one, and says yes and no to the right examples."""

from typing import Any

import jsonschema
import pytest

from agentpipe.event import EXEMPT_TYPES, gap, make
from agentpipe.payload import PAYLOADS, event_schema

#: One payload a type, as docs and adapters write them.
EXAMPLES: dict[str, dict[str, Any]] = {
    "agent_log_entry": {"level": "info", "message": "hello", "source": "stderr"},
    "agent_output": {"message_id": "m1", "index": 0, "text": "Hel", "final": False, "role": "assistant"},
    "agent_output_chunk": {"source": "planner", "lines": ["a", "b"]},
    "agent_state_update": {"state": "building", "changed": {"phase": "build"}, "snapshot": {"phase": "build"}},
    "agent_thinking": {"message_id": "m1", "index": 1, "text": "…", "final": True},
    "agent_tool_call": {"tool_use_id": "t1", "name": "Bash", "kind": "execute", "input": {}, "title": "Bash: ls"},
    "agent_tool_result": {
        "tool_use_id": "t1", "name": "Bash", "kind": "execute", "ok": True, "content": "x", "bytes": 1,
        "truncated": False, "duration_ms": 12, "exit_code": 0, "detail": {},
    },
    "content": {
        "ref": "r:17", "media_type": "image/png", "bytes": 3, "part": 1, "parts": 1, "base64": "AAAA",
    },
    "error": {"rank": "turn", "message": "overloaded", "code": "529", "retry_in_ms": 1000, "attempt": 2},
    "file_changed": {"path": "a.py", "change": "modified", "source": "tool", "added": 3, "removed": 1},
    "file_operation": {"anything": "goes"},
    "gap": {"ranges": [[3, 5]], "count": 3, "reason": "throttle", "types": {"agent_output": 3}},
    "heartbeat": {},
    "permission_request": {"name": "Bash", "input": {"command": "rm -r x"}},
    "process_exited": {"duration_ms": 5, "reason": "signal", "exit_code": None, "signal": "SIGTERM"},
    "process_output": {"stream": "stdout", "data": {"type": "system"}},
    "process_started": {"command": ["claude", "-p"], "cwd": "/src", "pid": 17},
    "progress_update": {
        "percent": 50.0, "done": 1, "total": 2, "elapsed_s": 3.5, "basis": "plan",
        "items": [{"text": "write it", "status": "completed"}, {"text": "test it", "status": "pending"}],
    },
    "raw": {"format": "claude", "reason": "unknown type", "data": {"type": "new"}},
    "run_cancelled": {"duration_ms": 5, "reason": "timeout"},
    "run_completed": {"duration_ms": 5, "reason": "exit", "turns": 2, "usage": {"input_tokens": 4}, "cost_usd": 0.01},
    "run_failed": {"duration_ms": 5, "exit_code": 1, "error": "no"},
    "run_iteration": {"turn": 1, "ok": True, "result": "done"},
    "run_started": {"schema": "agentpipe/1", "agent": "claude", "tools": ["Bash"]},
    "screenshot_available": {"path": "review_img/1.png", "bytes": 9, "media_type": "image/png"},
    "spec_created": {"path": "specs/a.md"},
    "tool_execution": {"anything": "goes"},
    "usage_update": {"input_tokens": 1, "output_tokens": 2, "cumulative": False},
    "workflow_phase_transition": {"from": "plan", "to": "build"},
}  # fmt: skip

#: What must be refused: a payload that breaks its shape in one place.
BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("agent_tool_call", {**EXAMPLES["agent_tool_call"], "kind": "dance"}),
    ("agent_tool_result", {k: v for k, v in EXAMPLES["agent_tool_result"].items() if k != "bytes"}),
    ("agent_output", {**EXAMPLES["agent_output"], "final": "no"}),
    ("run_started", {"schema": "agentpipe/2", "agent": "claude"}),
    ("gap", {"ranges": [3, 5], "count": 3, "reason": "throttle"}),
    ("error", {"rank": "terrible", "message": "x"}),
    ("run_completed", {}),
]


def envelope(type_: str, payload: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        **make(type_, payload, run_id="r", agent_id="a", sequence=1, at="2026-11-20T07:00:00.000Z").envelope,
        **more,
    }


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(event_schema())


@pytest.mark.parametrize("only", [None, *sorted(PAYLOADS)])
def test_the_schema_is_valid_against_its_meta_schema(only: str | None) -> None:
    jsonschema.Draft202012Validator.check_schema(event_schema(only))


def test_the_table_is_sorted_and_has_every_type_that_others_speak_of() -> None:
    assert list(PAYLOADS) == sorted(PAYLOADS)
    assert set(PAYLOADS) >= EXEMPT_TYPES
    assert set(PAYLOADS) == set(EXAMPLES)


@pytest.mark.parametrize("type_", sorted(PAYLOADS))
def test_an_example_of_every_type_is_valid(validator: jsonschema.Draft202012Validator, type_: str) -> None:
    event = envelope(type_, EXAMPLES[type_])
    validator.validate(event)
    validator.validate(envelope(type_, {**EXAMPLES[type_], "key_of_a_newer_version": 1}))
    jsonschema.validate(event, event_schema(type_))
    assert not jsonschema.Draft202012Validator(event_schema(type_)).is_valid({**event, "type": "another"})


@pytest.mark.parametrize(("type_", "payload"), BROKEN, ids=[f"{t}-{n}" for n, (t, _) in enumerate(BROKEN)])
def test_a_broken_payload_is_refused(
    validator: jsonschema.Draft202012Validator, type_: str, payload: dict[str, Any]
) -> None:
    assert not validator.is_valid(envelope(type_, payload))
    assert not jsonschema.Draft202012Validator(event_schema(type_)).is_valid(envelope(type_, payload))


def test_an_unknown_type_is_valid_as_long_as_its_envelope_is(validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(envelope("from_the_future", {"x": 1}, own_key=True))


@pytest.mark.parametrize(
    "change",
    [
        {"type": ""},
        {"run_id": 3},
        {"run_id": ""},
        {"sequence": 0},
        {"sequence": 1.5},
        {"timestamp": "today"},
        {"payload": []},
        {"covers": [1]},
    ],
)
def test_a_broken_envelope_is_refused(validator: jsonschema.Draft202012Validator, change: dict[str, Any]) -> None:
    assert not validator.is_valid({**envelope("heartbeat", {}), **change})


@pytest.mark.parametrize("field", ["type", "run_id", "agent_id", "timestamp", "payload"])
def test_a_required_field_is_required(validator: jsonschema.Draft202012Validator, field: str) -> None:
    event = envelope("heartbeat", {})
    del event[field]
    assert not validator.is_valid(event)


def test_what_we_make_is_valid(validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(
        gap([(1, 2), (4, 4)], "buffer", run_id="r", agent_id="a", at="2026-11-20T07:00:00.000Z").envelope
    )
    made = make("heartbeat", {}, run_id="r", agent_id="a", sequence=9, at="2026-11-20T07:00:00.000Z", covers=[(7, 8)])
    validator.validate(made.envelope)


def test_an_unknown_type_has_no_schema_of_its_own() -> None:
    with pytest.raises(KeyError):
        event_schema("nothing")
