"""One life of the hub: everything that is known, from the moment that the store was read to the end of its epoch.

The rule this module keeps: **nothing of one life is carried into the next.** When the log turns out to be another one,
window, cursors, states and door are made anew from the store; only the listening socket stays, so that whoever comes
meanwhile waits instead of being refused.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

import agentpipe
from agentpipe.errors import ContinuityLost, OutputError
from agentpipe.event import peek_lines
from agentpipe.history import Log
from agentpipe.hub import Hub
from agentpipe.io import token
from agentpipe.io.clock import Clock
from agentpipe.io.serve import feed as feeding
from agentpipe.io.serve.api import application
from agentpipe.io.serve.assets import Page
from agentpipe.io.serve.feed import Feed
from agentpipe.io.serve.intake import Intake
from agentpipe.io.serve.service import Service
from agentpipe.io.serve.tail import Tail
from agentpipe.memory_log import MemoryLog
from agentpipe.runs import Runs
from agentpipe.store import Reader, SharedStore, Store

if TYPE_CHECKING:
    from agentpipe.io.serve.auth import Guard
    from agentpipe.io.serve.options import ServeOptions
    from agentpipe.io.serve.websocket import Connection

__all__ = ["Life"]

#: An entry of the window costs at least this, so that the bound in bytes bounds the number of entries as well.
LEAST_ENTRY_BYTES = 64

#: How long connections get to end after the goodbye.
ENDING_S = 1.0

#: How long a start waits for what is over the limits to go.
RETAIN_AT_START_S = 0.2

#: How long the end waits for what is stored to be told as well.
TELLING_S = 2.0


class Life:
    """A hub that listens. ``lost`` says why it cannot go on, once it cannot."""

    def __init__(self, service: Service, past: "_Past", tail: Tail | None) -> None:
        # given
        self.service = service
        self._past = past
        self._tail = tail
        page = Page(os.path.join(os.path.dirname(agentpipe.__file__), "web"))
        self._runner = web.AppRunner(
            application(service, page), access_log=None, handler_cancellation=False, shutdown_timeout=ENDING_S
        )
        # changing
        self.lost: ContinuityLost | None = None
        self._site: web.SockSite | None = None
        self._closed = False

    @staticmethod
    async def begin(options: "ServeOptions", guard: "Guard", clock: Clock, say: Callable[[str], None]) -> "Life":
        """Read the store and make a hub of it. Raises OutputError."""
        past = await asyncio.to_thread(_read, options, clock, say)
        try:
            return Life._made(past, options, guard, clock, say)
        except OutputError:
            past.close()
            raise

    @staticmethod
    def _made(
        past: "_Past", options: "ServeOptions", guard: "Guard", clock: Clock, say: Callable[[str], None]
    ) -> "Life":
        size = options.window
        indexed = past.store is None
        window = MemoryLog(
            past.epoch, max_events=size // LEAST_ENTRY_BYTES, max_bytes=size, head=past.offset, indexed=indexed
        )
        log = past.log or window
        hub: Hub[Connection] = Hub(window, oldest=past.oldest)
        feed = Feed(hub, past.told, clock, patience_s=feeding.PATIENCE_S)
        intake = Intake(hub, feed, past.runs, past.store, clock, shared=past.shared is not None, say=say)
        tail = Tail(past.shared, intake, past.offset) if past.shared is not None else None
        service = Service(
            hub=hub, feed=feed, intake=intake, runs=past.runs, log=log, guard=guard, clock=clock,
            heartbeat_s=options.heartbeat, tail=tail,
        )  # fmt: skip
        return Life(service, past, tail)

    async def listen(self, listener: socket.socket) -> None:
        """Serve whoever connects to *listener*, which stays open when this life ends."""
        await self._runner.setup()
        self._site = web.SockSite(self._runner, listener.dup(), backlog=1024)
        await self._site.start()
        self.service.spawn(self.service.beat())

    async def last(self, told: "asyncio.Future[None]") -> None:
        """Wait until *told* is done, or this life cannot go on: then ``lost`` says why."""
        if self._tail is None:
            await asyncio.wait([told])
            return
        over = self._tail.over
        waiting: list[asyncio.Future[Any]] = [told, over]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if over.done():
            self.lost = over.result()

    async def close(self, code: int = 1001) -> None:
        """Store and tell what was taken, say goodbye to everybody with *code*, end."""
        if self._closed:
            return
        self._closed = True
        if self._site is not None:
            await self._site.stop()  # who comes now waits for the next life
        if self._tail is not None:
            self.service.stopping = True
            await self.service.intake.flushed()
            if self.lost is None and self.service.intake.problem is None:
                await self._tail.told(TELLING_S)
            await self._tail.close()
        await self.service.close(code)
        await self._runner.cleanup()
        self._past.let_go()


class _Past(NamedTuple):
    """What the store said: ``runs`` are reduced up to ``offset``. Without a store the window is all there is.

    ``log`` answers questions; ``told`` is read for subscribers, who shall not wait for somebody's search.
    """

    store: Store | None
    shared: SharedStore | None
    log: Reader | None
    told: Reader | None
    runs: Runs
    epoch: str
    oldest: int | None
    offset: int

    def close(self) -> None:
        """Let go of the store, which nobody has begun to use."""
        self.let_go()
        if self.store is not None:
            self.store.close()

    def let_go(self) -> None:
        """Close what was opened for reading."""
        for reader in (self.log, self.told):
            if reader is not None:
                reader.close()


def _read(options: "ServeOptions", clock: Clock, say: Callable[[str], None]) -> _Past:
    runs = Runs()
    if options.store == "memory":
        return _Past(None, None, None, None, runs, secrets.token_hex(8), None, 0)
    shared = _shared(options, say) if "://" in (options.store or "") else None
    store: Store = shared or _file(options, say)
    try:
        _retain(store, clock)
        log = store.reader()
        offset = _recall(runs, store, log, clock)
        return _Past(store, shared, log, store.reader(), runs, store.epoch, store.oldest, offset)
    except BaseException:
        store.close()
        raise


def _retain(store: Store, clock: Clock) -> None:
    """Drop what is over the limits, for as long as nobody minds; the rest goes while the hub runs."""
    until = time.monotonic() + RETAIN_AT_START_S
    while store.retain(clock()) and time.monotonic() < until:
        pass


def _file(options: "ServeOptions", say: Callable[[str], None]) -> Store:
    from agentpipe.io.sqlite.log import SqliteLog
    from agentpipe.io.sqlite.retention import Retention

    path = options.store or os.path.join(token.state_directory(), "hub.db")
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    return SqliteLog(path, retention=Retention(*options.limits), sync=options.sync, say=say)


def _shared(options: "ServeOptions", say: Callable[[str], None]) -> SharedStore:
    from agentpipe.io.redis.log import RedisLog

    store = RedisLog(options.store or "", retention=options.limits, sync=options.sync)
    for warning in store.health.warnings:
        say(warning)
    return store


def _recall(runs: Runs, store: Store, log: Log, clock: Clock) -> int:
    """Bring the states to where the log is: what was saved, and the entries after it; the offset they have reached."""
    offset, saved = store.state()
    try:
        if saved:
            runs.load(saved)
    except ValueError:
        offset = 0  # made by another version: reduce everything again
    offset = max(offset, store.oldest)
    while (page := log.since(offset, feeding.PAGE_EVENTS, feeding.PAGE_BYTES)).lines:
        runs.apply(peek_lines(page.lines)[0], clock())
        offset = page.next
    return page.next
