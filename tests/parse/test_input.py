"""Whose run a line belongs to: several agents in one pipe, several sessions, and lines that could be anybody's."""

from typing import Any

from agentpipe.event import TERMINAL_TYPES, Event, decode
from tests.parse.lines import (
    NOW,
    SESSION,
    Line,
    encoded,
    init,
    of,
    parsed,
    parsed_bytes,
    result,
    stage,
    text,
    types,
    wrapped,
)

GEMINI: list[Line] = [
    {"type": "init", "timestamp": "2026-11-20T08:00:00.000Z", "session_id": "g-1", "model": "auto"},
    {"type": "message", "timestamp": "2026-11-20T08:00:01.000Z", "role": "assistant", "content": "Hi", "delta": True},
    {"type": "result", "timestamp": "2026-11-20T08:00:02.000Z", "status": "success", "stats": {"input_tokens": 3}},
]
CLAUDE: list[Line] = [init(), text("Hello."), result("Hello.")]


def by_run(events: list[Line]) -> dict[str, list[Line]]:
    runs: dict[str, list[Line]] = {}
    for event in events:
        runs.setdefault(event["run_id"], []).append(event)
    return runs


def check_whole(runs: dict[str, list[Line]]) -> None:
    for events in runs.values():
        kinds = types(events)
        assert kinds[0] == "run_started"
        assert [kind for kind in kinds if kind in TERMINAL_TYPES] == [kinds[-1]]


def test_two_agents_in_one_pipe_are_two_runs() -> None:
    runs = by_run(parsed(*CLAUDE, *GEMINI))
    assert list(runs) == [SESSION, "g-1"]
    check_whole(runs)
    assert [event["payload"]["text"] for event in runs[SESSION] if event["type"] == "agent_output"] == ["Hello."]
    assert [event["agent_id"] for event in runs["g-1"]][:1] == ["gemini"]


def test_lines_of_two_agents_that_are_mixed_find_their_runs() -> None:
    mixed = [line for pair in zip(CLAUDE, GEMINI, strict=True) for line in pair]
    runs = by_run(parsed(*mixed))
    assert set(runs) == {SESSION, "g-1"}
    check_whole(runs)
    assert not of([event for events in runs.values() for event in events], "raw")


def test_a_script_that_runs_two_agents_has_two_runs_which_end_with_it() -> None:
    events = [decode(event.line) for event in parsed_bytes(encoded(wrapped([*CLAUDE, *GEMINI], exit_code=3)))]
    runs = by_run(events)
    assert list(runs) == ["r1", "r1/2"]
    check_whole(runs)
    assert [events[-1]["type"] for events in runs.values()] == ["run_failed", "run_failed"]
    assert [events[0]["payload"]["agent"] for events in runs.values()] == ["claude", "gemini"]


def test_sessions_of_one_process_are_one_run() -> None:
    other = [{**line, "session_id": "another"} for line in CLAUDE]
    events = [decode(event.line) for event in parsed_bytes(encoded(wrapped([*CLAUDE, *other])))]
    assert set(by_run(events)) == {"r1"}


def test_a_line_of_nobody_belongs_to_the_run_that_spoke_last() -> None:
    events = parsed(*CLAUDE, *GEMINI, "what is this")
    assert [event["run_id"] for event in events if event["type"] == "raw"] == ["g-1"]


def test_what_is_decided_is_said_once_a_run() -> None:
    parse = stage()
    parsed_bytes(encoded([*CLAUDE, *GEMINI]), parse)
    assert parse.notices == ["parse: detected claude", "parse: detected gemini"]


def test_a_process_that_was_silent_is_said_when_it_speaks() -> None:
    parse = stage()
    lines = [Event(line=encoded([line]).rstrip()) for line in wrapped(CLAUDE)]
    parse.feed(lines[:1], NOW)
    assert [event.type for event in parse.wake(NOW + 60)] == ["run_started"]
    assert parse.notices == []
    parse.feed(lines[1:], NOW + 60)
    assert parse.notices == ["parse: detected claude"]


def test_nothing_is_said_of_a_format_that_the_user_named() -> None:
    parse = stage(format="claude")
    parsed_bytes(encoded(CLAUDE), parse)
    assert parse.notices == []


def test_of_very_many_runs_the_first_few_are_said() -> None:
    parse = stage()
    lines = [
        line for number in range(50) for line in (init(session_id=f"s-{number}"), result(session_id=f"s-{number}"))
    ]
    events: list[Any] = parsed_bytes(encoded(lines), parse, now=NOW)
    assert len({event.run_id for event in events}) == 50
    assert len(parse.notices) == 20
    assert "further runs" in parse.notices[-1]


def test_an_error_of_any_program_makes_it_no_agent() -> None:
    events = parsed({"level": "info", "message": "starting"}, {"type": "error", "message": "disk full"}, "done")
    assert events[0]["payload"]["agent"] == "plain"
    assert events[-1]["type"] == "run_completed"
    assert [raw["data"] for raw in of(events, "raw")] == [
        {"level": "info", "message": "starting"},
        {"type": "error", "message": "disk full"},
    ]


def test_an_error_before_an_agents_first_line_is_that_agents() -> None:
    events = parsed(
        {"type": "error", "message": "Reconnecting... 1/5 (x)"}, {"type": "thread.started", "thread_id": "t-1"}
    )
    assert set(by_run(events)) == {"t-1"}
    assert [problem["rank"] for problem in of(events, "error")] == ["warning"]
