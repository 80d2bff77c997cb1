"""Statistics: every figure from its events, time counted once, sessions counted once, memory bounded."""

import re
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe.event import make, timestamp
from agentpipe.stats import Summary, table, told
from agentpipe.stats.durations import Durations

START = 1_800_000_000.0


class Log:
    """Events of one run, made one after the other, and fed to a summary at once."""

    def __init__(self, summary: Summary, run_id: str = "r", *, dated: bool = True) -> None:
        self.summary = summary
        self.run_id = run_id
        self.dated = dated
        self.sequence = 0

    def tell(self, at: float, event_type: str, /, *, parent: str | None = None, **payload: Any) -> None:
        self.sequence += 1
        self.again(at, event_type, self.sequence, parent=parent, **payload)

    def again(
        self, at: float, event_type: str, sequence: int | None, /, *, parent: str | None = None, **payload: Any
    ) -> None:
        stamp = timestamp(START + at if self.dated else 0.0)
        event = make(
            event_type, payload, run_id=self.run_id, agent_id="a", sequence=sequence, at=stamp, parent_id=parent
        )
        found = told(event.line)
        assert found is not None
        self.summary.take(found, event.line)

    def call(self, at: float, name: str, *, kind: str = "execute", parent: str | None = None) -> None:
        self.tell(at, "agent_tool_call", parent=parent, tool_use_id=f"{name}-id", name=name, kind=kind)

    def result(
        self, at: float, name: str, *, kind: str = "execute", ok: bool = True, parent: str | None = None, **more: Any
    ) -> None:
        self.tell(at, "agent_tool_result", parent=parent, tool_use_id=f"{name}-id", name=name, kind=kind, ok=ok, **more)


@pytest.fixture
def summary() -> Summary:
    return Summary()


def begun(summary: Summary, run_id: str = "r", **more: Any) -> Log:
    log = Log(summary, run_id, **more)
    log.tell(0, "run_started", schema="agentpipe/1", agent="claude", model="opus")
    return log


def row(summary: Summary, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = summary.report()["runs"][number]
    return found


def totals(summary: Summary) -> dict[str, Any]:
    found: dict[str, Any] = summary.report()["totals"]
    return found


def time_of(summary: Summary) -> dict[str, int]:
    return {part: ms for part, ms in row(summary)["time_ms"].items() if ms}


def test_calls_are_counted_by_name_and_kind_with_failures_and_times(summary: Summary) -> None:
    log = begun(summary)
    for took in (100, 300, 900):
        log.call(1, "Bash")
        log.result(2, "Bash", ok=took != 900, duration_ms=took)
    log.call(3, "Read", kind="read")
    log.result(3, "Read", kind="read")
    log.call(4, "Edit", kind="edit")
    bash, edit, read = totals(summary)["tools"]
    assert bash == {
        "name": "Bash", "kind": "execute", "calls": 3, "failures": 1, "unanswered": 0,
        "timed": 3, "sum_ms": 1300, "median_ms": 300.0, "max_ms": 900,
    }  # fmt: skip
    assert edit == {"name": "Edit", "kind": "edit", "calls": 1, "failures": 0, "unanswered": 1, "timed": 0}
    assert read == {"name": "Read", "kind": "read", "calls": 1, "failures": 0, "unanswered": 0, "timed": 0}
    assert [(kind["kind"], kind["calls"]) for kind in totals(summary)["kinds"]] == [
        ("execute", 3), ("edit", 1), ("read", 1),
    ]  # fmt: skip


def test_parallel_calls_count_once_in_the_split(summary: Summary) -> None:
    log = begun(summary)
    log.tell(2, "agent_output", message_id="m", index=0, text="x", final=True)
    log.call(2, "A")
    log.call(3, "B")
    log.result(6, "A", duration_ms=4000)
    log.result(7, "B", duration_ms=4000)
    log.tell(8, "run_iteration", turn=1, ok=True, duration_ms=8000)
    log.tell(8, "run_completed", duration_ms=8000)
    assert time_of(summary) == {"model": 3000, "tool": 5000}
    assert sum(tool["sum_ms"] for tool in totals(summary)["tools"]) == 8000


def test_what_a_sub_agent_does_is_inside_the_call_that_started_it(summary: Summary) -> None:
    log = begun(summary)
    log.call(1, "Agent")
    log.call(2, "Bash", parent="Agent-id")
    log.result(3, "Bash", parent="Agent-id")
    log.tell(5, "agent_output", parent="Agent-id", message_id="m", index=0, text="x", final=True)
    log.result(6, "Agent")
    log.tell(7, "run_iteration", turn=1, ok=True)
    log.tell(7, "run_completed", duration_ms=7000)
    assert time_of(summary) == {"model": 2000, "tool": 5000}


def test_what_a_sub_agent_says_of_itself_is_not_said_of_the_run(summary: Summary) -> None:
    log = begun(summary)
    log.tell(1, "agent_state_update", state="initialized", changed={"model": "large", "session_id": "s"})
    log.tell(2, "agent_state_update", parent="t", state="initialized", changed={"model": "small", "session_id": "x"})
    log.tell(3, "run_iteration", parent="t", turn=1, ok=False)
    (run,) = summary.report()["runs"]
    assert (run["model"], run["session_id"], run["turns"], run["failed_turns"]) == ("large", "s", 0, 0)


def test_what_a_sub_agent_in_the_background_does_is_not_the_agents_time(summary: Summary) -> None:
    log = begun(summary)
    log.call(1, "Agent")
    log.result(2, "Agent")
    log.call(3, "Bash", parent="Agent-id")
    log.tell(4, "agent_output", message_id="m", index=0, text="x", final=True)
    log.tell(5, "run_iteration", turn=1, ok=True, parent="Agent-id")
    log.tell(8, "agent_output", message_id="m", index=1, text="x", final=True)
    log.result(9, "Bash", parent="Agent-id")
    log.tell(10, "run_completed", duration_ms=10_000)
    assert time_of(summary) == {"model": 9000, "tool": 1000}
    assert row(summary)["turns"] == 0


def test_a_call_that_began_before_takes_no_time_but_the_models(summary: Summary) -> None:
    log = begun(summary)
    log.tell(0, "agent_thinking", message_id="m", index=9, text="x", final=True)
    log.tell(5, "agent_output", message_id="m", index=0, text="x", final=True)
    log.call(5, "A")
    log.result(6, "A")
    log.tell(7, "agent_output", message_id="m", index=1, text="x", final=True)
    log.call(2, "B")
    log.result(8, "B")
    assert time_of(summary) == {"model": 5000, "tool": 3000}


def test_waiting_for_a_human_is_told_apart(summary: Summary) -> None:
    log = begun(summary)
    log.call(1, "Bash")
    log.tell(2, "permission_request", name="Bash", input={}, tool_use_id="Bash-id")
    log.tell(4, "heartbeat")
    log.result(9, "Bash")
    log.tell(10, "run_completed", duration_ms=10_000)
    assert time_of(summary) == {"model": 2000, "tool": 1000, "waiting": 7000}


def test_time_between_turns_is_idle_as_far_as_the_turn_says_how_long_it_took(summary: Summary) -> None:
    log = begun(summary)
    log.tell(1, "agent_output", message_id="m", index=0, text="x", final=True)
    log.tell(2, "run_iteration", turn=1, ok=True, duration_ms=2000)
    log.tell(10, "agent_output", message_id="n", index=0, text="x", final=True)
    log.tell(11, "run_iteration", turn=2, ok=True, duration_ms=3000)
    log.tell(13, "run_completed", duration_ms=0)
    assert time_of(summary) == {"model": 5000, "idle": 8000}


def test_time_between_turns_is_unknown_when_nothing_tells_where_the_next_began(summary: Summary) -> None:
    log = begun(summary)
    log.tell(1, "agent_output", message_id="m", index=0, text="x", final=True)
    log.tell(2, "run_iteration", turn=1, ok=True)
    log.tell(10, "agent_output", message_id="n", index=0, text="x", final=True)
    log.tell(11, "run_iteration", turn=2, ok=True)
    log.tell(11, "run_completed", duration_ms=0)
    assert time_of(summary) == {"model": 3000, "unknown": 8000}


def test_until_a_human_writes_the_agent_is_idle(summary: Summary) -> None:
    log = begun(summary)
    log.tell(1, "agent_output", message_id="m", index=0, text="x", final=True)
    log.tell(61, "agent_output", message_id="u", index=0, text="go on", final=True, role="user", origin="human")
    log.tell(63, "agent_output", message_id="n", index=0, text="y", final=True)
    assert time_of(summary) == {"model": 3000, "idle": 60_000}


def test_an_announced_pause_before_a_retry_is_idle(summary: Summary) -> None:
    log = begun(summary)
    log.tell(1, "agent_output", message_id="m", index=0, text="x", final=True)
    log.tell(2, "error", rank="warning", message="overloaded", retry_in_ms=3000)
    log.tell(7, "agent_output", message_id="n", index=0, text="x", final=True)
    assert time_of(summary) == {"model": 4000, "idle": 3000}
    assert totals(summary)["errors"] == {"warning": 1}


def test_a_process_that_starts_is_idle_until_its_first_event(summary: Summary) -> None:
    log = begun(summary)
    log.tell(1, "agent_output", message_id="m", index=0, text="x", final=True)
    log.tell(2, "run_completed", duration_ms=2500, reason="exit", exit_code=0)
    assert time_of(summary) == {"model": 2000, "idle": 500}


def test_events_without_times_of_their_own_say_that_nothing_is_known(summary: Summary) -> None:
    log = begun(summary, dated=False)
    log.call(1, "Bash")
    log.result(5, "Bash")
    log.tell(6, "run_completed", duration_ms=6000)
    assert time_of(summary) == {"unknown": 6000}
    assert "started_at" not in row(summary)


def test_results_alone_that_have_times_do_not_make_all_time_the_tools(summary: Summary) -> None:
    log = begun(summary)
    log.call(0, "Bash")
    log.result(5, "Bash")
    log.call(5, "Bash")
    log.result(9, "Bash")
    log.tell(9, "run_completed", duration_ms=9000)
    assert time_of(summary) == {"unknown": 9000}


def test_a_call_that_is_told_with_its_result_began_when_it_says(summary: Summary) -> None:
    log = begun(summary)
    log.tell(1, "agent_output", message_id="m", index=0, text="x", final=True)
    log.tell(6, "progress_update", percent=0, done=0, total=1, elapsed_s=6, basis="plan")
    log.tell(5.5, "agent_output", message_id="m", index=1, text="x", final=True)
    log.call(2, "Bash")
    log.result(6, "Bash", duration_ms=4000)
    log.tell(7, "run_completed", duration_ms=7000)
    assert time_of(summary) == {"model": 3000, "tool": 4000}


def test_more_files_than_are_told_apart_are_counted_all_the_same(summary: Summary) -> None:
    log = begun(summary)
    for number in range(2100):
        log.tell(1, "file_changed", path=f"/{number}", change="created", source="tool", added=1)
    log.tell(1, "file_changed", path="/x", change="created", source="tool")
    for figures in (row(summary), totals(summary)):
        assert figures["files"] == {
            "files": 2000, "changes": 2101, "added": 2100, "removed": 0, "uncounted": 1, "at_least": True,
        }  # fmt: skip


def test_a_clock_that_went_back_stands_still(summary: Summary) -> None:
    log = begun(summary)
    log.tell(5, "agent_output", message_id="m", index=0, text="x", final=True)
    log.tell(3, "agent_output", message_id="m", index=1, text="x", final=True)
    log.tell(6, "agent_output", message_id="m", index=2, text="x", final=True)
    assert time_of(summary) == {"model": 6000}


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("call", "result", "turn", "text", "human", "ask", "retry", "beat", "nested")),
        st.integers(-2, 40),
        st.none() | st.integers(0, 60),
    ),
    max_size=40,
)


@given(EVENTS, st.none() | st.integers(0, 2000))
def test_the_parts_of_the_time_always_add_up_to_the_duration(events: list[Any], told_s: int | None) -> None:
    summary = Summary()
    log, now = begun(summary), 0.0
    for name, step, took in events:
        now += step
        more = {} if took is None else {"duration_ms": took * 1000}
        if name == "call":
            log.call(now, "T")
        elif name in ("result", "nested"):
            log.result(now, "T", parent="p" if name == "nested" else None, **more)
        elif name == "turn":
            log.tell(now, "run_iteration", turn=1, ok=True, **more)
        elif name in ("text", "human"):
            role = {"role": "user"} if name == "human" else {}
            log.tell(now, "agent_output", message_id="m", index=0, text="x", final=True, **role)
        elif name == "ask":
            log.tell(now, "permission_request", name="T", input={})
        elif name == "retry":
            log.tell(now, "error", rank="warning", message="m", retry_in_ms=1500)
        else:
            log.tell(now, "heartbeat")
    if told_s is not None:
        log.tell(now, "run_completed", duration_ms=told_s * 1000)
    found = row(summary)
    parts = found["time_ms"]
    assert all(ms >= 0 for ms in parts.values())
    assert sum(parts.values()) == found.get("duration_ms", 0)


def test_a_cumulative_total_is_never_added_to_its_parts(summary: Summary) -> None:
    log = begun(summary)
    log.tell(1, "usage_update", input_tokens=10, output_tokens=1, cumulative=False)
    log.tell(2, "usage_update", input_tokens=20, output_tokens=2, cumulative=False)
    assert row(summary)["tokens"] == {"input_tokens": 30, "output_tokens": 3, "basis": "messages"}
    log.tell(3, "run_iteration", turn=1, ok=True, usage={"input_tokens": 31, "output_tokens": 4}, cost_usd=0.1)
    log.tell(3, "run_iteration", turn=2, ok=True, usage={"input_tokens": 1}, cost_usd=0.2)
    assert row(summary)["tokens"] == {"input_tokens": 32, "output_tokens": 4, "basis": "turns"}
    assert row(summary)["cost_usd"] == 0.3
    log.tell(4, "usage_update", input_tokens=33, output_tokens=5, cumulative=True, cost_usd=0.4)
    log.tell(5, "usage_update", input_tokens=34, output_tokens=6, cumulative=True, cost_usd=0.5)
    assert row(summary)["tokens"] == {"input_tokens": 34, "output_tokens": 6, "basis": "total"}
    log.tell(5, "usage_update", parent="t1", input_tokens=1, output_tokens=1, cumulative=True, cost_usd=0.01)
    assert row(summary)["tokens"] == {"input_tokens": 34, "output_tokens": 6, "basis": "total"}, (
        "a sub-agent's is a part"
    )
    log.tell(6, "run_completed", duration_ms=1, usage={"input_tokens": 35, "output_tokens": 7, "cache_read_tokens": 9})
    assert totals(summary)["tokens"] == {"input_tokens": 35, "output_tokens": 7, "cache_read_tokens": 9}
    assert totals(summary)["cost_usd"] == 0.5


def test_cost_is_not_made_up(summary: Summary) -> None:
    begun(summary).tell(1, "run_completed", duration_ms=1)
    assert totals(summary)["cost_usd"] is None
    assert "cost_usd" not in row(summary)
    assert totals(summary)["runs_that_do_not_tell"] == {"tokens": 1, "cost_usd": 1, "duration_ms": 0}


def test_files_are_counted_once_and_their_lines_added_up(summary: Summary) -> None:
    for run in ("r", "s"):
        log = begun(summary, run)
        log.tell(1, "file_changed", path="/a", change="modified", source="tool", added=3, removed=1)
        log.tell(1, "file_changed", path="/a", change="modified", source="tool", added=2, removed=0)
        log.tell(1, "file_changed", path=f"/{run}", change="created", source="tool")
    assert totals(summary)["files"] == {
        "files": 3, "changes": 6, "added": 10, "removed": 2, "uncounted": 2,
    }  # fmt: skip
    assert totals(summary)["most_changed_files"][:2] == [
        {"path": "/a", "added": 10, "removed": 2, "changes": 4, "uncounted": 0},
        {"path": "/r", "added": 0, "removed": 0, "changes": 1, "uncounted": 1},
    ]
    assert re.search(r"^/a +\+10 -2$", table(summary.report()), re.MULTILINE)
    assert re.search(r"^/r +–$", table(summary.report()), re.MULTILINE)


def test_gaps_and_raw_lines_are_declared(summary: Summary) -> None:
    log = begun(summary)
    log.again(1, "gap", 9, ranges=[[5, 9]], count=5, reason="throttle")
    log.tell(1, "raw", format="claude", reason="not JSON", text="x")
    found = totals(summary)
    assert (found["gaps"], found["raw"]) == ({"throttle": 5}, 1)
    text = table(summary.report())
    assert "5 events are missing (throttle 5)" in text
    assert "1 lines were not understood (raw)" in text


def session(summary: Summary, *tellers: str) -> None:
    for teller in tellers:
        log = Log(summary, f"s{teller}")
        log.tell(0, "run_started", schema="agentpipe/1", agent="claude", session_id="s")
        log.call(1, "Bash")
        log.result(2, "Bash")
        log.tell(2, "run_completed", duration_ms=2000)


@pytest.mark.parametrize(
    ("tellers", "counted"),
    [
        (("", "/hooks", "/transcript", "/agent-7"), [True, False, False, False]),
        (("/hooks", ""), [False, True]),
        (("/hooks", "/transcript", "/agent-7"), [False, True, True]),
        (("/hooks",), [True]),
    ],
)
def test_a_session_is_counted_once_by_whoever_tells_it_best(
    summary: Summary, tellers: tuple[str, ...], counted: list[bool]
) -> None:
    session(summary, *tellers)
    report = summary.report()
    assert [run["counted"] for run in report["runs"]] == counted
    assert report["totals"]["tools"][0]["calls"] == sum(counted)
    assert report["totals"]["runs"]["other_tellers"] == counted.count(False)


def test_a_live_run_is_the_session_that_it_names(summary: Summary) -> None:
    session(summary, "/transcript")
    live = Log(summary, "7f3a")
    live.tell(0, "run_started", schema="agentpipe/1", agent="claude")
    live.tell(1, "agent_state_update", state="initialized", changed={"session_id": "s", "model": "opus"})
    assert [run["counted"] for run in summary.report()["runs"]] == [False, True]
    assert row(summary, 1)["model"] == "opus"


def test_a_run_with_a_slash_in_its_name_is_no_other_teller(summary: Summary) -> None:
    begun(summary, "a1b2")
    begun(summary, "a1b2/planner")
    assert totals(summary)["runs"]["counted"] == 2


def test_the_same_log_twice_counts_once(summary: Summary) -> None:
    session(summary, "")
    before = totals(summary)
    session(summary, "")
    after = totals(summary)
    assert after.pop("repeated_events") == 4
    before.pop("repeated_events")
    assert after == before


def test_a_session_that_was_resumed_is_two_runs(summary: Summary) -> None:
    for said in ("first", "second"):
        log = Log(summary, "s")
        log.tell(0, "run_started", schema="agentpipe/1", agent="claude", session_id="s")
        log.tell(1, "agent_output", message_id=said, index=0, text=said, final=True)
        log.call(2, "Bash")
        log.tell(3, "run_completed", duration_ms=3000, turns=1)
    assert totals(summary)["tools"][0]["calls"] == 2
    assert [run.get("execution", 1) for run in summary.report()["runs"]] == [1, 2]


def test_a_run_without_an_end_is_unfinished(summary: Summary) -> None:
    begun(summary).tell(1, "heartbeat")
    assert row(summary)["state"] == "unfinished"


def test_beyond_the_bound_runs_are_in_the_totals_and_have_no_row() -> None:
    summary = Summary(most_runs=10)
    for number in range(100):
        log = begun(summary, f"r{number}")
        log.call(1, "Bash")
        log.result(2, "Bash", duration_ms=number)
        log.tell(2, "run_completed", duration_ms=2000, usage={"input_tokens": 1})
    report = summary.report()
    assert len(report["runs"]) <= 10
    found = report["totals"]
    assert found["runs"]["counted"] == found["runs"]["completed"] == 100
    assert found["runs"]["without_row"] == 100 - len(report["runs"])
    assert found["tools"][0] | {"median_ms": 0} == {
        "name": "Bash", "kind": "execute", "calls": 100, "failures": 0, "unanswered": 0,
        "timed": 100, "sum_ms": 4950, "median_ms": 0, "max_ms": 99,
    }  # fmt: skip
    assert found["tokens"] == {"input_tokens": 100}
    assert found["duration_ms"] == 200_000
    assert summary.report() == report, "asking changes nothing"


@given(st.lists(st.integers(0, 10**7), min_size=1))
def test_a_median_is_right_to_three_digits(took: list[int]) -> None:
    durations = Durations()
    for one in took:
        durations.add(one)
    true = statistics.median(took)
    found = durations.median_ms
    assert found is not None
    assert abs(found - true) <= 0.005 * true + 0.001
    assert (durations.sum_ms, durations.max_ms, durations.count) == (sum(took), max(took), len(took))


def test_a_median_takes_little_memory_however_many_durations_there_are() -> None:
    durations = Durations()
    for number in range(200_000):
        durations.add(number * 7)
    assert len(durations.counts) < 5000


@given(st.lists(st.integers(0, 10**6)), st.lists(st.integers(0, 10**6)))
def test_merged_durations_are_those_of_both(one: list[int], other: list[int]) -> None:
    merged, whole, second = Durations(), Durations(), Durations()
    for took in one:
        merged.add(took)
    for took in other:
        second.add(took)
    for took in one + other:
        whole.add(took)
    merged.merge(second)
    assert merged.report() == whole.report()


HOSTILE = (
    b'{"type":"agent_tool_result","run_id":"r","agent_id":"a","sequence":2,"timestamp":"x","payload":%s}',
    b'{"type":"run_iteration","run_id":"r","agent_id":7,"sequence":"2","timestamp":"2026-99","payload":%s}',
    b'{"type":"usage_update","run_id":"r\\ud800","agent_id":"a","timestamp":"t","payload":%s}',
    b'{"type":"file_changed","run_id":"r","agent_id":"a","parent_id":{},"timestamp":"t","payload":%s}',
)
PAYLOADS = (
    b'{"duration_ms":-1,"name":[],"kind":{},"ok":"no"}',
    b'{"duration_ms":1e999,"usage":[1],"cost_usd":"many","turn":null}',
    b'{"input_tokens":99999999999999999999,"output_tokens":true,"cumulative":1}',
    b'{"path":7,"added":-3,"removed":1.5,"x":"\\ud800"}',
    b"{}",
)


@pytest.mark.parametrize("line", [line % payload for line in HOSTILE for payload in PAYLOADS])
def test_no_event_breaks_a_figure(line: bytes, summary: Summary) -> None:
    found = told(line)
    assert found is not None
    summary.take(found, line)
    text = table({**summary.report(), "input": {}})
    assert "\x1b" not in text
    text.encode("utf-8")


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"{}",
        b"x",
        b'{"type":"a","run_id":"r","timestamp":"t","payload":[]}',
        b"1",
        b'{"type":"a\xff","run_id":"r","timestamp":"t","payload":{}}',
    ],
)
def test_what_is_no_event_is_not_taken(line: bytes) -> None:
    assert told(line) is None


def test_a_table_shows_no_character_that_commands_a_terminal(summary: Summary) -> None:
    log = begun(summary, "r\x1b[2J")
    log.call(1, "Bash\x07\n" + "x" * 100)
    text = table(summary.report())
    assert "\x1b" not in text
    assert "\x07" not in text
    assert max(map(len, text.splitlines())) < 200
    assert "\x1b[1m" in table(summary.report(), color=True)


def test_wide_and_combining_characters_keep_the_columns_straight(summary: Summary) -> None:
    log = begun(summary)
    for name in ("漢字漢字", "e\u0301" * 4, "plain", "字" * 60):
        log.call(1, name)
    lines = table(summary.report()).splitlines()
    rows = [line for line in lines if line.endswith("–") and " execute " in line]
    before = [line.partition("execute")[0] for line in rows]
    assert len(rows) == 4
    assert {_columns_of(text) for text in before} == {44 + 2 - 1}  # 21 characters of two columns, and the ellipsis


def _columns_of(text: str) -> int:
    return sum(0 if "\u0300" <= c <= "\u036f" else 2 if "一" <= c <= "鿿" else 1 for c in text)


def test_runs_that_never_end_are_bounded_too() -> None:
    summary = Summary(most_runs=10)
    for number in range(35):
        begun(summary, f"r{number}").call(1, "Bash")
    report = summary.report()
    assert len(report["runs"]) == 10
    assert report["totals"]["runs"] == {"counted": 35, "unfinished": 35, "other_tellers": 0, "without_row": 25}
    assert report["totals"]["tools"][0]["unanswered"] == 35
