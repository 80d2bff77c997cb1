"""What a running hub is made of, and what its clients ask of it.

The rule this module keeps: one answer for all ways of asking. The positions, snapshots and starting points that a
WebSocket client gets are those of the HTTP API.
"""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from agentpipe import wire
from agentpipe.event import JSON, timestamp
from agentpipe.history import Filter, Log, Position
from agentpipe.hub import Hub
from agentpipe.io.clock import Clock
from agentpipe.io.serve.auth import Guard
from agentpipe.io.serve.feed import Feed
from agentpipe.io.serve.intake import Intake
from agentpipe.io.serve.tail import Tail
from agentpipe.request import Since
from agentpipe.runs import Runs

if TYPE_CHECKING:
    from agentpipe.io.serve.websocket import Connection

__all__ = ["Service"]

#: Runs and agents in one `snapshot`: what a page shows at first; the rest is in ``GET /api/runs``.
SNAPSHOT_RUNS = 200

#: An offset beyond our head by more than this is nonsense, and not what another hub of the same store has told.
AHEAD = 1_000_000

#: How long an answer waits for what it acknowledges to be told here, too.
TELLING_S = 1.0

#: A connection that was not heard of for so many heartbeats (not even a pong) is gone.
SILENT_BEATS = 3


class Service:
    """The parts of the hub. *log* answers questions about the past: the store, or the window itself. A log that is
    followed by a *tail* is shared: another hub may have told more than we have heard of yet.
    """

    def __init__(
        self, *, hub: Hub["Connection"], feed: Feed, intake: Intake, runs: Runs, log: Log, guard: Guard, clock: Clock,
        heartbeat_s: float, tail: Tail | None = None,
    ) -> None:  # fmt: skip
        # given
        self.hub = hub
        self.feed = feed
        self.intake = intake
        self.runs = runs
        self.log = log
        self.guard = guard
        self.clock = clock
        self.heartbeat_s = heartbeat_s
        self._tail = tail
        self.shared = tail is not None
        self.epoch = log.epoch
        # changing
        self.connections: set[Connection] = set()
        self.stopping = False
        self._made = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def position(self) -> Position:
        """Where the log ends."""
        return Position(self.epoch, self.hub.head)

    @property
    def reachable(self) -> int:
        """The last offset that a client may have got: from us, or from a hub that was ahead of us."""
        return self.hub.head + AHEAD if self.shared else self.hub.head

    async def told(self) -> None:
        """Wait until what was acknowledged is told here as well, so that who asks next finds it; not for long."""
        if self._tail is not None:
            await self._tail.told(TELLING_S)

    def new_connection_id(self) -> str:
        """A name for a connection, for its owner and for our messages."""
        self._made += 1
        return f"c{self._made}"

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* beside everything else; it is cancelled when the hub ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def resolve(self, since: Since) -> tuple[int, dict[str, JSON] | None]:
        """Where a subscription starts, and the `gap` it has to be told, if any."""
        oldest = self.hub.oldest
        if since.kind == "start":
            return oldest, None
        if since.kind != "position":
            return self.hub.head, None
        epoch, offset = since.position.epoch, since.position.offset
        if epoch != self.epoch or offset > self.reachable:
            return oldest, {"first": 0, "last": oldest, "count": None, "reason": "epoch"}
        if offset < oldest:
            return oldest, {"first": offset + 1, "last": oldest, "count": oldest - offset, "reason": "evicted"}
        return offset, None

    async def before_last(self, wanted: Filter, count: int) -> int:
        """The offset after which the last *count* matching entries lie."""
        found = await asyncio.to_thread(self.log.before_last, wanted, count)
        return max(self.hub.oldest, min(found, self.hub.head))

    def snapshot(self) -> list[bytes]:
        """The accumulated state as messages: the newest runs and the agents heard of last, taken at one position."""
        return wire.snapshots(self.position, self.runs.runs(SNAPSHOT_RUNS), self.runs.agents(SNAPSHOT_RUNS))

    async def beat(self) -> None:
        """Heartbeats, pings, positions and liveness, until cancelled."""
        while True:
            await asyncio.sleep(self.heartbeat_s)
            self._beat()

    def _beat(self) -> None:
        now = self.clock()
        self.feed.advance_positions()
        frames = [wire.frame(wire.control("agent_status", **change)) for change in self.runs.changes(now)]
        heartbeat = wire.control(
            "heartbeat", timestamp=timestamp(now), connections=len(self.connections), head=self.hub.head
        )
        frames += [wire.frame(heartbeat), wire.ping_frame()]
        data = b"".join(frames)
        for connection in tuple(self.connections):
            if connection.silent_s(now) > SILENT_BEATS * self.heartbeat_s:
                connection.dismiss(4201)
            else:
                connection.write(data)

    async def close(self, code: int = 1001) -> None:
        """Take nothing more, store and tell what was taken, say goodbye to everybody with *code*."""
        self.stopping = True
        await self.intake.flushed()
        await asyncio.sleep(0)  # the turn of the loop in which acknowledgements and the last events are written
        for connection in tuple(self.connections):
            connection.dismiss(code)
        for task in self._tasks:
            task.cancel()
        await self.feed.close()
        await self.intake.close()
