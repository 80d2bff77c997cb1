"""Runs: their identity, their numbers, their start and their one end, whatever comes in."""

import json
from typing import Any

import pytest

from agentpipe.errors import InputError
from agentpipe.event import Event, decode, make
from agentpipe.intake import Intake
from agentpipe.parse.waiting import Wait
from agentpipe.stage import Demand
from tests.parse.lines import (
    NOW,
    SESSION,
    Line,
    call,
    delta,
    encoded,
    init,
    message_start,
    of,
    parsed,
    parsed_bytes,
    result,
    returned,
    stage,
    system,
    text,
    types,
    wrapped,
)

SAMPLE = [init(), text("hello"), call("Bash", {"command": "ls"}), returned("a\nb", failed=False), result()]


def fed(parse: Any, *lines: Line | str, now: float = NOW) -> list[Line]:
    return [decode(event.line) for event in parse.feed(Intake("lines").feed(encoded(lines), now), now)]


def only(events: list[Line], *left_out: str) -> list[tuple[str, Any]]:
    """Types and payloads, without those that differ between a bare log and a wrapped one."""
    ends = {"run_started", "run_completed", *left_out}
    return [(event["type"], event["payload"]) for event in events if event["type"] not in ends]


# ---- identity


def test_a_bare_log_is_known_by_its_session() -> None:
    assert {(event["run_id"], event["agent_id"]) for event in parsed(*SAMPLE)} == {(SESSION, "claude")}


def test_the_same_log_twice_has_the_same_ids() -> None:
    assert [event["event_id"] for event in parsed(*SAMPLE)] == [event["event_id"] for event in parsed(*SAMPLE)]


def test_text_without_a_session_gets_a_fresh_id() -> None:
    assert {event["run_id"] for event in parsed("one", "two")} == {"fresh-1"}


def test_options_give_the_identity() -> None:
    events = parsed(*SAMPLE, run_id="mine", agent="planner", work_id="w-1")
    assert {(event["run_id"], event["agent_id"], event["work_id"]) for event in events} == {("mine", "planner", "w-1")}


def test_run_keeps_its_own_id() -> None:
    events = parsed(*wrapped(SAMPLE, run_id="from-run"))
    assert {event["run_id"] for event in events} == {"from-run"}
    assert of(events, "run_started")[0]["session_id"] == SESSION


def test_two_processes_in_one_input_are_two_runs() -> None:
    pairs = zip(wrapped(SAMPLE, "a"), wrapped(SAMPLE, "b"), strict=True)
    events = parsed(*(line for pair in pairs for line in pair))
    for run_id in ("a", "b"):
        mine = [event for event in events if event["run_id"] == run_id]
        assert [event["sequence"] for event in mine] == list(range(1, len(mine) + 1))
        assert (types(mine)[0], types(mine)[-1]) == ("run_started", "run_completed")


def test_two_sessions_in_one_bare_input_are_two_runs() -> None:
    second = [{**line, "session_id": "other"} for line in SAMPLE]
    events = parsed(*SAMPLE, *second)
    assert [event["run_id"] for event in events if event["type"] == "run_started"] == [SESSION, "other"]
    assert [event["run_id"] for event in events if event["type"] == "run_completed"] == [SESSION, "other"]


def test_a_conversation_that_is_reset_stays_one_run() -> None:
    reset = {"type": "conversation_reset", "new_conversation_id": "new", "session_id": SESSION}
    events = parsed(*SAMPLE, reset, {**text("again"), "session_id": "new"})
    assert {event["run_id"] for event in events} == {SESSION}


def test_a_process_that_goes_on_after_its_end_is_another_run() -> None:
    events = parsed(*wrapped(SAMPLE), *wrapped(SAMPLE))
    assert [event["run_id"] for event in events if event["type"] == "run_started"] == ["r1", "r1/2"]


# ---- the start


def test_run_started_comes_at_once_with_init() -> None:
    assert types(fed(stage(), init())) == ["run_started"]


def test_run_started_tells_what_init_and_run_know() -> None:
    started = of(parsed(*wrapped(SAMPLE)), "run_started")[0]
    assert started == {
        "schema": "agentpipe/1", "agent": "claude", "command": ["/usr/bin/claude", "-p"], "cwd": "/w", "pid": 7,
        "session_id": SESSION, "agent_version": "2.1.0", "model": "opus", "tools": ["Bash"],
    }  # fmt: skip


def test_hooks_before_init_do_not_start_the_run() -> None:
    failed = system("hook_response", hook_name="SessionStart", exit_code=2, outcome="error", stderr="no")
    events = parsed(system("hook_started"), failed, init(), result())
    assert types(events)[:2] == ["run_started", "error"]
    assert of(events, "run_started")[0]["model"] == "opus"


def test_a_silent_process_is_told_as_started_after_a_second() -> None:
    parse = stage()
    assert fed(parse, wrapped([])[0]) == []
    assert parse.deadline == NOW + 1.25
    started = [decode(event.line) for event in parse.wake(NOW + 1.25)]
    assert types(started) == ["run_started"]
    assert started[0]["payload"]["agent"] == "claude"  # by the command's name
    assert parse.deadline is None


def test_a_process_began_when_it_says_however_long_it_was_waited_for() -> None:
    lines = wrapped([init(), text("Hello.")])
    for number, line in enumerate(lines):
        line["timestamp"] = f"2027-01-15T08:00:{3 * number:02}.000Z"
    quick, slow = stage(), stage()
    at_once = [event.line for line in lines for event in quick.feed([Event(line=encoded([line]).rstrip())], NOW)]
    waited = list(slow.feed([Event(line=encoded(lines[:1]).rstrip())], NOW))
    waited += slow.wake(NOW + 1.25)
    waited += [event for line in lines[1:] for event in slow.feed([Event(line=encoded([line]).rstrip())], NOW + 3)]
    assert [event.line for event in waited] == at_once
    assert decode(at_once[0])["timestamp"] == lines[0]["timestamp"]


def test_text_after_a_silent_start_is_told_at_once() -> None:
    parse = stage()
    lines = wrapped(["hello"])
    fed(parse, lines[0])
    parse.wake(NOW + 1.25)
    assert types(fed(parse, lines[1], now=NOW + 9)) == ["agent_output"]


def test_facts_that_come_after_the_start_are_told() -> None:
    parse = stage()
    fed(parse, wrapped([])[0])
    parse.wake(NOW + 1.25)
    events = fed(parse, wrapped([init()])[1], now=NOW + 3)
    assert of(events, "agent_state_update")[0]["changed"]["model"] == "opus"


def test_a_slow_start_makes_the_same_events_live_and_played_at_once() -> None:
    """The first line came two seconds after the start: by its own time the run was told as started before it."""
    started, first, ended = wrapped([init()])
    first["timestamp"] = ended["timestamp"] = "2027-01-15T08:00:02.000Z"
    live = stage()
    fed(live, started)
    seen = [decode(event.line) for event in live.wake(NOW + 1.25)]
    seen += fed(live, first, ended, now=NOW + 2)
    at_once = fed(stage(), started, first, ended)
    assert [(event["type"], event["event_id"]) for event in seen] == [
        (event["type"], event["event_id"]) for event in at_once
    ]
    assert types(at_once) == ["run_started", "agent_state_update", "run_completed"]


def test_a_banner_before_the_first_line_is_kept_and_told_after_the_start() -> None:
    events = parsed("Loading…", "npm warn", *SAMPLE)
    assert types(events)[:3] == ["run_started", "raw", "raw"]
    assert [raw["text"] for raw in of(events, "raw")] == ["Loading…", "npm warn"]
    assert {event["agent_id"] for event in events} == {"claude"}


def test_an_agent_that_speaks_after_a_long_banner_is_still_found() -> None:
    parse = stage()
    fed(parse, "Starting container")
    assert types([decode(event.line) for event in parse.wake(NOW + 1.0)]) == ["run_started", "agent_output"]
    events = fed(parse, *SAMPLE, now=NOW + 5)
    assert "agent_tool_call" in types(events)


def test_many_lines_of_text_are_not_held_for_long() -> None:
    events = fed(stage(), *(f"line {number}" for number in range(100)))
    assert len(of(events, "agent_output")) == 100


# ---- the end


@pytest.mark.parametrize(
    ("exited", "kind"),
    [
        ({"exit_code": 0}, "run_completed"),
        ({"exit_code": 3}, "run_failed"),
        ({"exit_code": None, "signal": "SIGSEGV"}, "run_failed"),
        ({"exit_code": None, "signal": "SIGKILL"}, "run_failed"),
        ({"exit_code": None, "signal": "SIGTERM"}, "run_cancelled"),
        ({"exit_code": 143}, "run_cancelled"),
        ({"exit_code": 0, "reason": "signal"}, "run_cancelled"),
        ({"exit_code": None, "signal": "SIGKILL", "reason": "timeout"}, "run_cancelled"),
        ({"exit_code": 143, "reason": "idle_timeout"}, "run_cancelled"),
        ({"exit_code": 0, "reason": "reader_gone"}, "run_cancelled"),
    ],
)
def test_how_the_process_ended_decides(exited: Line, kind: str) -> None:
    events = parsed(*wrapped(SAMPLE, **exited))
    assert types(events)[-1] == kind
    assert events[-1]["payload"]["reason"] == exited.get("reason", "exit")
    assert events[-1]["payload"]["duration_ms"] == 1234


def test_a_last_turn_that_is_an_error_fails_the_run_on_status_0_too() -> None:
    events = parsed(*wrapped([init(), result("API Error", is_error=True)]))
    assert types(events)[-1] == "run_failed"
    assert events[-1]["payload"]["error"] == "API Error"


def test_status_0_without_a_result_is_incomplete() -> None:
    events = parsed(*wrapped([init(), text("hello")]))
    assert types(events)[-1] == "run_completed"
    assert events[-1]["payload"]["incomplete"] == "no result from the agent"


def test_a_cut_last_line_is_incomplete() -> None:
    cut = json.dumps(text("goodbye"))[:40]
    for lines in ([init(), text("hello"), cut], wrapped([init(), text("hello"), cut])):
        events = parsed(*lines)
        assert events[-1]["payload"]["incomplete"] == "no result from the agent; the last line is cut"
        assert of(events, "raw")[0]["text"] == cut


def test_plain_text_that_ends_well_is_simply_completed() -> None:
    events = parsed(*wrapped(["one", "two"]))
    assert types(events) == ["run_started", "agent_output", "agent_output", "run_completed"]
    assert "incomplete" not in events[-1]["payload"]


def test_a_bare_log_ends_with_its_input() -> None:
    last = parsed(*SAMPLE)[-1]
    assert last["type"] == "run_completed"
    assert last["payload"]["reason"] == "input_ended"
    assert last["payload"]["duration_ms"] == 100


def test_a_bare_log_that_was_interrupted_is_cancelled() -> None:
    ended = result(is_error=True, subtype="error_during_execution", terminal_reason="aborted_tools")
    assert types(parsed(init(), ended))[-1] == "run_cancelled"


def test_a_process_whose_end_was_not_seen_still_ends() -> None:
    events = parsed(*wrapped(SAMPLE)[:-1])
    assert types(events)[-1] == "run_completed"
    assert events[-1]["payload"]["reason"] == "input_ended"


def test_a_process_that_says_nothing_starts_and_ends() -> None:
    assert types(parsed(*wrapped([], exit_code=1))) == ["run_started", "run_failed"]


def test_no_input_is_no_run() -> None:
    assert parsed() == []


def test_lines_after_the_result_belong_to_the_run() -> None:
    late = {"type": "prompt_suggestion", "suggestion": "go on", "session_id": SESSION}
    events = parsed(*SAMPLE, late, text("later", "msg_9"))
    assert types(events)[-2:] == ["agent_output", "run_completed"]


def test_several_inits_and_results_are_several_turns_of_one_run() -> None:
    turns = [init(), text("a", "m1"), result("a"), init(), text("b", "m2"), result("b", total_cost_usd=0.75)]
    events = parsed(*turns)
    assert [turn["turn"] for turn in of(events, "run_iteration")] == [1, 2]
    assert types(events).count("run_started") == 1
    assert events[-1]["payload"]["turns"] == 2
    assert events[-1]["payload"]["cost_usd"] == 0.75  # a total: the last, not the sum
    assert [turn["cost_usd"] for turn in of(events, "run_iteration")] == [0.5, 0.25]


# ---- forms of input


def test_wrapped_by_run_the_same_events_come() -> None:
    noise = ["Warning: no stdin", *SAMPLE, "bye"]
    assert only(parsed(*wrapped(noise))) == only(parsed(*noise))


def test_the_json_form_is_a_run_of_one_turn() -> None:
    events = parsed(result("hi"))
    assert types(events) == ["run_started", "usage_update", "run_iteration", "run_completed"]
    assert events[-1]["payload"]["result"] == "hi"


@pytest.mark.parametrize("indent", [None, 2], ids=["one line", "pretty"])
def test_the_array_form_gives_the_same_events_as_the_lines(indent: int | None) -> None:
    array = json.dumps(SAMPLE, indent=indent)
    assert only(parsed(*array.split("\n"))) == only(parsed(*SAMPLE))
    assert only(parsed(*wrapped(array.split("\n") if indent else [SAMPLE]))) == only(parsed(*SAMPLE))


def test_an_array_with_one_message_a_line_is_read_as_one() -> None:
    rows = ",\n".join(json.dumps(line) for line in SAMPLE)
    assert only(parsed(*f"[\n{rows}\n]".split("\n"))) == only(parsed(*SAMPLE))


def test_pretty_printed_objects_one_after_the_other() -> None:
    data = "\n".join(json.dumps(line, indent=2) for line in SAMPLE)
    assert only(parsed(*data.split("\n"))) == only(parsed(*SAMPLE))


def test_a_lone_bracket_does_not_swallow_what_follows() -> None:
    events = parsed("[", *SAMPLE)
    assert of(events, "raw") == [{"format": "claude", "reason": "not JSON", "text": "["}]
    assert of(events, "agent_output")[0]["text"] == "hello"


def test_text_that_looks_like_a_value_is_given_back_as_text() -> None:
    events = parsed("{", "  not json", "}", "end")
    assert [payload["text"] for payload in of(events, "agent_output")] == ["{", "  not json", "}", "end"]


def test_a_value_that_never_ends_is_given_back_after_a_second() -> None:
    parse = stage(format="claude")
    fed(parse, init())
    assert fed(parse, "{") == []
    assert parse.deadline == NOW + 1.0
    assert types([decode(event.line) for event in parse.wake(NOW + 1.0)]) == ["raw"]


def test_a_process_that_ends_inside_a_value_is_waited_for_no_more() -> None:
    parse = stage(format="claude")
    *lines, exited = wrapped([init(), "{"])
    fed(parse, *lines)
    assert parse.deadline is not None
    fed(parse, exited)
    assert parse.deadline is None


def test_runs_that_have_started_are_not_asked_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input may hold thousands of sessions, and a driver asks after each read."""
    parse = stage()
    fed(parse, *(init(session_id=f"s{number}") for number in range(3)))

    def asked(wait: Wait) -> None:
        raise AssertionError(wait)

    monkeypatch.setattr(Wait, "due", property(asked), raising=False)  # stands before what each has of that name
    assert parse.deadline is None


def test_stderr_text_in_the_middle_is_kept() -> None:
    events = parsed(SAMPLE[0], "Warning: something", *SAMPLE[1:])
    assert of(events, "raw") == [{"format": "claude", "reason": "not JSON", "text": "Warning: something"}]


def test_stderr_of_a_process_is_a_log_entry() -> None:
    lines = wrapped(SAMPLE)
    lines[2]["payload"] = {"stream": "stderr", "text": "\x1b[33mcareful\x1b[0m"}
    entries = of(parsed(*lines), "agent_log_entry")
    assert entries == [{"level": "stderr", "message": "careful", "source": "stderr"}]


def test_invalid_utf8_costs_a_character_not_the_line() -> None:
    data = encoded(SAMPLE).replace(b"hello", b"he\xfflo")
    events = [decode(event.line) for event in parsed_bytes(data)]
    assert of(events, "agent_output")[0]["text"] == "he\ufffdlo"


def test_crlf_and_blank_lines_are_dropped() -> None:
    data = encoded(SAMPLE).replace(b"\n", b"\r\n\r\n")
    assert [event.line for event in parsed_bytes(data)] == [event.line for event in parsed_bytes(encoded(SAMPLE))]


def test_a_line_over_the_limit_leaves_its_head_and_size() -> None:
    parse, intake = stage(), Intake("lines", max_line=1024)
    data = encoded([init(), text("x" * 5000), result()])
    events = [decode(event.line) for event in parse.feed(intake.feed(data, NOW), NOW)]
    [raw] = of(events, "raw")
    assert raw["reason"].startswith("a line of 5")
    assert raw["text"].startswith('{"type": "assistant"')
    assert parse.report()["raw"] == 1


def test_events_pass_as_they_are() -> None:
    line = (
        b'{"type":"heartbeat","run_id":"x", "agent_id":"y","timestamp":"2027-01-01T00:00:00Z","payload":{},"odd":1e2}'
    )
    parse = stage()
    [event] = parse.feed(Intake("lines").feed(line + b"\n", NOW), NOW)
    assert event.line == line
    assert (event.type, event.run_id) == ("heartbeat", "x")
    assert parse.finish(NOW) == []


def test_a_gap_of_a_process_is_told_in_the_run_that_it_left_holes_in() -> None:
    lines = wrapped(SAMPLE)
    payload = {"ranges": [[3, 4]], "count": 2, "reason": "source"}
    lines[3] = {**lines[3], "type": "gap", "payload": payload}
    events = parsed(*lines)
    assert of(events, "gap") == [{"ranges": [], "source_ranges": [[3, 4]], "count": 2, "reason": "source"}]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))


# ---- options and counts


@pytest.mark.parametrize(
    ("option", "missing"),
    [
        ("no_output", "agent_output"),
        ("no_tool_calls", "agent_tool_call"),
        ("no_tool_results", "agent_tool_result"),
    ],
)
def test_what_is_not_wanted_is_left_out(option: str, missing: str) -> None:
    events = parsed(*SAMPLE, **{option: True})
    everything = parsed(*SAMPLE)
    assert missing not in types(events)
    assert [kind for kind in types(everything) if kind != missing] == types(events)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))


def test_without_chunks_the_whole_text_still_comes() -> None:
    events = parsed(init(), message_start(), delta("he"), delta("llo"), text("hello"), result(), no_chunks=True)
    assert [(payload["text"], payload["final"]) for payload in of(events, "agent_output")] == [("hello", True)]


def test_every_line_is_counted_once() -> None:
    parse = stage()
    heartbeat = make("heartbeat", {}, run_id="z", agent_id="z", sequence=1, at="2027-01-01T00:00:00Z")
    lines = ["noise", *SAMPLE, system("status"), {"type": "new"}, heartbeat.line.decode(), "{", "}"]
    parsed_bytes(encoded(lines), parse)
    report = parse.report()
    # a pretty-printed empty object of two lines is raw, as is "noise" and the unknown type
    assert {name: report[name] for name in ("in", "sources", "ignored", "raw", "passed_through")} == {
        "in": len(lines), "sources": 5, "ignored": 1, "raw": 4, "passed_through": 1,
    }  # fmt: skip
    assert report["formats"] == {SESSION: "claude"}


def test_parse_never_holds_its_driver_back() -> None:
    parse = stage()
    fed(parse, "held")
    assert parse.counts.left == 0
    assert parse.demand is Demand.MORE


@pytest.mark.parametrize("inside", [False, True], ids=["bare", "in run's events"])
def test_strict_ends_at_a_broken_line_and_tells_what_came_before(inside: bool) -> None:
    parse = stage(strict=True)
    lines = [init(), text("before"), '{"type":"assist', text("after")]
    made = [decode(event.line) for event in parsed_bytes(encoded(wrapped(lines) if inside else lines), parse)]
    assert [payload["text"] for payload in of(made, "agent_output")] == ["before"]
    assert types(made)[-1] == "run_completed"
    assert parse.demand is Demand.DONE
    assert isinstance(parse.failure, InputError)
    assert parse.failure.line == (4 if inside else 3)


def test_strict_takes_a_value_over_many_lines() -> None:
    array = json.dumps(SAMPLE, indent=2).split("\n")
    assert types(parsed(*array, strict=True))[-1] == "run_completed"


def test_a_forced_format_takes_json_as_text() -> None:
    events = parsed(init(), format="plain")
    assert json.loads(of(events, "agent_output")[0]["text"]) == init()


# ---- time


def test_the_source_s_time_wins_and_carries_what_has_none() -> None:
    events = parsed(init(), text("a", timestamp="2026-11-20T07:00:00.123Z"), result())
    assert [event["timestamp"] for event in events[1:]] == ["2026-11-20T07:00:00.123Z"] * (len(events) - 1)


def test_without_a_source_s_time_it_is_the_time_of_reading() -> None:
    assert {event["timestamp"] for event in parsed(init(), text("a"))} == {"2027-01-15T08:00:00.000Z"}


def test_other_forms_of_time_are_made_ours() -> None:
    events = parsed(init(), text("a", timestamp="2026-11-20T09:00:00+02:00"))
    assert events[1]["timestamp"] == "2026-11-20T07:00:00.000Z"


def test_a_time_that_is_none_is_not_believed() -> None:
    events = parsed(init(), text("a", timestamp="yesterday, or so, about Z"))
    assert events[1]["timestamp"] == "2027-01-15T08:00:00.000Z"
