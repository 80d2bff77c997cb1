"""The feed against transports that take as much as the test says: no sockets, but the real loop and the real hub."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from agentpipe.errors import OutputError
from agentpipe.event import encode, peek
from agentpipe.history import EVERYTHING, Page
from agentpipe.hub import Hub
from agentpipe.io.clock import now
from agentpipe.io.serve.feed import BUFFER_BYTES, READS, Feed
from agentpipe.memory_log import MemoryLog
from agentpipe.wire import parse_hub_message
from tests.test_hub import payloads


class Transport:
    """Holds what is written until it is told to let go."""

    def __init__(self) -> None:
        self.held = 0
        self.most = 0
        self.writes = 0

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.held

    def write(self, data: bytes) -> None:
        self.held += len(data)
        self.most = max(self.most, self.held)
        self.writes += 1


class Peer:
    def __init__(self) -> None:
        self.transport: Any = Transport()
        self.dismissed: list[int] = []
        self.errors: list[str] = []

    def error(self, code: str, message: str) -> None:
        self.errors.append(f"{code}: {message}")

    def dismiss(self, code: int) -> None:
        self.dismissed.append(code)


def events(count: int, size: int = 0) -> list[Any]:
    return [
        peek(encode({"type": "x", "run_id": "r", "sequence": number, "pad": "x" * size})) for number in range(count)
    ]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


async def rest(hub: Hub[Peer]) -> None:
    while hub.behind:
        await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_a_tick_is_one_write_a_client():
    async def work() -> None:
        hub: Hub[Peer] = Hub(MemoryLog("e", max_events=1000, max_bytes=1 << 20))
        feed = Feed(hub, None, lambda: 0.0)
        peers = [Peer() for _ in range(5)]
        for peer in peers:
            hub.join(peer, 1, EVERYTHING, 0)
        for event in events(20):
            hub.announce([event])
            feed.wake()
        await rest(hub)
        assert [peer.transport.writes for peer in peers] == [1] * 5
        await feed.close()

    run(work())


def test_a_stalled_transport_is_given_at_most_64_kilobytes():
    async def work() -> None:
        hub: Hub[Peer] = Hub(MemoryLog("e", max_events=10_000, max_bytes=1 << 26))
        feed = Feed(hub, None, lambda: 0.0)
        peer = Peer()
        hub.join(peer, 1, EVERYTHING, 0)
        for size in (0, 100, 3000, 3000, 3000):
            hub.announce(events(500, size))
            feed.wake()
            await rest(hub)
        assert BUFFER_BYTES <= peer.transport.most <= 64 * 1024 + 200
        assert len(list(hub.blocked)) == 1
        await feed.close()

    run(work())


def test_a_client_without_any_progress_is_dismissed_and_one_with_some_is_not():
    async def work() -> None:
        now = [0.0]
        hub: Hub[Peer] = Hub(MemoryLog("e", max_events=10_000, max_bytes=1 << 26))
        feed = Feed(hub, None, lambda: now[0], patience_s=30.0)
        stuck, slow = Peer(), Peer()
        for peer in (stuck, slow):
            hub.join(peer, 1, EVERYTHING, 0)
        hub.announce(events(500, 1000))
        feed.wake()
        await rest(hub)
        for _ in range(4):
            now[0] += 15.0
            slow.transport.held -= 100
            for _ in range(3):
                feed._look_again()
        assert slow.dismissed == []
        assert set(stuck.dismissed) == {4201}
        await feed.close()

    run(work())


def test_a_client_that_comes_back_reads_on_where_it_was():
    async def work() -> None:
        hub: Hub[Peer] = Hub(MemoryLog("e", max_events=10_000, max_bytes=1 << 26))
        feed = Feed(hub, None, lambda: 0.0)
        peer = Peer()
        subscription = hub.join(peer, 1, EVERYTHING, 0)
        hub.announce(events(500, 1000))
        feed.wake()
        await rest(hub)
        while subscription.cursor is None or subscription.cursor.position < hub.head:
            peer.transport.held = 0
            await asyncio.sleep(0.002)
        assert peer.transport.writes > 5
        await feed.close()

    run(work())


class Store(MemoryLog):
    """A log that notes what is read of it, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__("e", max_events=100_000, max_bytes=1 << 26)
        self.reads: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self.failure: Exception | None = None
        self._lock = threading.Lock()

    def since(self, offset: int, limit: int, limit_bytes: int) -> Page:
        with self._lock:
            self.reads.append(offset)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.failure is not None:
                raise self.failure
            return super().since(offset, limit, limit_bytes)
        finally:
            with self._lock:
                self.at_once -= 1


async def settled(condition: Any) -> None:
    for _ in range(4000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it does not come to that")


def behind_a_store(count: int) -> "tuple[Store, Hub[Peer]]":
    """A store of *count* events of which the window has none."""
    store = Store()
    store.append_events(events(count, 100))
    return store, Hub(MemoryLog("e", max_events=1000, max_bytes=1 << 20, head=count), oldest=0)


def test_those_who_want_the_same_page_share_one_reading():
    async def work() -> None:
        store, hub = behind_a_store(100)
        feed = Feed(hub, store, lambda: 0.0)
        peers = [Peer() for _ in range(30)]
        for number, peer in enumerate(peers):
            hub.join(peer, number, EVERYTHING, 0)  # each under an id of its own
        feed.wake()
        await settled(lambda: all(peer.transport.writes for peer in peers))
        assert store.reads == [0]
        await feed.close()

    run(work())


class Holed(Store):
    """A store that has lost entries: those whose offsets are in *gone*."""

    def __init__(self, gone: set[int]) -> None:
        super().__init__()
        self._gone = gone

    def since(self, offset: int, limit: int, limit_bytes: int) -> Page:
        start, lines = super().since(offset, limit, limit_bytes)
        found = [b"" if place in self._gone else line for place, line in enumerate(lines, start + 1)]
        first = next((index for index, line in enumerate(found) if line), len(found))
        return Page(start + first, found[first:])


def test_a_store_with_holes_is_read_to_its_head_and_each_hole_is_told():
    """Three kinds of readers from many places: what they get and what they are told is gone makes up everything."""
    gone = {1, 2, *range(40, 60), 101, *range(150, 1200), 1500, 1502, *range(1990, 2001)}

    async def work() -> None:
        store = Holed(gone)
        store.append_events(events(2000, 100))
        hub: Hub[Peer] = Hub(MemoryLog("e", max_events=1000, max_bytes=1 << 20, head=2000), oldest=0)
        feed = Feed(hub, store, lambda: 0.0)
        readers = []
        for number, start in enumerate([0, 1, 39, 45, 59, 100, 101, 149, 700, 1199, 1501, 1989, 1995, 2000]):
            peer = Peer()
            peer.transport = Reading(start)
            hub.join(peer, 1, EVERYTHING, start, accumulate=number % 2 == 1)
            readers.append((peer.transport, start))
        hub.announce(events(3))
        feed.wake()
        await settled(lambda: all(transport.position == 2003 for transport, _ in readers))
        for transport, start in readers:
            told = {place for first, last in transport.gaps for place in range(first, last + 1)}
            assert told == {place for place in gone if place > start}
            assert len(transport.lines) == 2003 - start - len(told)
        await feed.close()

    run(work())


class Reading(Transport):
    """Takes everything, and checks positions as a client does."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position
        self.gaps: list[tuple[int, int]] = []
        self.lines: list[bytes] = []

    def write(self, data: bytes) -> None:
        for payload in payloads(data):
            message = parse_hub_message(payload)
            if message.type == "gap":
                assert message.first == self.position + 1
                assert message.last is not None
                self.gaps.append((message.first, message.last))
                self.position = message.last
            else:
                assert message.prev == self.position
                assert message.pos is not None
                self.position = message.pos
                self.lines += message.lines


def test_many_places_are_read_a_few_at_a_time_and_nobody_is_forgotten():
    async def work() -> None:
        store, hub = behind_a_store(100)
        feed = Feed(hub, store, lambda: 0.0)
        peers = [Peer() for _ in range(50)]
        subscriptions = [hub.join(peer, 1, EVERYTHING, number) for number, peer in enumerate(peers)]
        feed.wake()
        await asyncio.sleep(0)
        hub.leave(subscriptions[-1])  # before it is its turn: nothing is read for it
        await settled(lambda: all(peer.transport.writes for peer in peers[:-1]))
        assert sorted(store.reads) == list(range(49))
        assert store.most_at_once <= READS
        assert peers[-1].transport.writes == 0
        await feed.close()

    run(work())


def test_a_store_that_fails_sends_its_readers_away_and_goes_on_with_the_next():
    async def work() -> None:
        store, hub = behind_a_store(100)
        store.failure = OutputError("store", "gone")
        feed = Feed(hub, store, lambda: 0.0)
        unlucky = [Peer() for _ in range(10)]
        for number, peer in enumerate(unlucky):
            hub.join(peer, 1, EVERYTHING, number)
        feed.wake()
        await settled(lambda: all(peer.dismissed == [4200] for peer in unlucky))
        store.failure = None
        later = Peer()
        hub.join(later, 1, EVERYTHING, 3)
        feed.wake()
        await settled(lambda: later.transport.writes)
        await feed.close()

    run(work())


def test_who_is_over_its_rate_gets_its_turn_without_anything_happening():
    async def work() -> None:
        hub: Hub[Peer] = Hub(MemoryLog("e", max_events=1000, max_bytes=1 << 20))
        feed = Feed(hub, None, now)
        peer = Peer()
        hub.join(peer, 1, EVERYTHING, 0, max_rate=20.0)
        first, second, third = events(3)
        hub.announce([first])
        feed.wake()
        await settled(lambda: peer.transport.writes == 1)
        hub.announce([second])
        feed.wake()
        hub.announce([third])
        feed.wake()
        await settled(lambda: peer.transport.writes == 2)
        assert hub.due is None
        await feed.close()

    run(work())
