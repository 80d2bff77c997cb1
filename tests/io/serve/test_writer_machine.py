"""Whatever fails, and in whatever order things happen, the log holds every acknowledged event once, and every number.

Two doors write to one store: real `Writer` threads, publishers as the protocol wants them, and a store that fails
before or after it has kept a commit.
"""

import queue
import threading
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from agentpipe.admission import Admitted
from agentpipe.errors import OutputError
from agentpipe.event import TERMINAL_TYPES, Event, encode, gap, peek
from agentpipe.holes import Span, numbers
from agentpipe.io.serve.writer import Batch, Writer
from agentpipe.memory_log import MemoryLog
from agentpipe.missing import DECLARE_AFTER_S
from agentpipe.store import Commit, Sender, Standing, StoreConflict

PATIENCE_S = 20.0


class Shelf:
    """What two stores share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.log: list[Event] = []
        self.standings: dict[str, Standing] = {}
        self.ids: dict[str, None] = {}
        self.overtaken: list[str] = []  # runs to which a fenced sender has written
        self.window = MemoryLog("e", max_events=1 << 20, max_bytes=1 << 30)


class ShelfStore:
    """One hub's way to the shelf; ``fault`` is what befalls its next commits."""

    epoch = "e"
    oldest = 0

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.faults: list[str] = []
        self.saved = threading.Semaphore(0)

    @property
    def head(self) -> int:
        return len(self.shelf.log)

    def standings(self, runs: Collection[str] | None = None) -> dict[str, Standing]:
        if self._befalls("unreadable"):
            raise OutputError("shelf", "unreadable")
        kept = self.shelf.standings
        with self.shelf.lock:
            found = dict(kept) if runs is None else {run: kept[run] for run in runs if run in kept}
        return {run: Standing.of(each.last, each.rest()) for run, each in found.items()}

    def ids(self, limit: int) -> list[str]:
        with self.shelf.lock:
            return list(self.shelf.ids)[-limit:]

    def append(self, commit: Commit, at: float) -> int:
        if self._befalls("refused"):
            raise OutputError("shelf", "refused")
        mistake = self._befalls("mistake")
        with self.shelf.lock:
            self._check(commit)
            if mistake:
                raise ZeroDivisionError
            for run_id, standing in commit.after.items():
                self._check_fence(run_id, standing)
                self.shelf.standings[run_id] = standing
            self.shelf.ids.update(dict.fromkeys(commit.ids))
            self.shelf.log += commit.events
            self.shelf.window.append_events(commit.events)
        if self._befalls("kept"):
            raise OutputError("shelf", "kept, but the answer was lost")
        return len(self.shelf.log)

    def retain(self, now: float) -> bool:
        return False

    def save_state(self, offset: int, state: bytes) -> None:
        self.saved.release()

    def state(self) -> tuple[int, bytes]:
        return 0, b""

    def reader(self) -> MemoryLog:
        return self.shelf.window

    def close(self) -> None:
        if self._befalls("refused"):
            raise OutputError("shelf", "refused")

    def _befalls(self, fault: str) -> bool:
        if self.faults[:1] == [fault]:
            del self.faults[0]
            return True
        return False

    def _check(self, commit: Commit) -> None:
        kept = self.shelf.standings
        wrong = any(kept.get(run_id, Standing()) != before for run_id, before in commit.before.items())
        known = [event_id for event_id in commit.ids if event_id in self.shelf.ids]
        if wrong or known:
            raise StoreConflict({run_id: kept.get(run_id, Standing()) for run_id in commit.before}, known)

    def _check_fence(self, run_id: str, after: Standing) -> None:
        before = self.shelf.standings.get(run_id, Standing())
        if before.sender is None or after.sender is None:
            return
        if before.sender.id == after.sender.id and before.sender.generation > after.sender.generation:
            self.shelf.overtaken.append(run_id)


class Hub:
    """The loop's half of an intake, step by step."""

    def __init__(self, shelf: Shelf, clock: Any, *, alone: bool) -> None:
        self.store = ShelfStore(shelf)
        self.told: list[Event] = list(shelf.log)
        self.generation = 1
        self.waiting: list[Batch] = []
        self.calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.problem: OutputError | None = None
        self.writer = Writer(
            self.store, clock, lambda *call: self.calls.put(call), self._done, self._noted, lambda _: None, alone=alone
        )

    def take(self, lines: Sequence[bytes], settled: Any, sender: Sender) -> None:
        self.waiting.append(Batch(lines, None, 0, settled, sender, self.generation))

    def flush(self, *, until_done: bool = True) -> None:
        if self.waiting:
            self.writer.put(self.waiting)
            self.waiting = []
        if until_done:
            self.writer.save(0, b"")
            assert self.store.saved.acquire(timeout=PATIENCE_S)

    def hear(self) -> None:
        while not self.calls.empty():
            function, *values = self.calls.get()
            function(*values)

    def _done(self, batches: Sequence[Batch], events: Sequence[Event], problem: OutputError | None) -> None:
        self.problem = problem
        if problem is not None:
            self.generation = max([self.generation, *[batch.generation + 1 for batch in batches]])
        else:
            self.told += events
        for batch in batches:
            batch.settled(None if problem is not None else batch.admitted)

    def _noted(self, problem: OutputError | None) -> None:
        self.problem = problem


class Link:
    """One connection of a publisher: batches arrive in order, and none behind a failure."""

    def __init__(self, hub: Hub, sender: Sender, start: int) -> None:
        self.hub = hub
        self.sender = sender
        self.next = self.settled = start
        self.on_the_way: list[list[bytes]] = []
        self.open = True

    def deliver(self) -> None:
        if self.open and self.on_the_way:
            lines = self.on_the_way.pop(0)

            def settled(admitted: Admitted | None) -> None:
                if admitted is None or admitted.fenced:
                    self.open = False
                elif self.open:
                    assert not admitted.refused
                    self.settled += len(lines)

            self.hub.take(lines, settled, self.sender)


class Publisher:
    """Sends its log from what was acknowledged, over one connection after another."""

    def __init__(self, name: str, run: str, lines: list[bytes], hub: Hub) -> None:
        self.id = name * 16
        self.run = run
        self.lines = lines  # of the run; two may publish the same
        self.acknowledged = 0
        self.generation = 0
        self.links: list[Link] = []
        self.connect(hub)

    @property
    def link(self) -> Link:
        return self.links[-1]

    def connect(self, hub: Hub) -> None:
        self.note()
        self.generation += 1
        self.links = [*self.links[-2:], Link(hub, Sender(self.id, self.generation), self.acknowledged)]

    def send(self, count: int) -> None:
        lines = self.lines[self.link.next : self.link.next + count]
        if lines and self.link.open:
            self.link.next += len(lines)
            self.link.on_the_way.append(lines)

    def note(self) -> None:
        if self.links:
            self.acknowledged = max(self.acknowledged, self.link.settled)


class Source:
    """What happened in one run, and which of its numbers are gone."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.number = 0
        self.gone: list[Span] = []
        self.lines: list[bytes] = []

    def emit(self, type_: str = "agent_output", **more: Any) -> None:
        self.number += 1
        head = {"type": type_, "run_id": self.run, "agent_id": "a", "sequence": self.number, **more}
        self.lines.append(encode(head))

    def lose(self, count: int) -> None:
        self.gone.append((self.number + 1, self.number + count))
        self.number += count

    def declare(self) -> None:
        if self.gone:
            found = gap(self.gone, "throttle", run_id=self.run, agent_id="a", at="2026-11-20T07:00:00.000Z")
            self.lines.append(found.line)
            self.gone = []

    def merge(self) -> None:
        covers, self.gone = self.gone, []
        self.emit(covers=covers)


class Machine(RuleBasedStateMachine):
    alone = False

    @initialize()
    def begin(self) -> None:
        self.now = 1000.0
        self.shelf = Shelf()
        hubs = 1 if self.alone else 2
        self.hubs = [Hub(self.shelf, lambda: self.now, alone=self.alone) for _ in range(hubs)]
        self.sources = [Source("r"), Source("x")]
        places = [("p", 0), ("q", 1), ("s", 1)]  # two of them publish the same log
        self.publishers = [
            Publisher(name, self.sources[at].run, self.sources[at].lines, self.hubs[-1]) for name, at in places
        ]

    def hub(self, number: int) -> Hub:
        return self.hubs[number % len(self.hubs)]

    @rule(source=st.integers(0, 1), count=st.integers(1, 5), how=st.sampled_from(["", "lose", "merge", "declare"]))
    def emit(self, source: int, count: int, how: str) -> None:
        one = self.sources[source]
        if how == "lose":
            one.lose(count)
        elif how == "merge":
            one.merge()
        elif how == "declare":
            one.declare()
        for _ in range(count):
            one.emit()

    @rule(source=st.integers(0, 1), type_=st.sampled_from(sorted(TERMINAL_TYPES)))
    def end(self, source: int, type_: str) -> None:
        self.sources[source].emit(type_)

    @rule(who=st.integers(0, 2), count=st.integers(1, 8))
    def send(self, who: int, count: int) -> None:
        self.publishers[who].send(count)
        self.publishers[who].link.deliver()

    @rule(who=st.integers(0, 2), count=st.integers(1, 8))
    def send_slowly(self, who: int, count: int) -> None:
        self.publishers[who].send(count)

    @rule(who=st.integers(0, 2), which=st.integers(0, 2))
    def deliver(self, who: int, which: int) -> None:
        """Also over a connection that its publisher has given up."""
        links = self.publishers[who].links
        links[which % len(links)].deliver()

    @rule(who=st.integers(0, 2), where=st.integers(0, 1))
    def reconnect(self, who: int, where: int) -> None:
        self.publishers[who].connect(self.hub(where))

    @rule(where=st.integers(0, 1), until_done=st.booleans())
    def flush(self, where: int, until_done: bool) -> None:
        self.hub(where).flush(until_done=until_done)

    @rule(where=st.integers(0, 1))
    def hear(self, where: int) -> None:
        self.hub(where).flush()
        self.hub(where).hear()

    @rule(where=st.integers(0, 1), fault=st.sampled_from(["refused", "kept", "unreadable", "mistake"]))
    def fail(self, where: int, fault: str) -> None:
        self.hub(where).store.faults.append(fault)

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for hub in self.hubs:
            hub.writer.declare()
            hub.flush()

    @rule(where=st.integers(0, 1))
    def restart(self, where: int) -> None:
        """The hub ends without a word, and another takes its place."""
        old = self.hub(where)
        old.store.faults = []
        old.flush()
        old.writer.close()
        new = Hub(self.shelf, lambda: self.now, alone=self.alone)
        self.hubs[where % len(self.hubs)] = new
        for publisher in self.publishers:
            for link in publisher.links:
                link.open = link.open and link.hub is not old
            if not publisher.link.open:
                publisher.connect(new)

    def teardown(self) -> None:
        if not hasattr(self, "hubs"):
            return
        try:
            self._settle_all()
            self._check()
        finally:
            for hub in self.hubs:
                hub.writer.close()

    def _settle_all(self) -> None:
        for source in self.sources:
            source.emit()
        for hub in self.hubs:
            hub.store.faults = []
        for _ in range(2):
            for publisher in self.publishers:
                for link in publisher.links:
                    while link.open and link.on_the_way:
                        link.deliver()
                publisher.connect(self.hubs[-1])
                publisher.send(1 << 20)
                publisher.link.deliver()
                for hub in self.hubs:
                    hub.flush()
                    hub.hear()
        self.now += DECLARE_AFTER_S
        for hub in self.hubs:
            hub.writer.declare()
            hub.flush()
            hub.hear()

    def _check(self) -> None:
        log = self.shelf.log
        assert not self.shelf.overtaken
        ids = [event.identity for event in log]
        assert len(ids) == len(set(ids)), "something is in the log twice"
        for publisher in self.publishers:
            publisher.note()
            assert publisher.acknowledged == len(publisher.lines), "the last connection is not stuck"
        for source in self.sources:
            own = [event for event in log if event.run_id == source.run]
            kept = {event.identity if event.type == "gap" else event.line for event in own}  # ours may be first
            sent = [event.identity if event.type == "gap" else event.line for event in map(peek, source.lines)]
            assert kept.issuperset(sent), "something acknowledged is missing"
            self._check_numbers(own, source.number)
        if self.alone:
            assert self.hubs[0].told == log, "what is in the log was told, in its order"

    def _check_numbers(self, events: list[Event], last: int) -> None:
        seen = [event.sequence or 0 for event in events if event.type != "gap"]
        assert seen == sorted(set(seen))
        accounted: set[int] = set()
        by_us: list[int] = []
        for event in events:
            if event.type == "gap":
                spans = [(first, end) for first, end in event.payload["ranges"]]
                if event.payload["reason"] == "source":
                    by_us += _all(spans)
            else:
                spans = numbers(event)
                if event.type in TERMINAL_TYPES:
                    assert set(range(1, event.sequence or 0)) <= accounted, "declared before the end"
            accounted |= set(_all(spans))
        assert accounted == set(range(1, last + 1))
        assert not set(by_us) & set(seen)
        assert len(by_us) == len(set(by_us)), "declared once"


def _all(spans: Sequence[Span]) -> list[int]:
    return [n for first, last in spans for n in range(first, last + 1)]


class AloneMachine(Machine):
    alone = True


TestTwoDoors = Machine.TestCase
TestTwoDoors.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestOneDoor = AloneMachine.TestCase
TestOneDoor.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.fixture
def two() -> Iterator[tuple[list[float], Hub, Hub]]:
    """The time, and two hubs of one store."""
    now, shelf = [1000.0], Shelf()
    hubs = [Hub(shelf, lambda: now[0], alone=False) for _ in range(2)]
    yield now, *hubs
    for hub in hubs:
        hub.writer.close()


def sent(hub: Hub, generation: int, *lines: bytes) -> Admitted | None:
    """What became of *lines*, sent by one publisher over its connection with this number."""
    found: list[Admitted | None] = []
    hub.take(lines, found.append, Sender("p" * 16, generation))
    hub.flush()
    hub.hear()
    return found[0]


def numbered(*wanted: int) -> list[bytes]:
    return [encode({"type": "agent_output", "run_id": "r", "agent_id": "a", "sequence": n}) for n in wanted]


def declaring(*spans: Span) -> bytes:
    return gap(list(spans), "throttle", run_id="r", agent_id="a", at="2026-11-20T07:00:00.000Z").line


def test_what_was_declared_at_another_hub_is_not_declared_again(two: tuple[list[float], Hub, Hub]):
    now, one, other = two
    sent(one, 1, *numbered(1, 4))
    now[0] += 3.0
    sent(one, 1, *numbered(6))
    sent(other, 2, declaring((2, 3), (5, 5)))
    now[0] += 3.0  # of the two holes, only the first has waited long enough
    one.writer.declare()
    one.flush()
    assert [event.type for event in one.store.shelf.log].count("gap") == 1


def test_who_was_overtaken_by_a_gap_alone_writes_no_more(two: tuple[list[float], Hub, Hub]):
    _, one, other = two
    sent(one, 1, *numbered(1))
    sent(other, 2, declaring((2, 2)))
    late = sent(one, 1, *numbered(3))
    assert late is not None
    assert late.fenced
    assert len(one.store.shelf.log) == 2
