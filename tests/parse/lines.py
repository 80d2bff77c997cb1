"""Lines for the tests of parse, and how a test feeds them."""

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from agentpipe.event import Event, decode
from agentpipe.intake import Intake
from agentpipe.parse import Parse, ParseOptions

NOW = 1_800_000_000.0
SESSION = "5e55-10"

Line = dict[str, Any]


def init(**more: Any) -> Line:
    return {
        "type": "system", "subtype": "init", "cwd": "/w", "session_id": SESSION, "tools": ["Bash"],
        "model": "opus", "claude_code_version": "2.1.0", **more,
    }  # fmt: skip


def assistant(block: Line | None, message: str = "msg_1", **more: Any) -> Line:
    body = {"id": message, "role": "assistant", "model": "opus-1", "content": [block] if block else []}
    return {"type": "assistant", "message": body, "parent_tool_use_id": None, "session_id": SESSION, **more}


def text(said: str, message: str = "msg_1", **more: Any) -> Line:
    return assistant({"type": "text", "text": said}, message, **more)


def call(name: str, given: Line, call_id: str = "t1", **more: Any) -> Line:
    return assistant({"type": "tool_use", "id": call_id, "name": name, "input": given}, f"m-{call_id}", **more)


def returned(content: Any = "ok", call_id: str = "t1", *, failed: bool | None = None, **more: Any) -> Line:
    block: Line = {"type": "tool_result", "tool_use_id": call_id, "content": content}
    if failed is not None:
        block["is_error"] = failed
    return {
        "type": "user", "message": {"role": "user", "content": [block]},
        "parent_tool_use_id": None, "session_id": SESSION, **more,
    }  # fmt: skip


def result(said: str = "done", **more: Any) -> Line:
    return {
        "is_error": False, "num_turns": 1, "subtype": "success", "result": said, "session_id": SESSION,
        "total_cost_usd": 0.5, "duration_ms": 100, "type": "result", **more,
    }  # fmt: skip


def system(subtype: str, **more: Any) -> Line:
    return {"type": "system", "subtype": subtype, "session_id": SESSION, "uuid": "u", **more}


def stream(event: Line, **more: Any) -> Line:
    return {"type": "stream_event", "event": event, "parent_tool_use_id": None, "session_id": SESSION, **more}


def message_start(message: str = "msg_1") -> Line:
    return stream({"type": "message_start", "message": {"id": message, "model": "opus-1", "content": []}})


def block_start(index: int = 0, kind: str = "text") -> Line:
    return stream({"type": "content_block_start", "index": index, "content_block": {"type": kind, kind: ""}})


def delta(said: str, index: int = 0, kind: str = "text") -> Line:
    return stream({"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", kind: said}})


def encoded(lines: Iterable[Line | str]) -> bytes:
    return b"".join((line if isinstance(line, str) else json.dumps(line)).encode() + b"\n" for line in lines)


def lines_in(data: bytes) -> int:
    """How many lines of *data* say something: one CR belongs to the line end, as CRLF."""
    return sum(1 for line in data.split(b"\n") if line.removesuffix(b"\r"))


def stage(**options: Any) -> Parse:
    ids = iter(f"fresh-{number}" for number in range(1, 100))
    return Parse(ParseOptions(**options), lambda: next(ids))


def parsed_bytes(data: bytes, parse: Parse | None = None, cuts: Iterable[int] = (), now: float = NOW) -> list[Event]:
    """The events of *data*, read in the pieces that *cuts* (positions) make."""
    parse = parse or stage()
    intake = Intake("lines")
    out: list[Event] = []
    places = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(places):
        out += parse.feed(intake.feed(data[start:end], now), now)
    out += parse.feed(intake.finish(now), now)
    return [*out, *parse.finish(now)]


def parsed(*lines: Line | str, **options: Any) -> list[Line]:
    """The events of *lines* as objects."""
    return [decode(event.line) for event in parsed_bytes(encoded(lines), stage(**options))]


def of(events: Iterable[Line], *types: str) -> list[Line]:
    """The payloads of the events of *types*."""
    return [event["payload"] for event in events if event["type"] in types]


def types(events: Iterable[Line]) -> list[str]:
    return [event["type"] for event in events]


def wrapped(lines: Iterable[Any], run_id: str = "r1", **exited: Any) -> list[Line]:
    """*lines* as ``run`` writes them."""

    def event(kind: str, payload: Line) -> Line:
        number[0] += 1
        return {
            "type": kind, "run_id": run_id, "agent_id": "claude", "sequence": number[0],
            "timestamp": "2027-01-15T08:00:00.000Z", "event_id": f"{run_id}:{number[0]}", "payload": payload,
        }  # fmt: skip

    number = [0]
    outputs = [
        {"stream": "stdout", "text": line} if isinstance(line, str) else {"stream": "stdout", "data": line}
        for line in lines
    ]
    return [
        event("process_started", {"command": ["/usr/bin/claude", "-p"], "cwd": "/w", "pid": 7}),
        *(event("process_output", payload) for payload in outputs),
        event("process_exited", {"exit_code": 0, "signal": None, "duration_ms": 1234, "reason": "exit", **exited}),
    ]
