"""Whose output is it? Under noise, from the middle, with two agents in one pipe, and with the wrong format forced."""

import json
import random
from itertools import permutations, zip_longest

import pytest

from agentpipe.event import TERMINAL_TYPES, decode
from agentpipe.parse.detect import ADAPTERS
from tests.parse.lines import Line, encoded, lines_in, parsed_bytes, stage, types, wrapped
from tests.parse.logs import EXAMPLES

STORIES = {log.format: log.path.read_bytes() for log in EXAMPLES}
AGENTS = sorted(STORIES.keys() - {"plain"})


def read(data: bytes, format_: str = "auto") -> tuple[list[Line], dict[str, str], dict[str, int]]:
    """The events, the formats in the order of their runs, and the account of the lines."""
    parse = stage(format=format_)
    events = [decode(event.line) for event in parsed_bytes(data, parse)]
    report = parse.report()
    assert report["in"] == lines_in(data)
    assert report["in"] == report["sources"] + report["ignored"] + report["raw"] + report["passed_through"]
    return events, report["formats"], report


def whole_runs(events: list[Line]) -> list[list[Line]]:
    """The events run by run, each with one start, one end and numbers without a hole."""
    runs: dict[str, list[Line]] = {}
    for event in events:
        runs.setdefault(event["run_id"], []).append(event)
    for found in runs.values():
        kinds = types(found)
        assert (kinds[0], kinds.count("run_started")) == ("run_started", 1)
        assert kinds[-1] in TERMINAL_TYPES
        assert sum(kind in TERMINAL_TYPES for kind in kinds) == 1
        assert [event["sequence"] for event in found] == list(range(1, len(found) + 1))
    return list(runs.values())


def told(events: list[Line], *but: str) -> list[tuple[str, object]]:
    """What was said, without what a neighbour changes: the ids of runs, numbers, times by the clock."""
    return [
        (event["type"], {key: value for key, value in event["payload"].items() if key not in ("elapsed_s", "schema")})
        for event in events
        if event["type"] not in (*but, "run_started", *TERMINAL_TYPES)
    ]


# ---- two agents in one pipe


@pytest.mark.parametrize("pair", list(permutations(AGENTS, 2)), ids=" then ".join)
def test_two_agents_in_one_pipe_are_two_whole_runs(pair: tuple[str, str]) -> None:
    events, formats, report = read(STORIES[pair[0]] + STORIES[pair[1]])
    assert tuple(formats.values()) == pair
    assert report["raw"] == 0
    for agent, run in zip(pair, whole_runs(events), strict=True):
        assert told(run) == told(read(STORIES[agent])[0])


@pytest.mark.parametrize("pair", list(permutations(AGENTS, 2)), ids=" and ".join)
def test_two_agents_that_write_at_the_same_time_are_two_whole_runs(pair: tuple[str, str]) -> None:
    """Line by line: also lines that several formats could have written find their run."""
    both = zip_longest(*(STORIES[agent].splitlines(keepends=True) for agent in pair))
    events, formats, report = read(b"".join(line for lines in both for line in lines if line))
    assert sorted(formats.values()) == sorted(pair)
    assert report["raw"] == 0
    for run in whole_runs(events):
        assert told(run) == told(read(STORIES[formats[run[0]["run_id"]]])[0])


@pytest.mark.parametrize("pair", list(permutations(AGENTS, 2)), ids=" then ".join)
def test_two_agents_in_one_process_are_two_whole_runs(pair: tuple[str, str]) -> None:
    lines = [json.loads(line) for agent in pair for line in STORIES[agent].splitlines()]
    events, formats, report = read(encoded(wrapped(lines)))
    assert tuple(formats.values()) == pair
    assert report["raw"] == 0
    assert [run[0]["run_id"] for run in whole_runs(events)] == ["r1", "r1/2"]


@pytest.mark.parametrize("agent", AGENTS)
def test_plain_text_before_an_agent_is_a_banner_and_after_it_is_raw(agent: str) -> None:
    for data in (STORIES["plain"] + STORIES[agent], STORIES[agent] + STORIES["plain"]):
        events, formats, _ = read(data)
        assert list(formats.values()) == [agent]
        [run] = whole_runs(events)
        assert told(run, "raw", "agent_log_entry") == told(read(STORIES[agent])[0], "agent_log_entry")


@pytest.mark.parametrize("agent", AGENTS)
def test_the_same_agent_again_with_another_session_is_another_run_where_a_line_names_it(agent: str) -> None:
    if agent in ("goose", "kimi"):  # nothing of a log names a session: it goes on
        assert len(whole_runs(read(STORIES[agent] * 2)[0])) == 1
        return
    other = STORIES[agent].replace(b"ex-", b"other-").replace(b"T-00000000", b"T-11111111")
    events, formats, report = read(STORIES[agent] + other)
    assert list(formats.values()) == [agent, agent]
    assert report["raw"] == 0
    one, two = whole_runs(events)
    assert types(one) == types(two)


# ---- from the middle


@pytest.mark.parametrize("agent", AGENTS)
def test_a_log_that_starts_in_the_middle_is_recognised(agent: str) -> None:
    lines = STORIES[agent].splitlines(keepends=True)
    for start in range(1, len(lines)):
        events, formats, _ = read(b"".join(lines[start:]))
        assert list(formats.values()) == [agent], lines[start]
        whole_runs(events)


# ---- noise before


NOISE = {
    "a banner": "Starting the agent…\n================\n",
    "blank lines": "\n \n\t\n\n",
    "a byte order mark": "\ufeff",
    "a warning": "Warning: 256-color support not detected.\nLoaded cached credentials.\n",
    "escapes": "\x1b[?25l\x1b[2K\x1b[1mready\x1b[0m\n",
    "a stack": "Error: x\n    at a (/b.js:1:2)\n  code: 'E',\n}\n",
    "someone's JSON": '{"level":"info","msg":"starting","time":"2026-11-20T07:00:00Z"}\n',
    "someone's pretty JSON": json.dumps({"config": {"model": "x", "list": [1, {"a": []}]}}, indent=2) + "\n",
    "someone's pretty array": json.dumps([{"a": 1}, {"b": [2]}], indent=4) + "\n",
    "a half object": '{"level":"info",\n',
    "an open bracket": "{\n",
    "words of several formats": '{"type":"message"}\n{"type":"tool_use"}\n{"type":"text","text":"x"}\n',
    "scalars": 'null\n1\n"x"\n[]\n{}\n',
}


@pytest.mark.parametrize("noise", list(NOISE.values()), ids=list(NOISE))
@pytest.mark.parametrize("agent", AGENTS)
def test_noise_before_the_first_line_hides_nobody(agent: str, noise: str) -> None:
    events, formats, _ = read(noise.encode() + STORIES[agent])
    assert list(formats.values()) == [agent]
    [run] = whole_runs(events)
    assert run[0]["run_id"] == read(STORIES[agent])[0][0]["run_id"]  # the session's, where a line tells it
    calm = ("agent_log_entry", "error", "raw")  # what an agent's own words mean when they are not its
    assert told(run, *calm) == told(read(STORIES[agent])[0], *calm)


@pytest.mark.parametrize("agent", AGENTS)
def test_stderr_between_the_lines_hides_nobody(agent: str) -> None:
    lines = STORIES[agent].splitlines(keepends=True)
    noise = list(NOISE.values())
    chance = random.Random(agent)
    mixed = b"".join(line + chance.choice(noise).rstrip("\ufeff").encode() for line in lines)
    events, formats, _ = read(mixed)
    assert list(formats.values()) == [agent]
    [run] = whole_runs(events)
    kinds = ("agent_tool_call", "agent_tool_result", "file_changed", "usage_update")
    assert [event for event in told(run) if event[0] in kinds] == [
        event for event in told(read(STORIES[agent])[0]) if event[0] in kinds
    ]


# ---- the wrong format forced


@pytest.mark.parametrize("format_", list(ADAPTERS))
def test_a_forced_format_is_kept_whatever_the_log_is_and_loses_nothing(format_: str) -> None:
    for agent, data in STORIES.items():
        events, formats, report = read(data, format_)
        assert set(formats.values()) == {format_}, agent
        whole_runs(events)
        if agent == format_:
            assert events == read(data)[0]
        elif format_ != "plain":
            assert report["raw"] + report["sources"] + report["ignored"] == report["in"]


# ---- other shapes of a log


@pytest.mark.parametrize("agent", AGENTS)
def test_an_array_of_lines_and_lines_that_were_pretty_printed_are_the_same_log(agent: str) -> None:
    lines = [json.loads(line) for line in STORIES[agent].splitlines()]
    shapes = [json.dumps(lines), json.dumps(lines, indent=2)]
    shapes += ["\n".join(json.dumps(line, indent=indent) for line in lines) for indent in (2, 4)]
    expected = told(read(STORIES[agent])[0], "agent_state_update")  # an array tells its facts at its start
    for shape in shapes:
        events, formats, report = read(shape.encode() + b"\n")
        assert list(formats.values()) == [agent]
        assert report["raw"] == 0
        assert told(events, "agent_state_update") == expected
