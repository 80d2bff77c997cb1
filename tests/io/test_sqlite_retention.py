"""What the store drops when it is over its limits: old runs whole, declared, in short steps; and what never goes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentpipe.errors import OutputError
from agentpipe.event import TERMINAL_TYPES, Event, encode, gap, peek
from agentpipe.history import EVERYTHING, Filter, OfRun
from agentpipe.io.sqlite import retention as sqlite_retention
from agentpipe.io.sqlite.blocks import parts_of
from agentpipe.io.sqlite.log import SqliteLog
from agentpipe.io.sqlite.reader import SqliteReader
from agentpipe.io.sqlite.retention import Age, Retention
from agentpipe.missing import declared_by
from tests.commits import append, lasts

AT = "2026-11-20T07:00:00.000Z"


def made(run: str, number: int, size: int = 0, type_: str = "x", **more: object) -> Event:
    head = {"type": type_, "run_id": run, "agent_id": f"agent-{run}", "sequence": number}
    return peek(encode({**head, "pad": "x" * size, **more}))


def ended(run: str, number: int) -> Event:
    return made(run, number, type_="run_completed")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "hub.db")


@pytest.fixture
def opened(path: str) -> Iterator[Callable[..., SqliteLog]]:
    """Open the store with limits: ``opened(events=100)``; again, when it was closed."""
    logs: list[SqliteLog] = []

    def begin(**limits: float) -> SqliteLog:
        if logs:
            logs.pop().close()
        logs.append(SqliteLog(path, retention=Retention(**limits)))  # type: ignore[arg-type]
        return logs[-1]

    yield begin
    for log in logs:
        log.close()


#: More steps than any test here needs: a store that does not come to an end fails, and does not hang.
MAX_STEPS = 2000


def retain(log: SqliteLog, now: float = 10.0, most: int = MAX_STEPS) -> int:
    """Drop all that is over; in how many steps."""
    for count in range(1, most):
        if not log.retain(now):
            return count
    raise AssertionError("there is always more to drop")


def entries(log: SqliteReader) -> dict[int, bytes]:
    """What is kept, by offset."""
    found: dict[int, bytes] = {}
    offset = 0
    while (page := log.since(offset, 300, 100_000)).lines:
        assert page.lines[0], "a page starts with an entry that is kept"
        found.update({page.start + index: line for index, line in enumerate(page.lines, 1) if line})
        offset = page.next
    return found


def index_of(log: SqliteLog) -> dict[tuple[str, int], tuple[int, int]]:
    """The lowest and highest number of each run in each block, as the store looks them up."""
    rows = log._rows("SELECT run_id, first, low, high FROM part JOIN run ON run.id = part.run", ())
    return {(run_id, first): (low, high) for run_id, first, low, high in rows}


def true_index_of(log: SqliteLog) -> dict[tuple[str, int], tuple[int, int]]:
    """The same, by the blocks themselves."""
    found = {}
    for first, data in log._rows("SELECT first, lines FROM block", ()):
        for run_id, take in parts_of([peek(line) for line in data.split(b"\n") if line]).items():
            found[run_id, first] = (take.low, take.high)
    return found


def gaps_of(lines: Sequence[bytes], run: str) -> list[Event]:
    events = [peek(line) for line in lines]
    return [event for event in events if event.type == "gap" and event.run_id == run]


def evicted_of(log: SqliteReader, run: str) -> list[tuple[int, int]]:
    """The numbers of *run* that one gap of ours declares."""
    (found,) = gaps_of(list(entries(log).values()), run)
    assert found.payload["reason"] == "evicted"
    assert found.agent_id == f"agent-{run}"
    return declared_by(found)


def evicted_numbers(log: SqliteReader, run: str) -> list[tuple[int, int]]:
    """As `evicted_of`, by what the run itself tells."""
    (found,) = gaps_of(log.of_run(OfRun(run), 0, 1000).lines, run)
    return declared_by(found)


@pytest.mark.parametrize(
    ("limits", "oldest"),
    [
        ({}, 0),
        ({"events": 4}, 6),
        ({"events": 100}, 0),
        ({"age_s": 4.5}, 4),
        ({"size_bytes": 1}, 9),
        ({"age_s": 100.0, "events": 2}, 8),
    ],
)
def test_of_a_single_run_the_beginning_goes(opened: Callable[..., SqliteLog], limits: dict[str, float], oldest: int):
    """The gap is in the place of the last entry that went, and has its number."""
    log = opened(**limits)
    for number in range(1, 11):
        append(log, [made("a", number, event_id=f"own-{number}")], float(number))
    retain(log)
    assert log.oldest == oldest
    assert index_of(log) == true_index_of(log)
    kept = entries(log)
    assert sorted(kept) == [peek(line).sequence for line in kept.values()] == list(range(oldest + 1, 11))
    assert log.since(0, 100, 10_000).start == oldest
    if oldest:
        assert evicted_of(log, "a") == [(1, oldest + 1)]
        assert log.find(f"a:gap:1-{oldest + 1}") == kept[oldest + 1]
        assert log.find("own-1") is None
    assert log.find("own-10") == kept[10] or oldest == 9
    assert lasts(log) == {"a": 10}
    assert {f"own-{number}" for number in range(1, 11)} <= set(log.ids(100))  # known, though gone
    log = opened(**limits)
    assert (log.head, log.oldest) == (10, oldest)
    assert append(log, [made("a", 11)], 11.0) == 11


def test_whole_old_runs_go_first_and_keep_their_end(opened: Callable[..., SqliteLog]):
    log = opened(events=40)
    for run in "abcd":
        append(log, [made(run, number) for number in range(1, 10)] + [ended(run, 10)])
    append(log, [made("e", number) for number in range(1, 11)])
    retain(log)
    kept = entries(log)
    assert sorted(kept) == [9, 10, 19, 20, *range(21, 51)]
    for run, place in (("a", 9), ("b", 19)):
        assert evicted_of(log, run) == [(1, 9)]
        assert peek(kept[place]).type == "gap"
        assert log.find(f"{run}:10") == ended(run, 10).line
        assert log.find(f"{run}:3") is None
        assert list(log.of_run(OfRun(run), 0, 10).offsets) == [place, place + 1]
        assert log.place(run, 10) < place + 1
    assert log.oldest == 8
    page = log.since(0, 100, 100_000)
    assert (page.start, [bool(line) for line in page.lines[:4]]) == (8, [True, True, False, False])
    assert log.since(10, 100, 100_000).start == 18
    assert log.before_last(EVERYTHING, 33) == 9
    assert log.before_last(EVERYTHING, 35) == log.oldest


def test_the_run_that_was_written_last_stays_though_it_began_first(opened: Callable[..., SqliteLog]):
    log = opened(events=24)
    append(log, [made("old", number) for number in range(1, 11)])
    append(log, [made("mid", number) for number in range(1, 11)])
    append(log, [made("old", 11)])
    append(log, [made("new", number) for number in range(1, 11)])
    retain(log)
    assert evicted_of(log, "mid") == [(1, 10)]
    assert gaps_of(list(entries(log).values()), "old") == []
    log = opened(events=14)
    retain(log)
    assert evicted_of(log, "old") == [(1, 11)]
    assert gaps_of(list(entries(log).values()), "new") == []


def test_by_age_goes_what_is_old_in_runs_that_go_on_too(opened: Callable[..., SqliteLog]):
    log = opened(age_s=100.0)
    append(log, [made("gone", 1), ended("gone", 2), made("long", 1), made("long", 2)], 0.0)
    append(log, [made("long", 3)], 150.0)
    retain(log, 200.0)
    assert [peek(line).identity for line in entries(log).values()] == [
        "gone:gap:1-1",
        "gone:2",
        "long:gap:1-2",
        "long:3",
    ]


def test_a_block_is_not_looked_into_for_a_run_that_has_gone_from_it(opened: Callable[..., SqliteLog]):
    """Though it holds others; and for those it is looked into as before."""
    log = opened(events=8)
    for first in (1, 4, 7):
        append(log, [made(run, number) for number in range(first, first + 3) for run in "ab"])
    retain(log)
    assert evicted_of(log, "a") == [(1, 9)]
    assert index_of(log) == true_index_of(log)
    assert [first for run, first in index_of(log) if run == "a"] == [13]


def test_two_runs_event_by_event_and_in_one_event_blocks(opened: Callable[..., SqliteLog]):
    log = opened(events=3000)
    for number in range(1, 2001):
        append(log, [made("a", number)])
        append(log, [made("b", number)])
    steps = retain(log)
    assert evicted_of(log, "a") == [(1, 2000)]
    assert len(entries(log)) == 2001
    assert 20 < steps < 200  # many, because each is bounded
    retain(opened(events=500))
    assert 430 <= len(entries(opened())) <= 439  # an eighth below the limit, and the gap of the other run


def test_two_hundred_runs_mixed(opened: Callable[..., SqliteLog]):
    log = opened(events=10_000)
    for number in range(1, 101):
        append(log, [made(f"r{run}", number) for run in range(200)])
    retain(log)
    kept = entries(log)
    whole = [run for run in range(200) if not gaps_of(list(kept.values()), f"r{run}")]
    assert len(kept) == 100 * len(whole) + 200 - len(whole)
    assert 8000 < 100 * len(whole) <= 8750
    assert whole == list(range(200 - len(whole), 200))  # of one commit the later ones are the newer ones


def test_numbers_that_others_declared_or_covered_are_declared_on(opened: Callable[..., SqliteLog]):
    log = opened(events=4)
    source = gap([(3, 4)], "throttle", run_id="a", agent_id="agent-a", at=AT)
    append(log, [made("a", 1), made("a", 2), source, made("a", 8, covers=[[5, 7]]), ended("a", 9)])
    append(log, [made("b", 1), made("b", 2)])
    retain(log)
    assert evicted_of(log, "a") == [(1, 8)]
    assert "a:gap:3-4" in log.ids(10)


def test_a_run_that_goes_on_after_it_went_goes_again(opened: Callable[..., SqliteLog]):
    log = opened(events=8)
    append(log, [*[made("a", number) for number in range(1, 6)], ended("a", 6)])
    append(log, [made("b", number) for number in range(1, 6)])
    retain(log)
    assert evicted_of(log, "a") == [(1, 5)]
    append(log, [*[made("a", number) for number in range(7, 12)], ended("a", 12)])
    retain(log)
    assert evicted_of(log, "b") == [(1, 5)]
    append(log, [made("c", number) for number in range(1, 6)])
    log = opened(events=8)
    retain(log)
    assert evicted_of(log, "a") == [(1, 11)]
    assert log.find("a:6") is None
    assert log.find("a:12") == ended("a", 12).line


def test_the_newest_entry_may_go_and_offsets_go_on(opened: Callable[..., SqliteLog]):
    log = opened(age_s=10.0)
    append(log, [made("a", number) for number in range(1, 4)], 1.0)
    append(log, [made("b", number) for number in range(1, 4)], 100.0)
    for now in (100.0, 105.0, 111.5):
        retain(log, now)
    assert [peek(line).identity for line in entries(log).values()] == ["a:gap:1-3", "b:gap:1-3"]
    assert (log.head, log.since(6, 10, 1000)) == (6, (6, []))
    log = opened(age_s=10.0)
    assert append(log, [made("b", 4)], 112.0) == 7


def test_the_last_events_of_so_many_runs_are_kept_and_no_more(
    opened: Callable[..., SqliteLog], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sqlite_retention, "MAX_REMNANTS", 20)
    log = opened(events=10)
    for run in range(100):
        append(log, [made(f"r{run}", 1), made(f"r{run}", 2), ended(f"r{run}", 3)])
        retain(log)
    first = next(run for run in range(100) if log.find(f"r{run}:3"))
    kept = entries(log)
    assert 100 - 4 - 20 <= first <= 100 - 4 - 18
    assert all(log.find(f"r{run}:3") for run in range(first, 100))
    assert all(list(log.of_run(OfRun(f"r{run}"), 0, 10).lines) == [] for run in range(first))
    assert lasts(log) == {f"r{run}": 3 for run in range(100)}
    held = log._holdings
    assert (held.entries, held.size_bytes) == (len(kept), sum(map(len, kept.values())))
    again = opened(events=10)._holdings
    assert (again.entries, again.size_bytes, again.ended_held) == (held.entries, held.size_bytes, held.ended_held)
    assert (again.recent, again.remnants) == (held.recent, held.remnants)


def test_ids_of_what_is_gone_are_known_for_long_but_not_for_ever(
    opened: Callable[..., SqliteLog], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sqlite_retention, "MAX_GONE_IDS", 50)
    log = opened(events=10)
    for number in range(1, 201):
        append(log, [made("a", number, event_id=f"own-{number}")])
    retain(log)
    known = [name for name in log.ids(1000) if name.startswith("own-")]
    assert known == [f"own-{number}" for number in range(201 - len(known), 201)]
    assert 50 <= len(known) <= 62


def test_free_pages_are_given_back(opened: Callable[..., SqliteLog], path: str):
    log = opened(size_bytes=400_000)
    for number in range(1, 401):
        append(log, [made(f"r{number}", 1, 10_000)])
    retain(log)
    log = opened()
    assert os.path.getsize(path) < 2_500_000  # of 6,500,000


def test_a_store_of_before_is_made_to_shrink_when_it_is_small(opened: Callable[..., SqliteLog], path: str):
    log = opened()
    append(log, [made("a", 1)])
    log._connection.execute("PRAGMA auto_vacuum = NONE")
    log._connection.execute("VACUUM")
    assert log._rows("PRAGMA auto_vacuum", ()) == [(0,)]
    log = opened()
    assert log._rows("PRAGMA auto_vacuum", ()) == [(2,)]
    assert log.find("a:1")


def test_a_step_is_short_whatever_lies_where(opened: Callable[..., SqliteLog]):
    """300 runs whose beginnings are in large blocks of their own end in one: their gaps are not all moved at once."""
    log = opened(events=2)
    for run in range(300):
        append(log, [made(f"r{run}", number, 2000) for number in range(1, 80)])
    append(log, [made(f"r{run}", 80) for run in range(300)])
    worst, changes = 0, 0
    more = True
    while more and changes < MAX_STEPS:
        started = time.thread_time()
        more = log.retain(10.0)
        worst = max(worst, time.thread_time() - started)
        changes += 1
    assert len(entries(log)) == 301
    assert changes > 20
    assert worst < 0.2  # 0.02 when the machine is quiet


def test_what_is_damaged_stays_and_holds_up_nothing(opened: Callable[..., SqliteLog]):
    log = opened(events=30)
    for run in "abc":
        for first in (1, 11):
            append(log, [made(run, number) for number in range(first, first + 10)])
    log._connection.execute("UPDATE block SET crc = crc + 1 WHERE first IN (11, 51)")
    retain(log)
    retain(log)
    with pytest.raises(OutputError, match="entries 11 to 20"):
        log.since(10, 10, 10_000)
    assert evicted_numbers(log, "b") == [(1, 20)]
    assert log.find("a:1") is None
    log = opened(events=1)
    retain(log)
    assert append(log, [made("d", 1)]) == 61


def test_pages_of_garbage_end_the_dropping_and_nothing_else(path: str):
    with contextlib.closing(SqliteLog(path)) as log:
        for number in range(1, 41):
            append(log, [made(f"r{number}", 1, 30_000)])
    place = Path(path).read_bytes().index(b'"run_id":"r20"') // 8192 * 8192
    with open(path, "r+b") as file:
        file.seek(place + 8192)  # behind the page that starts the block: at the start nobody reads it
        file.write(b"\xa5" * 8192)
    said: list[str] = []
    with contextlib.closing(SqliteLog(path, retention=Retention(events=10), say=said.append)) as again:
        for _ in range(3):
            retain(again)
        assert ["damaged" in line and "nothing is dropped any more" in line for line in said] == [True]
        assert again.find("r40:1")
        assert append(again, [made("r41", 1)]) == 41


def test_a_clock_is_believed_when_it_has_gone_on_for_an_hour():
    age = Age(1000.0)
    assert age.at(1020.0) == 1020.0
    assert age.at(1040.0) == 1040.0
    assert age.at(900_000.0) == 1040.0  # it jumped
    assert age.at(900_020.0) == 1060.0
    assert age.at(1080.0) == 1060.0  # and came back
    assert age.at(1100.0) == 1080.0
    assert age.at(500.0) == 500.0  # set back: never ahead of it
    assert age.at(900_000.0) < 1200.0
    for second in range(20, 3600, 20):
        assert age.at(900_000.0 + second) < 5000.0
    assert age.at(903_600.0) == 903_600.0


def test_an_empty_store_has_nothing_to_go_by():
    assert Age(0.0).at(123.0) == 123.0


def test_nothing_is_dropped_because_a_clock_was_wrong_for_a_moment(opened: Callable[..., SqliteLog]):
    log = opened(age_s=86_400.0)
    append(log, [made("a", 1)], 1e9)
    for now in (1e9, 1e9 + 20, 2e9, 2e9 + 20, 1e9 + 60):
        retain(log, now)
    append(log, [made("a", 2)], 5e8)  # set back
    assert log._rows("SELECT at FROM block ORDER BY first", ()) == [(1e9,), (1e9,)]
    retain(log, 5e8)
    assert len(entries(log)) == 2


def test_a_time_that_was_not_believed_is_not_believed_after_a_restart(opened: Callable[..., SqliteLog]):
    """The newest entries say that it is a year later; then the clock is two years ahead."""
    log = opened(age_s=86_400.0)
    append(log, [made("a", 1)], 1e9)
    append(log, [made("a", 2)], 1e9 + 3e7)
    append(log, [made("a", 3)], 1e9 + 60)
    log = opened(age_s=86_400.0)
    retain(log, 1e9 + 6e7)
    assert len(entries(log)) == 3
    for passed in range(0, 3 * 86_400, 500):
        append(log, [made("a", 4 + passed)], 1e9 + 120 + passed)
    retain(log, 1e9 + 120 + 3 * 86_400)
    assert 172 < len(entries(log)) < 580  # the first ones were old enough, those of the year to come are not


def test_a_kill_in_the_middle_loses_nothing_that_stays(path: str):
    script = f"""
import itertools
from agentpipe.event import encode, peek
from agentpipe.io.sqlite.log import SqliteLog
from agentpipe.io.sqlite.retention import Retention
from tests.commits import append, lasts
log = SqliteLog({path!r}, retention=Retention(events=1000))
start = lasts(log).get("r0", 0) + 1
print("ready", flush=True)
def made(run, number):
    type = "run_completed" if number % 100 == run else "x"
    return peek(encode({{"type": type, "run_id": f"r{{run}}", "sequence": number}}))
for number in itertools.count(start):
    append(log, [made(run, number) for run in range(20)])
    log.retain(10.0)
"""
    for after_s in (0.3, 0.5, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", script], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        said = process.stdout.readline()
        time.sleep(after_s)  # not to wait for something: to be anywhere
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        process.stdout.close()
        assert said == "ready\n"
        log = SqliteLog(path, retention=Retention(events=1000))
        with contextlib.closing(log):
            last = lasts(log)
            assert len(set(last.values())) == 1
            for run in range(20):
                declared: set[int] = set()
                seen = []
                for line in log.of_run(OfRun(f"r{run}"), 0, 1_000_000).lines:
                    event = peek(line)
                    if event.type == "gap":
                        declared.update(number for a, b in declared_by(event) for number in range(a, b + 1))
                    else:
                        seen.append(event.sequence or 0)
                assert sorted([*declared, *seen]) == list(range(1, last[f"r{run}"] + 1))
            held = log._holdings
            kept = entries(log)
            assert (held.entries, held.size_bytes) == (len(kept), sum(map(len, kept.values())))


class Machine(RuleBasedStateMachine):
    """The store against a list of all that was ever appended."""

    folders: "pytest.TempPathFactory"

    @initialize(
        events=st.sampled_from([0, 5, 20, 60]), size=st.sampled_from([0, 1500, 6000]), age=st.sampled_from([0, 40])
    )
    def begin(self, events: int, size: int, age: int) -> None:
        self.path = str(self.folders.mktemp("log") / "hub.db")
        self.limits = Retention(float(age), size, events)
        self.log = SqliteLog(self.path, retention=self.limits)
        self.given: list[Event] = []
        self.ats: list[float] = []
        self.numbers = dict.fromkeys("abcd", 0)
        self.now = 1000.0

    @rule(batch=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 19)), min_size=1, max_size=30))
    def append(self, batch: list[tuple[str, int]]) -> None:
        events = []
        for run, kind in batch:
            number = self.numbers[run] = self.numbers[run] + 1
            if kind == 0:
                events.append(ended(run, number))
            elif kind == 1:
                self.numbers[run] = number + 2
                own = gap([(number, number + 1)], "throttle", run_id=run, agent_id="", at=AT)
                events += [own, made(run, number + 2)]
            elif kind == 2:
                self.numbers[run] = number + 3
                events.append(made(run, number + 3, covers=[[number, number + 2]]))
            else:
                events.append(made(run, number, 10 * kind))
        self.given += events
        self.ats += [self.now] * len(events)
        assert append(self.log, events, self.now) == len(self.given)

    @rule(steps=st.integers(1, 3))
    def retain_a_little(self, steps: int) -> None:
        for _ in range(steps):
            self.log.retain(self.now)

    @rule()
    def retain(self) -> None:
        retain(self.log, self.now, most=100)
        held = self.log._holdings
        live = [line for offset, line in entries(self.log).items() if offset not in self.remnants(held.ended)]
        if self.limits.events:
            assert len(live) <= self.limits.events
        if self.limits.size_bytes and len(held.recent) > 0:
            assert sum(map(len, live)) <= self.limits.size_bytes
        if self.limits.age_s:
            kept = entries(self.log).items()
            old = [o for o, line in kept if self.ats[o - 1] < self.now - self.limits.age_s]
            assert set(old) <= self.remnants(held.remnants)

    def remnants(self, runs: Sequence[int]) -> set[int]:
        return {offset for run in runs for offset in self.log._holdings.remnants[run][:2]}

    @rule(seconds=st.sampled_from([1.0, 30.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        if clean:
            self.log.close()
        else:
            self.log._connection.close()
            os.close(self.log._lock_file)
        self.log = SqliteLog(self.path, retention=self.limits)

    @invariant()
    def what_is_kept_is_what_was_given(self) -> None:
        kept = entries(self.log)
        assert self.log.head == len(self.given)
        assert self.log.oldest == min(kept, default=len(self.given) + 1) - 1
        gaps: dict[str, Event] = {}
        for offset, line in kept.items():
            given = self.given[offset - 1]
            if line != given.line:
                event = peek(line)
                assert (event.type, event.run_id, event.payload["reason"]) == ("gap", given.run_id, "evicted")
                assert event.run_id not in gaps
                gaps[event.run_id] = event
        held = self.log._holdings
        assert (held.entries, held.size_bytes) == (len(kept), sum(map(len, kept.values())))
        assert index_of(self.log) == true_index_of(self.log)
        for run in self.numbers:
            self.every_number_is_there_or_declared(run, kept, gaps.get(run))

    def every_number_is_there_or_declared(self, run: str, kept: dict[int, bytes], ours: Event | None) -> None:
        own = [(offset, peek(line)) for offset, line in kept.items() if peek(line).run_id == run]
        numbers = {e.sequence for _, e in own if e.type != "gap"}
        covered = {n for _, e in own for a, b in e.envelope.get("covers", []) for n in range(a, b + 1)}
        declared = {n for _, e in own for a, b in (declared_by(e) if e.type == "gap" else []) for n in range(a, b + 1)}
        assert numbers | covered | declared == set(range(1, self.numbers[run] + 1))
        assert not declared & numbers
        terminals = [
            offset for offset, event in enumerate(self.given, 1) if event.run_id == run and event.type in TERMINAL_TYPES
        ]
        if terminals:
            assert kept[terminals[-1]] == self.given[terminals[-1] - 1].line
        if ours is not None:
            assert self.log.find(ours.identity) == ours.line
        assert list(self.log.of_run(OfRun(run), 0, 10_000).offsets) == [offset for offset, _ in own]

    @rule(offset=st.integers(0, 200), limit=st.integers(1, 50), size=st.integers(1, 3000))
    def a_page(self, offset: int, limit: int, size: int) -> None:
        kept = entries(self.log)
        page = self.log.since(offset, limit, size)
        later = [place for place in kept if place > offset]
        if later:
            assert page.start == later[0] - 1
            assert page.lines[0]
            assert len(page.lines) <= limit
        else:
            assert page == (max(offset, len(self.given)), [])
        for place, line in enumerate(page.lines, page.start + 1):
            assert line == kept.get(place, b"")

    @rule(run=st.sampled_from("abcd"), after=st.integers(0, 100), count=st.integers(1, 30))
    def questions_about_a_run(self, run: str, after: int, count: int) -> None:
        kept = entries(self.log)
        own = {offset: peek(line) for offset, line in kept.items() if peek(line).run_id == run}
        found = self.log.of_run(OfRun(run), after, count)
        assert list(found.offsets) == [offset for offset in own if offset > after][:count]
        for number in range(1, self.numbers[run] + 1, 3):
            there = [o for o, event in own.items() if event.sequence == number and event.type != "gap"]
            assert self.log.find(f"{run}:{number}") == (kept[there[0]] if there else None)
            assert all(offset > self.log.place(run, number) for offset in there)
        wanted = Filter(runs=frozenset({run}))
        assert self.log.before_last(wanted, count) == (list(own)[-count] - 1 if len(own) >= count else self.log.oldest)
        assert self.log.before_last(EVERYTHING, count) == (
            list(kept)[-count] - 1 if len(kept) >= count else self.log.oldest
        )

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()


def test_the_store_is_the_list_of_its_lines_less_what_went(tmp_path_factory: pytest.TempPathFactory):
    from hypothesis.stateful import run_state_machine_as_test

    Machine.folders = tmp_path_factory
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,  # each would be made small on its own, which takes minutes
        ),
    )
