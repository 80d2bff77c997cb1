"""Every saved log of Claude Code: counted independently, valid, and the same however it is cut."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agentpipe.event import decode
from agentpipe.payload import event_schema
from tests.parse.lines import encoded, parsed_bytes, stage, types, wrapped

SHARED = Path(__file__).parents[3] / "shared"


def _logs() -> list[Path]:
    found = [*SHARED.glob("fixtures/claude-stream-json/*.jsonl"), *SHARED.glob("recordings/claude*/*.jsonl")]
    found += [path for kind in ("claude", "stream", "tool") for path in SHARED.glob(f"recordings/sig/{kind}-*.jsonl")]
    others = (".transcript", ".hooks.", ".mock.")
    return sorted(path for path in found if not any(mark in path.name for mark in others))


LOGS = _logs()
VALIDATOR = jsonschema.Draft202012Validator(event_schema())

pytestmark = pytest.mark.skipif(not LOGS, reason="the saved logs (../shared) are not here")


def _messages(data: bytes) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for line in data.split(b"\n"):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        out += [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]
    return out


def counted(data: bytes) -> dict[str, Any]:
    """What the log holds, counted from its JSON without the code under test."""
    count: Counter[str] = Counter()
    cost = None
    streamed: dict[tuple[Any, int], str] = {}
    current: dict[Any, Any] = {}
    for message in _messages(data):
        kind, body = message.get("type"), message.get("message")
        content = body.get("content", []) if isinstance(body, dict) else [{"type": "text"}]
        if kind == "assistant" and isinstance(content, list):
            real = not (message.get("error") and body.get("model") == "<synthetic>")
            for block in content:
                if block.get("type") == "tool_use":
                    count["calls"] += 1
                elif block.get("type") == "text" and real:
                    count["texts"] += 1
                    _one_less(streamed, body.get("id"))
                elif block.get("type") == "thinking" and block.get("thinking"):
                    count["thoughts"] += 1
        elif kind == "user" and isinstance(content, list):
            count["results"] += sum(block.get("type") == "tool_result" for block in content)
            count["texts"] += sum(block.get("type") == "text" for block in content)
        elif kind == "result":
            count["turns"] += 1
            cost = message.get("total_cost_usd", cost)
        elif kind == "stream_event":
            _follow(message, current, streamed)
    count["texts"] += len(streamed)
    return {"cost": cost, **{name: count[name] for name in ("calls", "results", "texts", "thoughts", "turns")}}


def _follow(message: dict[str, Any], current: dict[Any, Any], streamed: dict[tuple[Any, int], str]) -> None:
    """Texts that began to stream and whose whole line never came."""
    event, scope = message["event"], message.get("parent_tool_use_id")
    if event["type"] == "message_start":
        current[scope] = event["message"]["id"]
    elif event.get("delta", {}).get("type") == "text_delta":
        streamed[current[scope], event["index"]] = "open"


def _one_less(streamed: dict[tuple[Any, int], str], message_id: Any) -> None:
    mine = sorted(key for key in streamed if key[0] == message_id)
    if mine:
        del streamed[mine[0]]


@pytest.fixture(scope="module", params=LOGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def log(request: pytest.FixtureRequest) -> bytes:
    return request.param.read_bytes()


def test_counts_equal_an_independent_count(log: bytes) -> None:
    if not _messages(log):
        events = [decode(event.line) for event in parsed_bytes(log)]
        assert {event["payload"]["agent"] for event in events[:1]} <= {"plain"}  # plain text, or nothing at all
        return
    events = [decode(event.line) for event in parsed_bytes(log)]
    finals = [e for e in events if e["payload"].get("final") and not e["payload"].get("retracted")]
    kinds = Counter(types(events))
    last = events[-1]["payload"]
    assert {
        "cost": last.get("cost_usd"),
        "calls": kinds["agent_tool_call"],
        "results": kinds["agent_tool_result"],
        "texts": sum(event["type"] == "agent_output" for event in finals),
        "thoughts": sum(event["type"] == "agent_thinking" for event in finals),
        "turns": kinds["run_iteration"],
    } == counted(log)


def test_one_start_one_end_and_numbers_without_a_hole(log: bytes) -> None:
    runs: dict[str, list[dict[str, Any]]] = {}
    for event in parsed_bytes(log):
        runs.setdefault(event.run_id, []).append(decode(event.line))
    assert len(runs) == (1 if log else 0)
    for events in runs.values():
        kinds = types(events)
        assert kinds[0] == "run_started"
        assert kinds.count("run_started") == 1
        assert kinds[-1] in ("run_completed", "run_failed", "run_cancelled")
        assert sum(kind in ("run_completed", "run_failed", "run_cancelled") for kind in kinds) == 1
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))


def test_every_event_is_valid(log: bytes) -> None:
    for event in parsed_bytes(log):
        VALIDATOR.validate(decode(event.line))


def test_every_line_is_accounted_for(log: bytes) -> None:
    parse = stage()
    parsed_bytes(log, parse)
    report = parse.report()
    lines = sum(1 for line in log.split(b"\n") if line)
    assert report["in"] == lines
    assert report["sources"] + report["ignored"] + report["raw"] + report["passed_through"] == lines
    assert report["in"] == report["out"] + sum(report["dropped"].values()) + report["merged"] + report["left"]


def test_cuts_change_nothing(log: bytes) -> None:
    whole = [event.line for event in parsed_bytes(log)]
    chance = random.Random(len(log))
    for pieces in (7, 200):
        cuts = sorted(chance.randrange(len(log) + 1) for _ in range(pieces))
        assert [event.line for event in parsed_bytes(log, cuts=cuts)] == whole
    if len(log) < 20_000:  # a piece a byte costs a call each
        assert [event.line for event in parsed_bytes(log, cuts=range(1, len(log)))] == whole


def test_wrapped_by_run_the_same_events_come(log: bytes) -> None:
    lines = []
    for line in log.decode("utf-8", "replace").split("\n"):
        try:
            found = json.loads(line)
        except ValueError:
            found = line
        lines += [found if isinstance(found, dict | list) else line] if line else []
    bare, inside = (
        [_comparable(decode(event.line)) for event in parsed_bytes(data)] for data in (log, encoded(wrapped(lines)))
    )
    assert [event for event in bare if event] == [event for event in inside if event]


def _comparable(event: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """An event without what differs: its run, its times, and how the run began and ended."""
    if event["type"] in ("run_started", "run_completed", "run_failed", "run_cancelled"):
        return None
    payload = {key: value for key, value in event["payload"].items() if key not in ("elapsed_s", "ref", "whole")}
    return event["type"], event.get("parent_id"), payload


def test_parsed_once_more_nothing_changes(log: bytes) -> None:
    once = [event.line for event in parsed_bytes(log)]
    parse = stage()
    assert [event.line for event in parsed_bytes(b"".join(line + b"\n" for line in once), parse)] == once
    assert parse.report()["passed_through"] == len(once)


def test_nothing_in_the_recordings_is_unknown(log: bytes) -> None:
    """What the recordings hold is told or silent by rule; only what is no JSON is raw."""
    raws = [e["payload"] for e in (decode(event.line) for event in parsed_bytes(log)) if e["type"] == "raw"]
    unknown = {raw["reason"] for raw in raws if raw["reason"] != "not JSON"}
    assert unknown <= {"unknown type 'totally_unknown_event'", "unknown block 'future_block_kind'"}
