"""Readers of a real store that is written and drops its old runs: complete, in order, or told what is gone."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from agentpipe.event import Event, encode, peek
from agentpipe.history import EVERYTHING, Filter, Page
from agentpipe.holes import numbers
from agentpipe.hub import Hub, Subscription
from agentpipe.io.clock import now
from agentpipe.io.serve.feed import Feed
from agentpipe.io.sqlite.log import Retention, SqliteLog
from agentpipe.memory_log import MemoryLog
from agentpipe.store import Commit, Standing
from agentpipe.wire import parse_hub_message
from tests.test_hub import payloads

RUNS = 12  # at a time


class Client:
    """A reader's own side: its transport, what it has seen, and how it subscribes."""

    def __init__(self, position: int, wanted: Filter, **manner: Any) -> None:
        self.start = self.position = position
        self.wanted = wanted
        self.manner = manner
        self.events: list[Event] = []
        self.gaps: list[tuple[int, int]] = []
        self.paused = False
        self.dismissed: list[int] = []
        self.transport: Any = self
        self.subscription: Subscription[Client] | None = None

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 1 << 20 if self.paused else 0

    def dismiss(self, code: int) -> None:
        self.dismissed.append(code)

    def error(self, code: str, message: str) -> None:
        raise AssertionError(f"{code}: {message}")

    def write(self, data: bytes) -> None:
        for payload in payloads(data):
            message = parse_hub_message(payload)
            assert len(payload) <= 64 * 1024
            if message.type == "gap":
                assert message.first == self.position + 1
                assert message.last is not None
                self.gaps.append((message.first, message.last))
                self.position = message.last
            else:
                assert message.prev == self.position
                assert message.pos is not None
                self.position = message.pos
                self.events += [peek(line) for line in message.lines]

    def subscribe(self, hub: "Hub[Client]") -> None:
        """On a new connection, from where it stands."""
        if self.subscription is not None:
            hub.leave(self.subscription)
        self.subscription = hub.join(self, 1, self.wanted, self.position, **self.manner)


class Writers:
    """Runs that come and go, in commits of random size."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._lasts: dict[str, int] = {f"run-{number}": 0 for number in range(RUNS)}
        self._ended: set[str] = set()
        self.events: list[Event] = []

    def commit(self) -> Commit:
        """The next commit, as the door would make it."""
        before: dict[str, Standing] = {}
        made = []
        for _ in range(self._dice.randint(1, 60)):
            run = self._dice.choice([run for run in self._lasts if run not in self._ended])
            before.setdefault(run, Standing(self._lasts[run]))
            self._lasts[run] += 1
            made.append(self._event(run, self._lasts[run]))
        self.events += made
        return Commit(made, before, {run: Standing(self._lasts[run]) for run in before}, (), str(len(self.events)))

    def _event(self, run: str, number: int) -> Event:
        kind = self._dice.choices(["agent_output", "agent_tool_call", "run_completed"], [20, 5, 0.4])[0]
        if kind == "run_completed":
            self._ended.add(run)
            self._lasts[f"run-{len(self._lasts)}"] = 0
        text = "x" * self._dice.choice([5, 50, 400])
        payload = {"message_id": f"m{number // 20}", "index": 0, "text": text, "final": number % 20 == 19}
        head = {"type": kind, "run_id": run, "agent_id": "a", "sequence": number, "event_id": f"{run}:{number}"}
        return peek(encode({**head, "timestamp": "2026-11-20T07:00:00.000Z", "payload": payload}))


def everything(store: SqliteLog) -> dict[int, bytes]:
    """What the store still has, by offset."""
    found: dict[int, bytes] = {}
    reader = store.reader()
    page = Page(0, ())
    while page.next < store.head:
        page = reader.since(page.next, 1000, 1 << 20)
        found |= {place: line for place, line in enumerate(page.lines, page.start + 1) if line}
    reader.close()
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_missed_or_told_twice_while_old_runs_are_dropped(tmp_path: Path, seed: int):
    """Commits are seen in the store before they are announced; readers stall, leave and come back meanwhile."""
    dice = random.Random(seed)
    clients = [Client(0, EVERYTHING), Client(0, EVERYTHING, accumulate=True), Client(0, EVERYTHING, max_rate=500.0)]
    clients += [Client(0, Filter(types=frozenset({"agent_output"})), accumulate=turn % 2 == 1) for turn in range(4)]
    clients += [Client(0, Filter(runs=frozenset({f"run-{number}"}))) for number in range(4)]

    async def work() -> tuple[Writers, dict[int, bytes]]:
        store = SqliteLog(str(tmp_path / "hub.db"), retention=Retention(events=800))
        hub: Hub[Client] = Hub(MemoryLog(store.epoch, max_events=200, max_bytes=1 << 20), oldest=0)
        reader = store.reader()
        feed = Feed(hub, reader, now)
        writers = Writers(dice)
        for client in clients:
            client.subscribe(hub)
        for _ in range(150):
            commit = writers.commit()
            await asyncio.to_thread(store.append, commit, now())
            if dice.random() < 0.3:
                while await asyncio.to_thread(store.retain, now()) and dice.random() < 0.9:
                    pass
                hub.evicted(min(store.oldest, hub.head))
            if dice.random() < 0.8:  # else the loop hears of it later
                hub.announce(writers.events[hub.head :])
            one = dice.choice(clients)
            one.paused = dice.random() < 0.5
            if dice.random() < 0.2:
                dice.choice(clients).subscribe(hub)
            feed.wake()
            await asyncio.sleep(0)
        hub.announce(writers.events[hub.head :])
        for client in clients:
            client.paused = False
        feed.wake()
        async with asyncio.timeout(60):
            while any(client.position < hub.head for client in clients):
                feed.advance_positions()
                await asyncio.sleep(0.01)
        await feed.close()
        left = everything(store)
        reader.close()
        store.close()
        return writers, left

    writers, left = asyncio.run(work())
    assert len(left) < len(writers.events)
    for client in clients:
        gone = {place for first, last in client.gaps for place in range(first, last + 1)}
        assert not [place for place in gone if left.get(place) == writers.events[place - 1].line]
        (check_accumulated if client.manner else check)(client, writers.events, gone, left)
        assert client.dismissed == []


def check(client: Client, log: list[Event], gone: set[int], left: dict[int, bytes]) -> None:
    """*client* has seen every entry of *log* that it wants and that was not told to be gone, once and in its place."""
    seen = iter(client.events)
    event = next(seen, None)
    for place, entry in enumerate(log, 1):
        if place in gone:
            continue
        evicted = left.get(place) != entry.line
        if event is not None and (event.line == entry.line or (evicted and is_gap_of(event, entry.run_id))):
            event = next(seen, None)  # what stands for a dropped run's last entry is a gap of that run
        else:
            assert not client.wanted.matches(entry) or (evicted and client.wanted.types), place
    assert event is None, "told twice, or out of order"


def is_gap_of(event: Event, run_id: str) -> bool:
    return event.type == "gap" and event.run_id == run_id


def check_accumulated(client: Client, log: list[Event], gone: set[int], left: dict[int, bytes]) -> None:
    """*client* has been told each number of what it wants once, in order in each run."""
    found: dict[str, list[int]] = {}
    for event in client.events:
        if event.type != "gap":
            for first, last in numbers(event):
                found.setdefault(event.run_id, []).extend(range(first, last + 1))
    for run, told in found.items():
        assert told == sorted(set(told)), run
    owed = {place: entry for place, entry in enumerate(log, 1) if place not in gone and client.wanted.matches(entry)}
    told_of = {(run, number) for run, told in found.items() for number in told}
    assert told_of <= {(entry.run_id, entry.sequence) for entry in owed.values()}
    for place, entry in owed.items():
        assert (entry.run_id, entry.sequence) in told_of or left.get(place) != entry.line, place
