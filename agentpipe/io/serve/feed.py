"""What goes out: once a loop tick, the same bytes to all who share them.

The rule this module keeps: **nobody waits for anybody.** Nothing is awaited while bytes are handed out and nobody is
removed meanwhile; a client is written to only while its transport holds almost nothing, so that one that stopped
reading costs its cursor and at most about 64 KB; the rest is read again from the log when it comes back.
"""

import asyncio
from collections import deque
from typing import Any, Protocol

from agentpipe.errors import OutputError
from agentpipe.history import Log
from agentpipe.hub import Cursor, Hub, Subscription
from agentpipe.io.clock import Clock

__all__ = ["Feed", "Peer"]

#: A transport that holds this much is not written to. With one delivery (32 KB) on top that makes 44 KB, and less than
#: 64 KB with what the subscription and the allocator take.
BUFFER_BYTES = 12 * 1024

#: How long to leave a blocked client before looking again; doubled up to the second while it stays so.
RETRY_S = 0.0005
RETRY_MOST_S = 0.05

#: With many blocked clients it is this long for each: to look at one takes a microsecond, a twentieth of the time.
RETRY_EACH_S = 0.00002

#: A client that takes not one byte for this long is sent away (4201); it can resume from its position.
PATIENCE_S = 30.0

#: A page read from the store for a client that is far behind: several deliveries, so that reads are few.
PAGE_EVENTS = 1000
PAGE_BYTES = 256 * 1024

#: Pages that are read at once: the store is one disk, and what is read waits in memory to be told. The HTTP API has the
#: other threads.
READS = 4


class Peer(Protocol):
    """A connection as the feed sees it."""

    transport: asyncio.Transport

    def error(self, code: str, message: str) -> None:
        """Say what is wrong, to this peer alone."""
        ...

    def dismiss(self, code: int) -> None:
        """Say goodbye and close; returns at once."""
        ...


class _Stuck:
    """When a blocked client was last seen taking bytes, and how many it still had to take."""

    __slots__ = ("pending", "since")

    def __init__(self, pending: int, since: float) -> None:
        self.pending = pending
        self.since = since


class Feed:
    """Moves the hub's cursors. *log* answers for what is no longer in the window (None: nothing else is kept)."""

    def __init__(self, hub: Hub[Any], log: Log | None, clock: Clock, *, patience_s: float = PATIENCE_S) -> None:
        # given
        self._hub = hub
        self._log = log
        self._clock = clock
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        # changing
        self._scheduled = False
        self._stuck: dict[Subscription[Any], _Stuck] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._turn: asyncio.TimerHandle | None = None  # of those who are over their rate
        self._retry_s = RETRY_S
        self._reading: set[asyncio.Task[None]] = set()
        self._waiting: dict[int, list[Cursor[Any]]] = {}  # who waits for the page after an offset
        self._unread: deque[int] = deque()  # the offsets that nobody reads from yet
        self.bytes_written = 0

    def wake(self) -> None:
        """Something happened: hand it out in this turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._tick)

    def advance_positions(self) -> None:
        """Tell clients whose filter skipped everything how far they are."""
        self._deliver(self._hub.positions())

    async def close(self) -> None:
        """Stop looking after blocked clients and pages."""
        for timer in (self._retry, self._turn):
            if timer is not None:
                timer.cancel()
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)

    def _tick(self) -> None:
        self._scheduled = False
        now = self._clock()
        self._deliver(self._hub.tick(now))
        for cursor in self._hub.wanted():
            self._read(cursor)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        due = self._hub.due
        if due is not None and due <= now:
            self.wake()
        elif due is not None:
            self._turn = self._loop.call_later(due - now, self.wake)

    def _deliver(self, deliveries: "list[Any]") -> None:
        for delivery in deliveries:
            data = delivery.data
            blocked: list[Subscription[Any]] = []
            for subscription, peer in delivery.members.items():
                transport = peer.transport
                if transport.is_closing():
                    continue  # its connection leaves in a moment
                if transport.get_write_buffer_size() < BUFFER_BYTES:
                    transport.write(data)
                else:
                    blocked.append(subscription)
            self.bytes_written += len(data) * (len(delivery.members) - len(blocked))
            self._hub.settle(delivery, blocked)
            for subscription in blocked:
                self._block(subscription)

    def _block(self, subscription: Subscription[Any]) -> None:
        pending = subscription.peer.transport.get_write_buffer_size()
        self._stuck.setdefault(subscription, _Stuck(pending, self._clock()))
        if self._retry is None:
            self._retry_s = RETRY_S
            self._retry = self._loop.call_later(self._retry_s, self._look_again)

    def _look_again(self) -> None:
        """Take back in who can be written to again; send away who took nothing for too long."""
        self._retry = None
        now = self._clock()
        resumed = False
        blocked = self._hub.blocked
        for subscription in blocked:
            peer = subscription.peer
            pending = peer.transport.get_write_buffer_size()
            stuck = self._stuck.setdefault(subscription, _Stuck(pending, now))
            if pending < BUFFER_BYTES:
                resumed = True
                del self._stuck[subscription]
                self._hub.resume(subscription)
            elif pending < stuck.pending:
                stuck.pending, stuck.since = pending, now
            elif now - stuck.since >= self._patience_s:
                peer.dismiss(4201)
        if resumed:
            self.wake()
        if self._hub.blocked:
            again_s = max(RETRY_S, RETRY_EACH_S * len(blocked))
            self._retry_s = again_s if resumed else min(2 * self._retry_s, RETRY_MOST_S)
            self._retry = self._loop.call_later(self._retry_s, self._look_again)
        else:
            self._stuck.clear()

    def forget(self, subscription: Subscription[Any]) -> None:
        """The subscription has ended."""
        self._stuck.pop(subscription, None)

    def _read(self, cursor: Cursor[Any]) -> None:
        """Read the page for *cursor*, and for all who want the same one meanwhile."""
        waiting = self._waiting.setdefault(cursor.scanned, [])
        waiting.append(cursor)
        if len(waiting) == 1:
            self._unread.append(cursor.scanned)
            self._read_on()

    def _read_on(self) -> None:
        while self._unread and len(self._reading) < READS:
            task = self._loop.create_task(self._supply(self._unread.popleft()))
            self._reading.add(task)
            task.add_done_callback(self._has_read)

    def _has_read(self, task: asyncio.Task[None]) -> None:
        self._reading.discard(task)
        if not task.cancelled():
            self._read_on()

    async def _supply(self, offset: int) -> None:
        assert self._log is not None, "only a hub with a store asks for what is before its window"
        if not any(cursor.members for cursor in self._waiting[offset]):
            del self._waiting[offset]  # they have left before it was their turn
            return
        try:
            page = await asyncio.to_thread(self._log.since, offset, PAGE_EVENTS, PAGE_BYTES)
        except OutputError as error:
            self._send_away(self._waiting.pop(offset), str(error))
            return
        except Exception as error:
            self._send_away(self._waiting.pop(offset), repr(error))
            raise
        for cursor in self._waiting.pop(offset):
            self._hub.supply(cursor, page)
        self.wake()

    def _send_away(self, cursors: list[Cursor[Any]], problem: str) -> None:
        """The disk fails: they come back later, from their position."""
        for cursor in cursors:
            for subscription in tuple(cursor.members):
                subscription.peer.error("unavailable", f"what is asked for cannot be read: {problem}")
                subscription.peer.dismiss(4200)
                self._hub.leave(subscription)  # at once: who comes to this place meanwhile must not wait for nothing
