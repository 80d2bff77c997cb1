"""The way in when the store fails: every sender is told, and the hub goes on when the disk does."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentpipe.errors import OutputError
from agentpipe.event import Event, peek
from agentpipe.hub import Hub
from agentpipe.io.clock import now
from agentpipe.io.serve.feed import Feed
from agentpipe.io.serve.intake import Intake
from agentpipe.io.serve.standard_input import StandardInput
from agentpipe.io.sqlite.log import SqliteLog
from agentpipe.memory_log import MemoryLog
from agentpipe.runs import Runs
from agentpipe.store import Commit, Standing
from tests.io.serve.hubs import PATIENCE_S, event


class FailingLog(SqliteLog):
    """A real store whose disk fails when it is told to."""

    broken_writes = 0
    rivals = 0
    broken_reads = 0
    broken_states = 0
    lost_answers = 0
    unreadable = 0

    @property
    def head(self) -> int:
        if self.unreadable:
            self.unreadable -= 1
            raise OutputError(self.path, "disk I/O error")
        return super().head

    gate: threading.Event | None = None

    def append(self, commit: Commit, at: float) -> int:
        if self.gate is not None:
            assert self.gate.wait(PATIENCE_S)
        if self.broken_writes:
            self.broken_writes -= 1
            raise OutputError(self.path, "disk I/O error")
        if self.rivals:
            self.rivals -= 1
            rival = event(self.head + 1)
            super().append(Commit([peek(rival)], commit.before, {"r": Standing(self.head + 1)}, ()), at)
        last = super().append(commit, at)
        if self.lost_answers:
            self.lost_answers -= 1
            raise OutputError(self.path, "nobody knows whether it is stored")
        return last

    def save_state(self, offset: int, state: bytes) -> None:
        if self.broken_states:
            self.broken_states -= 1
            raise OutputError(self.path, "disk I/O error")
        super().save_state(offset, state)

    def standings(self, runs: Collection[str] | None = None) -> dict[str, Standing]:
        if self.broken_reads:
            self.broken_reads -= 1
            raise OutputError(self.path, "disk I/O error")
        return super().standings(runs)


class FailingRuns(Runs):
    """States that fail at one event, as a mistake of ours would."""

    def apply(self, events: Sequence[Event], now: float) -> None:
        if any(event.type == "poison" for event in events):
            raise ZeroDivisionError
        super().apply(events, now)


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Any], Any]:
    """Run an async scenario with an intake on a store of its own."""

    async def played(scenario: Any) -> None:
        store = FailingLog(str(tmp_path / "hub.db"))
        window = MemoryLog(store.epoch, max_events=1000, max_bytes=1 << 20)
        hub: Hub[Any] = Hub(window, oldest=0)
        intake = Intake(hub, Feed(hub, store, now), FailingRuns(), store, now)
        async with asyncio.timeout(PATIENCE_S):
            await scenario(intake, store, hub)
            await intake.close()

    return lambda scenario: asyncio.run(played(scenario))


def test_a_batch_that_comes_behind_a_failed_one_is_told_too(play: Callable[[Any], Any]):
    """The thread meets it before the loop has heard of the failure."""

    async def scenario(intake: Intake, store: FailingLog, hub: Hub[Any]) -> None:
        store.broken_writes, store.gate = 1, threading.Event()
        told: list[tuple[str, bool]] = []
        intake.take([event(1)], lambda found: told.append(("first", found is not None)))
        await asyncio.sleep(0.05)  # the thread has taken the first and stands at the gate
        intake.take([event(2)], lambda found: told.append(("second", found is not None)))
        await asyncio.sleep(0.05)
        store.gate.set()
        time.sleep(0.3)  # the loop is busy while the thread meets both
        await intake.flushed()
        assert told == [("first", False), ("second", False)]
        intake.take([event(1), event(2)], lambda found: told.append(("again", found is not None)))
        await intake.flushed()
        assert told[2:] == [("again", True)]
        assert hub.head == 2

    play(scenario)


def test_a_store_that_cannot_even_be_read_after_a_failure_recovers_later(play: Callable[[Any], Any]):
    async def scenario(intake: Intake, store: FailingLog, hub: Hub[Any]) -> None:
        store.broken_writes, store.broken_reads = 1, 2
        told: list[bool] = []
        for _ in range(5):
            intake.take([event(1)], lambda found: told.append(found is not None))
            await intake.flushed()
            if told[-1]:
                break
        assert told == [False, False, False, True]
        assert intake.problem is None
        assert hub.head == 1

    play(scenario)


def test_who_sent_an_event_that_was_stored_is_told_whatever_happens_then(play: Callable[[Any], Any]):
    async def scenario(intake: Intake, store: FailingLog, hub: Hub[Any]) -> None:
        problems: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context["exception"]))
        told: list[bool] = []
        intake.take([event(1, type_="poison")], lambda found: told.append(found is not None))
        await intake.flushed()
        intake.take([event(2)], lambda found: told.append(found is not None))
        await intake.flushed()
        assert told == [True, True]
        assert hub.head == 2
        assert [type(problem) for problem in problems] == [ZeroDivisionError], "and it is not hidden"

    play(scenario)


def test_when_others_were_first_the_same_batches_are_looked_at_again_with_what_is_true(play: Callable[[Any], Any]):
    async def scenario(intake: Intake, store: FailingLog, hub: Hub[Any]) -> None:
        store.rivals = 2
        told: list[Any] = []
        intake.take([event(number) for number in (1, 2, 3)], told.append)
        await intake.flushed()
        (found,) = told
        assert found is not None
        assert (found.new, found.known) == (1, 2)
        assert store.head == 3
        assert [peek(line).sequence for line in store.since(0, 10, 10_000).lines] == [1, 2, 3]

    play(scenario)


def test_numbers_that_nobody_declares_are_declared_after_a_while(tmp_path: Path):
    """With a store and without."""

    async def scenario(store: SqliteLog | None) -> None:
        ahead = 0.0
        window = MemoryLog("e", max_events=1000, max_bytes=1 << 20)
        hub: Hub[Any] = Hub(window, oldest=0 if store is not None else None)
        intake = Intake(hub, Feed(hub, store, now), Runs(), store, lambda: now() + ahead)
        intake.take([event(3)], lambda _: None)
        await intake.flushed()
        assert hub.head == 1
        ahead = 60.0
        async with asyncio.timeout(PATIENCE_S):
            while hub.head < 2:
                await asyncio.sleep(0.01)
        assert peek(window.since(1, 1, 1000).lines[0]).event_id == "r:gap:1-2"
        await intake.close()

    asyncio.run(scenario(None))
    asyncio.run(scenario(SqliteLog(str(tmp_path / "hub.db"))))


def test_what_was_stored_although_the_store_said_otherwise_is_told_in_its_place(play: Callable[[Any], Any]):
    async def scenario(intake: Intake, store: FailingLog, hub: Hub[Any]) -> None:
        store.lost_answers = store.unreadable = 1
        told: list[Any] = []
        intake.take([event(1), event(2)], told.append)
        await intake.flushed()
        assert (told, hub.head) == ([None], 0)
        intake.take([event(1), event(2), event(3)], told.append)
        await intake.flushed()
        assert (told[1].new, told[1].known) == (1, 2)
        assert hub.head == store.head == 3

    play(scenario)


def test_what_was_stored_although_the_store_said_otherwise_is_not_stored_again(play: Callable[[Any], Any]):
    """Not even what nothing tells apart."""

    async def scenario(intake: Intake, store: FailingLog, hub: Hub[Any]) -> None:
        store.lost_answers = 1
        told: list[Any] = []
        intake.take([event(None), event(None)], told.append)
        await intake.flushed()
        assert told[0].new == hub.head == store.head == 2
        assert intake.problem is None
        intake.take([event(None)], told.append)
        await intake.flushed()
        assert hub.head == store.head == 3

    play(scenario)


def test_standard_input_goes_on_when_the_store_does(tmp_path: Path):
    """It failed in the middle, before and after it kept a commit; then the hub is told to end while it fails."""

    async def scenario(store: FailingLog) -> None:
        hub: Hub[Any] = Hub(MemoryLog("e", max_events=1000, max_bytes=1 << 20), oldest=0)
        intake = Intake(hub, Feed(hub, store, now), Runs(), store, now)
        read, write = os.pipe()
        warnings: list[str] = []
        source = StandardInput(intake, now, warnings.append, fd=read)
        source.start()
        for first in (1, 11, 21):
            store.broken_writes, store.lost_answers = (1, 0) if first == 11 else (0, 1)
            numbers = range(first, first + 10)
            os.write(write, b"".join([event(number, "numbered") + b"\n" + event(None) + b"\n" for number in numbers]))
            while hub.head < 2 * (first + 9):
                await asyncio.sleep(0.01)
        store.broken_writes = 100
        os.write(write, event(31, "numbered") + b"\n" + event(32, "numbered") + b"\n")
        while store.broken_writes == 100:
            await asyncio.sleep(0.01)
        await source.close()
        assert warnings == ["stdin: 2 events were read and could not be stored"]
        store.broken_writes = 0
        kept = [peek(line) for line in store.since(0, 1000, 1 << 20).lines]
        assert [each.sequence for each in kept if each.run_id == "numbered"] == list(range(1, 31))
        assert [each.sequence for each in kept if each.run_id == "r"] == list(range(1, 31))
        os.close(read)
        os.close(write)
        await intake.close()

    async def within() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario(FailingLog(str(tmp_path / "hub.db")))

    asyncio.run(within())


def test_a_hub_that_nobody_sends_to_finds_out_by_itself_that_the_store_can_be_written_again(play: Callable[[Any], Any]):
    """Who asks `/readyz` before sending would wait for ever otherwise."""

    async def scenario(intake: Intake, store: FailingLog, hub: Hub[Any]) -> None:
        store.broken_writes = store.broken_states = 1
        intake.take([event(1)], lambda _: None)
        await intake.flushed()
        assert intake.problem is not None
        while intake.problem is not None:
            await asyncio.sleep(0.01)
        assert not store.broken_states

    play(scenario)


#: Leads the door into a mistake: a run's id can be a key, in what `peek` makes.
TRAP = Event("x", [], line=b"{}")  # type: ignore[arg-type]


@pytest.mark.parametrize("stored", [True, False])
def test_a_batch_that_leads_us_into_a_mistake_takes_nobody_before_it_along(tmp_path: Path, stored: bool):
    async def scenario(store: SqliteLog | None) -> None:
        hub: Hub[Any] = Hub(MemoryLog("e", max_events=1000, max_bytes=1 << 20), oldest=0 if stored else None)
        intake = Intake(hub, Feed(hub, store, now), Runs(), store, now)
        async with asyncio.timeout(PATIENCE_S):
            told: list[bool] = []
            for each in (peek(event(1)), TRAP, peek(event(2))):
                intake.take_events([each], lambda found: told.append(found is not None))
            await intake.flushed()
            assert told == ([True, False, False] if stored else [False] * 3)
            intake.take([event(1), event(2)], lambda found: told.append(found is not None))
            await intake.flushed()
            assert (told[-1], hub.head) == (True, 2)
            await intake.close()

    asyncio.run(scenario(SqliteLog(str(tmp_path / "hub.db")) if stored else None))
