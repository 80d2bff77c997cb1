"""The state of runs and agents is a function of their events."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe.event import Event, make, peek
from agentpipe.runs import MAX_FILES, MAX_TEXT, Runs


class Log:
    """Events of runs with rising numbers."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def event(
        self, type_: str, run: str = "r", agent: str = "claude", at: int = 0, parent: str | None = None, **payload: Any
    ) -> Event:
        number = self.numbers[run] = self.numbers.get(run, 0) + 1
        stamp = f"2026-11-20T07:00:{at:02d}.000Z"
        return make(type_, payload, run_id=run, agent_id=agent, sequence=number, at=stamp, parent_id=parent)


@pytest.fixture
def log() -> Log:
    return Log()


def reduced(*events: Event, now: float = 0.0) -> Runs:
    runs = Runs()
    runs.apply(events, now)
    return runs


def test_what_a_sub_agent_says_of_itself_is_not_said_of_the_run(log: Log):
    """Its calls and files are the run's; its progress, turns, model and sums are its own."""
    own = [
        log.event("run_started", model="opus", session_id="s"),
        log.event("progress_update", percent=50.0, done=1, total=2, current="own"),
        log.event("usage_update", input_tokens=10, output_tokens=20, cumulative=True, cost_usd=0.5),
        log.event("run_iteration", turn=1, ok=True, result="own"),
    ]
    helper = [
        log.event("progress_update", parent="t1", percent=10.0, done=1, total=10, current="its"),
        log.event("usage_update", parent="t1", input_tokens=1, output_tokens=2, cumulative=True, cost_usd=9.0),
        log.event("run_iteration", parent="t1", turn=4, ok=False, result="its", error="its", cost_usd=7.0),
        log.event("agent_state_update", parent="t1", state="initialized", changed={"model": "haiku"}),
        log.event("agent_tool_call", parent="t1", name="Read"),
        log.event("agent_tool_result", parent="t1", ok=False),
        log.event("file_changed", parent="t1", path="a"),
    ]
    before = reduced(*own).run("r")
    after = reduced(*own, *helper).run("r")
    assert before is not None
    wanted = {"events": 11, "tool_calls": 1, "tool_failures": 1, "files_changed": 1, "last_type": "file_changed"}
    assert after == before | wanted


@pytest.mark.parametrize("parent", [None, "", 7, {}])
def test_a_parent_that_names_none_is_none(parent: Any):
    line = {"type": "progress_update", "run_id": "r", "agent_id": "a", "parent_id": parent, "payload": {"percent": 5}}
    run = reduced(peek(orjson.dumps(line))).run("r")
    assert run is not None
    assert run["progress"] == {"percent": 5}


def test_a_session_is_summed_up(log: Log):
    runs = reduced(
        log.event("run_started", model="opus", command=["claude", "-p", "hi"], at=1),
        log.event("agent_tool_call", name="Bash"),
        log.event("agent_tool_result", ok=True, path="not a file of ours"),
        log.event("agent_tool_call", name="Edit"),
        log.event("agent_tool_result", ok=False),
        log.event("file_changed", path="a.py"),
        log.event("file_changed", path="a.py"),
        log.event("file_changed", path="b.py"),
        log.event("progress_update", percent=50.0, done=1, total=2, current="tests", eta_s=3.5),
        log.event("usage_update", input_tokens=1, output_tokens=2, cumulative=False),
        log.event("usage_update", input_tokens=10, output_tokens=20, cumulative=True, cost_usd=0.5),
        log.event("run_iteration", turn=1, ok=True, result="done", cost_usd=0.75),
        log.event("run_completed", exit_code=0, reason="exit", usage={"input_tokens": 11, "x": "y"}, at=9),
    )
    assert runs.run("r") == {
        "run_id": "r",
        "agent_id": "claude",
        "state": "completed",
        "started_at": "2026-11-20T07:00:01.000Z",
        "updated_at": "2026-11-20T07:00:09.000Z",
        "events": 13,
        "tool_calls": 2,
        "tool_failures": 1,
        "files_changed": 2,
        "turns": 1,
        "title": "claude -p hi",
        "model": "opus",
        "progress": {"percent": 50.0, "done": 1, "total": 2, "eta_s": 3.5, "current": "tests"},
        "usage": {"input_tokens": 11},
        "cost_usd": 0.75,
        "result": "done",
        "reason": "exit",
        "last_type": "run_completed",
    }
    json.dumps(runs.runs())


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
def test_the_terminal_event_is_the_state(log: Log, ending: str):
    runs = reduced(log.event("run_started"), log.event(f"run_{ending}", error="why"))
    found = runs.run("r")
    assert found is not None
    assert (found["state"], found["error"]) == (ending, "why")
    assert runs.agents()[0]["state"] == "idle"


def test_newest_runs_come_first(log: Log):
    runs = reduced(log.event("x", run="old"), log.event("x", run="new"), log.event("x", run="old"))
    assert [run["run_id"] for run in runs.runs()] == ["new", "old"]
    assert [run["run_id"] for run in runs.runs(1)] == ["new"]
    assert runs.run("none") is None


def test_long_texts_are_cut_and_files_are_counted_up_to_a_bound(log: Log):
    events = [log.event("file_changed", path=f"{number}") for number in range(MAX_FILES + 5)]
    runs = reduced(*events, log.event("run_completed", result="x" * 2 * MAX_TEXT))
    found = runs.run("r")
    assert found is not None
    assert (len(found["result"]), found["files_changed"]) == (MAX_TEXT, MAX_FILES)


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"run_completed","run_id":"r","payload":7}',
        b'{"type":"run_completed","run_id":"r","payload":{"result":7,"usage":3,"turns":"x","cost_usd":true}}',
        b'{"type":"run_completed","run_id":"r"}',
        b'{"type":"run_completed","run_id":"r","payload":{"cost_usd":%d,"usage":{"input_tokens":%d}}}'
        % (10**400, 1 << 70),
        b'{"type":"run_completed","run_id":"r","timestamp":5,"payload":{"result":"\\ud800"}}',
    ],
)
def test_a_payload_of_another_shape_is_no_harm(line: bytes):
    found = reduced(peek(line)).run("r")
    assert found is not None
    assert (found["state"], found["events"]) == ("completed", 1)
    json.dumps(found)
    restored = Runs()
    restored.load(reduced(peek(line)).dump())
    assert restored.run("r") == found


def test_agents_are_told_apart_and_the_one_heard_of_last_comes_first(log: Log):
    runs = Runs()
    runs.apply([log.event("x", run="1", agent="a")], 1.0)
    runs.apply([log.event("x", run="2", agent="b"), log.event("x", run="3", agent="b")], 2.0)
    assert [(agent["agent_id"], agent["runs"], agent["state"]) for agent in runs.agents()] == [
        ("b", 2, "running"),
        ("a", 1, "running"),
    ]


def test_liveness_changes_are_told_once(log: Log):
    runs = reduced(log.event("run_started"), now=0.0)
    assert runs.changes(10.0) == []
    runs.apply([log.event("heartbeat", at=30)], 130.0)
    (change,) = runs.changes(131.0)
    assert (change["agent_id"], change["status"]) == ("claude", "degraded")
    assert (change["last_seen"], change["last_progress"]) == ("2026-11-20T07:00:30.000Z", "2026-11-20T07:00:00.000Z")
    assert runs.changes(132.0) == []
    assert [change["status"] for change in runs.changes(130.0 + 300.0)] == ["offline"]
    runs.apply([log.event("agent_output")], 500.0)
    assert [change["status"] for change in runs.changes(501.0)] == ["online"]


def test_the_oldest_finished_runs_leave_first(log: Log):
    runs = Runs(max_runs=10)
    for number in range(12):
        name = f"r{number}"
        ending = [log.event("run_completed", run=name)] if number in (3, 4) else []
        runs.apply([log.event("run_started", run=name, agent=name), *ending], float(number))
    kept = [run["run_id"] for run in runs.runs()]
    assert len(kept) <= 10
    assert "r3" not in kept
    assert "r11" in kept
    assert {agent["agent_id"] for agent in runs.agents()} == set(kept)


TYPES = ["run_started", "agent_tool_call", "agent_tool_result", "file_changed", "run_completed", "usage_update", "x"]
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "ok": st.booleans(),
        "path": st.text(max_size=3),
        "cost_usd": st.floats(0, 9),
        "cumulative": st.just(True),
        "input_tokens": st.integers(0, 9),
    },
)


@given(st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from("ab"), PAYLOADS), max_size=30), st.data())
def test_the_state_does_not_depend_on_batches_or_restarts(steps: list[Any], data: st.DataObject):
    log = Log()
    events = [log.event(type_, run=run, agent=run, **payload) for type_, run, payload in steps]
    whole = reduced(*events)
    pieces = Runs()
    for event in events:
        pieces.apply([event], 0.0)
        if data.draw(st.booleans()):
            restored = Runs()
            restored.load(pieces.dump())
            pieces = restored
    assert pieces.runs() == whole.runs()
    assert sorted(map(str, pieces.agents())) == sorted(map(str, whole.agents()))


def test_what_was_saved_by_another_version_is_refused():
    with pytest.raises(ValueError):
        Runs().load(b'{"runs":5}')


@pytest.mark.parametrize("type_", ["usage_update", "progress_update", "run_iteration", "run_completed"])
@pytest.mark.parametrize("number", [10**22, -(10**22), 10**400, 1e300])
def test_numbers_that_nobody_can_mean_are_left_out(log: Log, type_: str, number: float):
    """They would reach every reader of the states: an API that answers nobody any more, and a page without counts."""
    names = ["percent", "done", "total", "eta_s", "input_tokens", "output_tokens", "cost_usd", "turns"]
    payload = {**dict.fromkeys(names, number), "cumulative": True, "usage": {"input_tokens": number}}
    states = reduced(log.event(type_, **payload))
    assert str(number)[:10] not in str(states.runs())
    orjson.dumps([states.runs(), states.agents()])


def test_a_run_names_its_session_as_soon_as_it_is_told(log: Log):
    runs = reduced(log.event("run_started", run="a", session_id="s"), log.event("run_started", run="b"))
    assert runs.run("a")["session_id"] == "s"  # type: ignore[index]
    assert "session_id" not in runs.run("b")  # type: ignore[operator]
    runs.apply([log.event("agent_state_update", run="b", state="initialized", changed={"session_id": "s"})], 0.0)
    assert {run["session_id"] for run in runs.runs()} == {"s"}
    again = Runs()
    again.load(runs.dump())
    assert again.runs() == runs.runs()


@pytest.mark.parametrize("session_id", [7, "", None, "x" * (MAX_TEXT + 1), ["s"]])
def test_what_is_no_name_of_a_session_is_none(log: Log, session_id: Any):
    runs = reduced(
        log.event("run_started", session_id=session_id),
        log.event("agent_state_update", changed=session_id),
    )
    assert "session_id" not in runs.run("r")  # type: ignore[operator]


def test_parts_of_a_content_are_events_but_not_what_the_run_does(log: Log):
    runs = reduced(log.event("agent_tool_call"), log.event("content", at=5), log.event("content", at=6))
    found = runs.run("r")
    assert found is not None
    assert (found["events"], found["last_type"]) == (3, "agent_tool_call")
    runs.apply([log.event("content", at=7)], 0.0)
    found = runs.run("r")
    assert found is not None
    assert (found["events"], found["last_type"], found["updated_at"]) == (
        4,
        "agent_tool_call",
        "2026-11-20T07:00:07.000Z",
    )
