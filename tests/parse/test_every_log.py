"""Every log of every agent, saved and made up: recognised, valid, counted independently, and the same however it is
cut and whoever hands it on.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agentpipe.event import TERMINAL_TYPES, decode
from agentpipe.payload import event_schema
from tests.parse.counts.claude import told_by_claude
from tests.parse.lines import encoded, lines_in, parsed_bytes, stage, types, wrapped
from tests.parse.logs import EXAMPLES, LOGS, Log

AGENTPIPE = str(Path(sys.executable).with_name("agentpipe"))
VALIDATOR = jsonschema.Draft202012Validator(event_schema())

ALL = [*EXAMPLES, *LOGS]

needs_logs = pytest.mark.skipif(not LOGS, reason="the saved logs (../shared) are not here")

#: A piece a byte costs a call each.
_BYTE_BY_BYTE = 20_000


@pytest.fixture(scope="module", params=ALL, ids=str)
def log(request: pytest.FixtureRequest) -> Log:
    return request.param


@pytest.fixture(scope="module")
def data(log: Log) -> bytes:
    return log.path.read_bytes()


def test_it_is_recognised(log: Log, data: bytes) -> None:
    parse = stage()
    parsed_bytes(data, parse)
    assert set(parse.report()["formats"].values()) == ({log.format} if data.strip() else set())


def test_one_start_one_end_and_numbers_without_a_hole(data: bytes) -> None:
    runs: dict[str, list[dict[str, Any]]] = {}
    for event in parsed_bytes(data):
        runs.setdefault(event.run_id, []).append(decode(event.line))
    assert bool(runs) == bool(data.strip())
    for events in runs.values():
        kinds = types(events)
        assert (kinds[0], kinds.count("run_started")) == ("run_started", 1)
        assert kinds[-1] in TERMINAL_TYPES
        assert sum(kind in TERMINAL_TYPES for kind in kinds) == 1
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))


def test_every_event_is_valid(data: bytes) -> None:
    for event in parsed_bytes(data):
        VALIDATOR.validate(decode(event.line))


def test_calls_and_results_are_as_many_as_in_the_log(log: Log, data: bytes) -> None:
    kinds = Counter(event.type for event in parsed_bytes(data))
    counter = import_module(f"tests.parse.counts.{log.format.replace('-', '_')}")
    assert (kinds["agent_tool_call"], kinds["agent_tool_result"]) == counter.counted(data)


def test_every_line_is_accounted_for(data: bytes) -> None:
    parse = stage()
    parsed_bytes(data, parse)
    report = parse.report()
    assert report["in"] == lines_in(data)
    assert report["in"] == report["sources"] + report["ignored"] + report["raw"] + report["passed_through"]
    assert report["in"] == report["out"] + sum(report["dropped"].values()) + report["merged"] + report["left"]


def test_a_text_is_final_once_and_its_chunks_are_of_it(data: bytes) -> None:
    finals: Counter[tuple[Any, ...]] = Counter()
    for event in parsed_bytes(data):
        if event.type not in ("agent_output", "agent_thinking"):
            continue
        found = decode(event.line)
        said = found["payload"]
        place = (event.run_id, event.type, found.get("parent_id"), said["message_id"], said["index"])
        if said["final"]:
            finals[place] += not said.get("retracted")
        else:
            finals[place] += 0
    assert set(finals.values()) <= {0, 1}
    assert all(finals.values()) or b"supersedes" in data or b"retracted" in data


def test_turns_are_counted_and_cost_is_the_source_s(data: bytes) -> None:
    runs: dict[str, list[dict[str, Any]]] = {}
    for event in parsed_bytes(data):
        runs.setdefault(event.run_id, []).append(decode(event.line))
    for events in runs.values():
        turns = [event["payload"]["turn"] for event in events if event["type"] == "run_iteration"]
        assert turns == list(range(1, len(turns) + 1))
        assert events[-1]["payload"].get("turns", 0) == len(turns)
        assert "cost_usd" not in events[-1]["payload"] or b"cost" in data.lower()


CLAUDE = [log for log in ALL if log.format == "claude"]


@pytest.mark.parametrize("log", CLAUDE, ids=str)
def test_texts_turns_and_cost_of_claude_code_are_as_in_the_log(log: Log) -> None:
    data = log.path.read_bytes()
    events = [decode(event.line) for event in parsed_bytes(data)]
    finals = [e for e in events if e["payload"].get("final") and not e["payload"].get("retracted")]
    assert {
        "cost": events[-1]["payload"].get("cost_usd") if events else None,
        "texts": sum(event["type"] == "agent_output" for event in finals),
        "thoughts": sum(event["type"] == "agent_thinking" for event in finals),
        "turns": types(events).count("run_iteration"),
    } == told_by_claude(data)


#: Lines of unknown types that a fixture has on purpose, and parts of other objects in another program's log.
_UNKNOWN = {
    "ritual_synthetic_garbage.jsonl": {"not recognised", "unknown block 'future_block_kind'"},
    "happy_pretty_printed_in_jsonl.jsonl": {"unknown type ''", "unknown type 'text'", "unknown type 'tool_use'"},
}


def test_what_agents_write_is_known(log: Log, data: bytes) -> None:
    """It is told or silent by rule; only what is no JSON is raw."""
    raws = [decode(event.line)["payload"]["reason"] for event in parsed_bytes(data) if event.type == "raw"]
    assert set(raws) - {"not JSON"} == _UNKNOWN.get(log.path.name, set())


def test_wrapped_by_run_the_same_events_come(data: bytes) -> None:
    lines = [_as_run_sees(line) for line in data.decode("utf-8", "replace").split("\n") if line]
    assert _comparable(encoded(wrapped(lines))) == _comparable(data)


def _as_run_sees(line: str) -> Any:
    try:
        found = json.loads(line)
    except ValueError:
        return line
    return found if isinstance(found, dict | list) else line


_OF_PLACE_OR_TIME = frozenset({"elapsed_s", "eta_range_s", "eta_s", "ref", "whole"})


def _comparable(data: bytes) -> list[tuple[str, Any, Any]]:
    """The events without what differs: the run, the times, how it began and ended, and a progress told once more."""
    out: list[tuple[str, Any, Any]] = []
    progress: dict[str | None, Any] = {}
    for event in (decode(event.line) for event in parsed_bytes(data)):
        kind, scope = event["type"], event.get("parent_id")
        if kind == "run_started" or kind in TERMINAL_TYPES:
            continue
        payload = {key: value for key, value in event["payload"].items() if key not in _OF_PLACE_OR_TIME}
        if kind == "progress_update":
            if progress.get(scope) == payload:
                continue
            progress[scope] = payload
        out.append((kind, scope, payload))
    return out


def test_parsed_once_more_nothing_changes(data: bytes) -> None:
    once = [event.line for event in parsed_bytes(data)]
    parse = stage()
    assert [event.line for event in parsed_bytes(b"".join(line + b"\n" for line in once), parse)] == once
    assert parse.report()["passed_through"] == len(once)


def test_cuts_change_nothing(data: bytes) -> None:
    whole = [event.line for event in parsed_bytes(data)]
    chance = random.Random(len(data))
    for pieces in (7, 200):
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(pieces))
        assert [event.line for event in parsed_bytes(data, cuts=cuts)] == whole
    if len(data) < _BYTE_BY_BYTE:
        assert [event.line for event in parsed_bytes(data, cuts=range(1, len(data)))] == whole


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict) and len(line) > 20
    except ValueError:
        return False


def _inner(data: bytes) -> list[int]:
    """The lines that can be corrupted: objects, but for the first two, by which a log is known, and the last."""
    lines = data.rstrip(b"\n").split(b"\n")
    return [number for number, line in enumerate(lines[2:-1], 2) if _is_object(line)]


def _is_lines(log: Log) -> bool:
    """Whether a log has an object a line, and an inside."""
    data = log.path.read_bytes()
    return len(_inner(data)) > max(0, data.count(b"\n") - 5)


LINES = [log for log in ALL if _is_lines(log)]


@pytest.mark.parametrize("log", LINES, ids=str)
def test_corrupted_lines_affect_nothing_but_themselves(log: Log) -> None:
    """What is told of a log with corrupted lines is what is told of the log without them, and each of them as raw."""
    data = log.path.read_bytes()
    lines = data.rstrip(b"\n").split(b"\n")
    inner = _inner(data)
    chance = random.Random(len(data))
    bad = set(chance.sample(inner, max(1, len(lines) // 100)))
    corrupted = [_corrupt(line, chance) if number in bad else line for number, line in enumerate(lines)]
    told = [decode(event.line) for event in parsed_bytes(b"\n".join(corrupted) + b"\n")]
    without = [line for number, line in enumerate(lines) if number not in bad]
    expected = [decode(event.line) for event in parsed_bytes(b"\n".join(without) + b"\n")]
    assert sum(_is_broken(event) for event in told) >= len(bad)
    assert _unharmed(told) == _unharmed(expected)


def _is_broken(event: Mapping[str, Any]) -> bool:
    return event["payload"].get("reason") == "not JSON"


def _unharmed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events but for those of broken lines, with the wholes of these; without their numbers."""
    wholes = {whole["ref"] for event in events if _is_broken(event) for whole in event["payload"].get("whole", ())}
    rest = [event for event in events if not _is_broken(event)]
    return [_unnumbered(event) for event in rest if event["type"] != "content" or event["payload"]["ref"] not in wholes]


def _corrupt(line: bytes, chance: random.Random) -> bytes:
    """*line* as a broken disk, a killed writer or a bad copy leaves it; never JSON any more."""
    place = chance.randrange(2, len(line) - 2)
    ways = (line[:place], line[:place] + b"\x00\xff" + line[place + 1 :].replace(b"}", b""), line[place:].lstrip(b"{["))
    found = chance.choice(ways)
    return found if not _is_object(found) and found.strip() else line[:-1]


def _unnumbered(event: Mapping[str, Any]) -> dict[str, Any]:
    payload = {key: value for key, value in event["payload"].items() if key not in ("ref", "whole")}
    kept = {key: value for key, value in event.items() if key not in ("sequence", "event_id")}
    return {**kept, "payload": payload}


@needs_logs
def test_the_saved_logs_are_here() -> None:
    """All above is tried on them."""
    assert {log.format for log in LOGS} >= {"claude", "codex", "gemini", "opencode", "qwen"}


def test_the_command_says_what_it_found_and_ends_with_0() -> None:
    """One process a log, as a person runs it: status 0, the format on stderr, nothing unaccounted for in --stats."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for log, done in zip(ALL, pool.map(_command, ALL), strict=True):
            assert done.returncode == 0, log
            said = done.stderr.decode().splitlines()
            counts = json.loads(said[-1].removeprefix("agentpipe: "))
            assert counts["in"] == sum(counts[name] for name in ("sources", "ignored", "raw", "passed_through")), log
            assert (f"agentpipe: parse: detected {log.format}" in said) is bool(counts["in"]), (log, said)


def _command(log: Log) -> "subprocess.CompletedProcess[bytes]":
    with log.path.open("rb") as file:
        return subprocess.run([AGENTPIPE, "parse", "--stats"], stdin=file, capture_output=True, timeout=120)


@pytest.mark.parametrize("log", EXAMPLES, ids=str)
def test_contents_are_left_out_when_nobody_wants_them(log: Log) -> None:
    """Whoever the agent: what is cut names no whole, and none is told."""
    data = log.path.read_bytes()
    cut = [event.type for event in parsed_bytes(data, stage(max_content=8))]
    events = [decode(event.line) for event in parsed_bytes(data, stage(max_content=8, no_contents=True))]
    assert "content" in cut or log.format == "plain"
    assert "content" not in types(events)
    assert not [event for event in events if "whole" in event["payload"]]
