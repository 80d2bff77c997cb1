"""The feed against transports that take as much as the test says: no sockets, but the real loop and the real hub."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from agentpipe.event import encode, peek
from agentpipe.history import EVERYTHING, MemoryLog
from agentpipe.hub import Hub
from agentpipe.io.serve.feed import BUFFER_BYTES, Feed


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
