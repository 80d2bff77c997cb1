"""Progress in parse: whoever knows it best tells it, by the source's time, and never goes back without saying so."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe.event import timestamp
from agentpipe.parse.progress import turn_limit
from agentpipe.parse.vocabulary.markers import Marker, declared_in
from tests.parse.lines import (
    NOW,
    Line,
    call,
    delta,
    init,
    of,
    parsed,
    parsed_bytes,
    result,
    returned,
    stage,
    text,
    types,
    wrapped,
)
from tests.parse.lines import encoded as encoded_lines

USAGE = {"input_tokens": 1, "output_tokens": 1}


def turn(number: int, **more: Any) -> Line:
    """A message of the model, with its usage."""
    line = text(f"step {number}", f"msg_{number}", **more)
    line["message"]["usage"] = USAGE
    return line


def todo(*statuses: str, call_id: str = "p1") -> list[Line]:
    todos = [
        {"content": f"item {n}", "status": status, "activeForm": f"doing {n}"} for n, status in enumerate(statuses)
    ]
    return [call("TodoWrite", {"todos": todos}, call_id), returned("ok", call_id)]


def limited(lines: list[Any], *options: str, step_s: float = 1.0) -> list[Line]:
    """*lines* as ``run -- claude OPTIONS`` writes them, one every *step_s* seconds."""
    events = wrapped(lines)
    events[0]["payload"]["command"] += options
    for number, event in enumerate(events):
        event["timestamp"] = timestamp(NOW + number * step_s)
    return events


def progress(events: list[Line]) -> list[Line]:
    return of(events, "progress_update")


MARKERS = [
    ("::progress 3/10 Compiling::", Marker(3, 10, "Compiling")),
    ("::progress 3/10::", Marker(3, 10, "")),
    ("::progress 0/1::", Marker(0, 1, "")),
    ("::progress 40% Linking: a::b::", Marker(40, 100, "Linking: a::b")),
    ("::progress 12.5%::", Marker(12.5, 100, "")),
    ("::progress 100%::\r", Marker(100, 100, "")),
    ("before\n::progress 1/2 a::\nbetween\n::progress 2/2 b::\nafter", Marker(2, 2, "b")),
    ("::progress 1/2 good::\n::progress 5/2 bad::", Marker(1, 2, "good")),
    ("```\nmake\n```\n::progress 1/2 behind::", Marker(1, 2, "behind")),
    ("```\n::progress 1/2 no other fence::", Marker(1, 2, "no other fence")),
]
NO_MARKERS = [
    "", "progress 3/10", " ::progress 3/10::", "x ::progress 3/10::", "::progress 3/10:: x", "::progress 3/10 x",
    "::progress 11/10::", "::progress 1/0::", "::progress 101%::", "::progress -1/3::", "::progress::",
    "::progress 1/9999999999::", "::progress ٣/٤::", "::progress 3/10 " + "x" * 300 + "::", "::Progress 1/2::",
    "Print this:\n```sh\n::progress 1/2 shown::\n```", "~~~\n::progress 1/2::\n```\n::progress 2/2::\n~~~\n",
]  # fmt: skip


@pytest.mark.parametrize(("said", "marker"), MARKERS)
def test_a_marker_is_a_line_of_its_own(said: str, marker: Marker) -> None:
    assert declared_in(said) == marker


@pytest.mark.parametrize("said", NO_MARKERS)
def test_what_merely_speaks_of_a_marker_is_none(said: str) -> None:
    assert declared_in(said) is None


@given(st.text(alphabet="::progres 0123456789/%x\n\r"))
def test_no_text_breaks_the_search_for_markers(said: str) -> None:
    found = declared_in("::progress " + said)
    assert found is None or 0 <= found.done <= found.total


LIMITS: list[tuple[Any, int | None]] = [
    (["claude", "-p", "x", "--max-turns", "12"], 12),
    (["claude", "--max-turns=3", "-p"], 3),
    (["gemini", "--max-session-turns", "5"], 5),
    (["claude", "-p", "x"], None),
    (["claude", "--max-turns"], None),
    (["claude", "--max-turns", "many"], None),
    (["claude", "--max-turns", "0"], None),
    (["claude", "--max-turns", "99999"], None),
    (["claude", 7, "--max-turns", 8], None),
    (None, None),
]


@pytest.mark.parametrize(("command", "limit"), LIMITS)
def test_the_limit_of_turns_is_what_the_command_line_says(command: Any, limit: int | None) -> None:
    assert turn_limit(command) == limit


def test_a_line_of_plain_text_declares_progress_and_stays_a_line() -> None:
    events = parsed("start", "::progress 1/4 Fetch::", "more", "::progress 4/4::")
    assert [event["payload"].get("text") for event in events if event["type"] == "agent_output"] == [
        "start", "::progress 1/4 Fetch::", "more", "::progress 4/4::",
    ]  # fmt: skip
    assert types(events)[2:6] == ["agent_output", "progress_update", "agent_output", "agent_output"]
    assert [(told["percent"], told["basis"], told.get("current")) for told in progress(events)] == [
        (25.0, "declared", "Fetch"), (100.0, "declared", None),
    ]  # fmt: skip


def test_a_line_of_stderr_declares_progress() -> None:
    events = wrapped([init(), "x"])
    events[2]["payload"] = {"stream": "stderr", "text": "\x1b[32m::progress 50% Half::\x1b[0m"}
    (told,) = progress(parsed(*events))
    assert (told["percent"], told["current"]) == (50.0, "Half")


def test_an_agents_text_declares_progress_once_though_it_came_in_parts() -> None:
    whole = text("Now:\n::progress 2/5 Tests::", uuid="u")
    (told,) = progress(parsed(init(), delta("::progress 2/5 Tests::"), whole))
    assert (told["done"], told["total"]) == (2, 5)


def test_the_output_of_a_command_declares_progress_when_it_comes() -> None:
    events = parsed(init(), call("Bash", {"command": "make"}), returned("::progress 1/2 a::\n::progress 2/2 b::"))
    assert [(told["done"], told["current"]) for told in progress(events)] == [(2, "b")]
    assert types(events)[-3:] == ["agent_tool_result", "progress_update", "run_completed"]


def test_a_file_that_is_read_declares_nothing_nor_does_what_is_said_to_the_agent() -> None:
    said = {"type": "user", "message": {"role": "user", "content": "::progress 1/2 x::"}, "session_id": "5e55-10"}
    read = [call("Read", {"file_path": "/docs.md"}), returned("::progress 1/2 x::")]
    assert progress(parsed(init(), said, *read, result())) == []


def test_nothing_is_told_when_nothing_is_known() -> None:
    assert progress(parsed(*limited([init(), turn(1), turn(2), result()]))) == []
    assert progress(parsed(init(), turn(1), turn(2), result())) == []


def test_turns_are_told_when_the_command_line_limits_them() -> None:
    events = parsed(*limited([init(), turn(1), turn(2), turn(3), result()], "--max-turns", "4"))
    told = progress(events)
    assert [(update["percent"], update["done"], update["total"]) for update in told] == [
        (0, 0, 4),
        (25, 1, 4),
        (50, 2, 4),
    ]
    assert {update["basis"] for update in told} == {"turns"}
    assert told[2]["eta_range_s"][0] == 0.0


def test_turns_of_a_sub_agent_are_not_the_agents() -> None:
    lines = [init(), turn(1), turn(2, parent_tool_use_id="t9"), turn(3), result()]
    assert [update["done"] for update in progress(parsed(*limited(lines, "--max-turns=9")))] == [0, 1]


def test_turns_count_anew_after_an_answer_and_say_so() -> None:
    lines = [init(), turn(1), turn(2), turn(3), result(), turn(4)]
    *_, last = progress(parsed(*limited(lines, "--max-turns=9")))
    assert last["went_back"] == "the turns are counted anew: 0 of 9 after 2 of 9"


def test_a_plan_tells_before_a_marker_and_a_marker_before_turns() -> None:
    lines = [
        init(), turn(1), text("::progress 50%::", "m2"), turn(3), *todo("completed", "pending", "pending", "pending"),
        text("::progress 60%::", "m4"), turn(5), *todo(call_id="p2"), text("::progress 70%::", "m6"),
    ]  # fmt: skip
    told = progress(parsed(*limited(lines, "--max-turns", "8")))
    assert [(update["basis"], update["percent"]) for update in told] == [
        ("turns", 0.0), ("declared", 50.0), ("plan", 25.0), ("plan", 0.0), ("declared", 60.0), ("declared", 70.0),
    ]  # fmt: skip
    assert [update.get("went_back") for update in told] == [
        None, None, "the plan tells it now, what is declared did before", "the plan was emptied", None, None,
    ]  # fmt: skip


def test_a_plan_that_grows_says_why_it_goes_back() -> None:
    events = parsed(init(), *todo("completed", "pending"), *todo("completed", "pending", "pending", call_id="p2"))
    assert [update.get("went_back") for update in progress(events)] == [None, "the plan grew from 2 to 3 items"]


def test_a_sub_agent_declares_for_itself_until_its_end() -> None:
    lines = [
        init(), text("::progress 90%::"), call("Agent", {"prompt": "x"}, "t7"),
        text("::progress 10%::", "m2", parent_tool_use_id="t7"), returned("done", "t7"), turn(3), turn(4), turn(5),
    ]  # fmt: skip
    events = parsed(*limited(lines, step_s=6.0))
    told = [
        (event.get("parent_id"), event["payload"]["percent"]) for event in events if event["type"] == "progress_update"
    ]
    assert told.count(("t7", 10.0)) <= 2
    assert told[-1] == (None, 90.0)
    assert not any("went_back" in update for update in progress(events))


def test_what_is_declared_is_told_anew_after_the_interval_by_the_sources_time() -> None:
    lines = ["::progress 1/9 Build::", *map(str, range(12)), "::progress 9/9::", "a", "b", "c", "d", "e", "f"]
    events = parsed(*limited(lines))
    told = progress(events)
    assert [update["elapsed_s"] for update in told] == [1.0, 6.0, 11.0, 14.0]
    assert len(progress(parsed(*limited(lines), progress_interval=0.0))) == 2
    for read_at in (NOW, NOW + 1e6):
        data = encoded_lines(limited(lines))
        assert [event.line for event in parsed_bytes(data, stage(), now=read_at)] == [
            event.line for event in parsed_bytes(data, stage(), cuts=range(0, len(data), 7), now=NOW)
        ]


def test_a_marker_counts_though_its_text_is_left_out() -> None:
    assert [update["percent"] for update in progress(parsed(init(), text("::progress 5%::"), no_output=True))] == [5.0]


ACTS = st.lists(
    st.one_of(
        st.builds(lambda done, more: ("mark", done, done + more), st.integers(0, 9), st.integers(1, 9)),
        st.lists(st.sampled_from(("pending", "in_progress", "completed", "cancelled")), max_size=4).map(
            lambda statuses: ("plan", *statuses)
        ),
        st.just(("turn",)),
        st.just(("answer",)),
    ),
    max_size=14,
)


@given(ACTS, st.sampled_from((0.1, 2.0, 60.0)))
def test_percent_never_goes_back_without_saying_so(acts: list[Any], step_s: float) -> None:
    lines: list[Line] = [init()]
    for number, (kind, *more) in enumerate(acts):
        if kind == "mark":
            lines.append(text(f"::progress {more[0]}/{more[1]}::", f"mark_{number}"))
        elif kind == "plan":
            lines += todo(*more, call_id=f"p{number}")
        else:
            lines.append(turn(number) if kind == "turn" else result())
    percent = 0.0
    for update in progress(parsed(*limited(lines, "--max-turns", "6", step_s=step_s))):
        assert 0 <= update["percent"] <= 100
        assert ("went_back" in update) == (update["percent"] < percent)
        if "eta_s" in update:
            assert update["eta_range_s"][0] <= update["eta_s"] <= update["eta_range_s"][1]
        percent = update["percent"]


def test_any_program_under_run_declares_its_progress(environment: Mapping[str, str]) -> None:
    script = "echo one; echo '::progress 1/2 First::'; echo '::progress 100%::' >&2; sleep 0.2; echo two"
    done = subprocess.run(
        ["bash", "-c", 'agentpipe run -- sh -c "$0" | agentpipe parse', script],
        capture_output=True, env=environment, timeout=60,
    )  # fmt: skip
    told = progress([json.loads(line) for line in done.stdout.splitlines()])
    assert sorted((update["percent"], update["basis"]) for update in told) == [(50.0, "declared"), (100.0, "declared")]
    assert all(update["elapsed_s"] < 60 for update in told)
