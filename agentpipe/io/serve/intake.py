"""What comes in: stored, then told; in this order, for every way in.

The rule this module keeps: **acknowledged means stored, and told means stored.** With a store, the door and the store
are asked on one thread (``io/serve/writer.py``); everything that came while one commit ran goes into the next. Only
when it is done do the events enter the window, the states and the subscribers' feed, and are the senders told. A store
that other hubs write to as well is followed instead: its events are told when they are read from it, whoever wrote
them.

When a commit fails, everything that waited fails with it, and the senders are told so.
"""

import asyncio
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from agentpipe.admission import Admission, Admitted
from agentpipe.errors import OutputError
from agentpipe.event import Event
from agentpipe.hub import Hub
from agentpipe.io.clock import Clock
from agentpipe.io.serve.feed import Feed
from agentpipe.io.serve.writer import Batch, Writer
from agentpipe.runs import Runs
from agentpipe.store import Sender, Store

__all__ = ["Intake"]

#: Bytes on their way to the disk before senders have to wait: a fast disk takes this in a tenth of a second.
MAX_IN_FLIGHT_BYTES = 8 << 20

#: The states are saved after so many events: a restart reduces at most these again.
STATE_EVERY = 20_000

#: How often the store looks for what is over its limits.
RETAIN_EVERY_S = 20.0

#: How often what a publisher left out is looked at: holes are declared after a few seconds.
DECLARE_EVERY_S = 1.0

#: Called once: with what became of the batch when it is stored, with None when it could not be.
Settled = Callable[[Admitted | None], None]


class Intake:
    """The way in. *store* is None for a hub that keeps its log in memory. Everything is called on the loop's thread.

    *say* gets a line when the store fails, and one when it can be written again. With *shared*, others write to the
    store as well: what is stored is announced by who follows it (`announce`).
    """

    def __init__(
        self,
        hub: Hub[Any],
        feed: Feed,
        runs: Runs,
        store: Store | None,
        clock: Clock,
        *,
        shared: bool = False,
        retain_every_s: float = RETAIN_EVERY_S,
        say: Callable[[str], object] | None = None,
    ) -> None:
        # given
        self._say = say
        self._hub = hub
        self._feed = feed
        self._runs = runs
        self._clock = clock
        self._shared = shared
        self._retain_every_s = retain_every_s
        self._loop = asyncio.get_running_loop()
        # changing
        self._waiting: list[Batch] = []
        self._flushing = False
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._generation = 1
        self._unsaved = 0
        self._overdue = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._problem: OutputError | None = None
        self.events_stored = 0
        self._door: Admission | None = Admission() if store is None else None
        self._writer: Writer | None = None
        if store is not None:
            self._writer = Writer(
                store, clock, self._loop.call_soon_threadsafe, self._done, self._noted, self._evicted, alone=not shared
            )
            self._every("retain", self._retain_every_s, self._retain)
        self._every("declare", DECLARE_EVERY_S, self._declare)

    @property
    def problem(self) -> OutputError | None:
        """Why nothing can be stored; None when all is well."""
        return self._problem

    @problem.setter
    def problem(self, problem: OutputError | None) -> None:
        changed = (problem is None) != (self._problem is None)
        self._problem = problem
        if changed and self._say is not None:
            self._say(f"{problem}: nothing is stored until this is over" if problem else "events are stored again")

    def take(self, lines: Sequence[bytes], settled: Settled, sender: Sender | None = None) -> None:
        """Take a batch of event lines."""
        self._take(Batch(lines, None, sum(map(len, lines)), settled, sender, self._generation))

    def take_events(self, events: Sequence[Event], settled: Settled) -> None:
        """Take a batch of events whose heads were read already."""
        size = sum([len(event.line) for event in events])
        self._take(Batch((), events, size, settled, None, self._generation))

    def last(self, run_id: str) -> int:
        """The last number of a run that is stored or on its way there; 0 when there is none."""
        door = self._door or (self._writer.door if self._writer is not None else None)
        return door.last(run_id) if door is not None else 0

    def announce(self, events: Sequence[Event]) -> None:
        """Tell *events*, which are stored, to everybody who listens."""
        if events:
            self._hub.announce(events)
            self._feed.wake()
            self._runs.apply(events, self._clock())
            self._count(len(events))

    async def room(self) -> None:
        """Wait while the disk is behind."""
        await self._room.wait()

    async def flushed(self) -> None:
        """Wait until everything taken so far is stored and told, or has failed."""
        await self._idle.wait()

    async def close(self) -> None:
        """Store what is left, save the states and end the thread."""
        await self.flushed()
        for timer in self._timers.values():
            timer.cancel()
        if self._writer is not None:
            self._save()
            await asyncio.to_thread(self._writer.close)

    def _take(self, batch: Batch) -> None:
        self._waiting.append(batch)
        self._in_flight += 1
        self._in_flight_bytes += batch.size_bytes
        self._idle.clear()
        if self._in_flight_bytes > MAX_IN_FLIGHT_BYTES:
            self._room.clear()
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        batches, self._waiting = self._waiting, []
        if self._writer is not None:
            self._writer.put(batches)
        else:
            self._keep(batches)

    def _keep(self, batches: list[Batch]) -> None:
        """Without a store, what is admitted is stored."""
        assert self._door is not None, "a hub without a store has its door here"
        problem: OutputError | None = None
        try:
            now = self._clock()
            for batch in batches:
                batch.admitted = batch.admit(self._door, now)
            self._overdue = self._door.declare(now)
        except Exception as failed:  # noqa: BLE001 - a mistake of ours must not leave every sender waiting for ever
            traceback.print_exception(failed)
            problem = OutputError("hub", repr(failed))
        self._done(batches, () if problem else self._door.take().events, problem)

    def _done(self, batches: Sequence[Batch], events: Sequence[Event], problem: OutputError | None) -> None:
        """Tell what was stored, then tell the senders: these in any case, or they would wait for ever."""
        self.problem = problem
        if problem is not None:
            self._generation = max([self._generation, *[batch.generation + 1 for batch in batches]])
        try:
            if problem is None and not self._shared:
                self.announce(events)
        finally:
            self._release(batches, stored=problem is None)

    def _release(self, batches: Sequence[Batch], *, stored: bool) -> None:
        self._in_flight_bytes -= sum([batch.size_bytes for batch in batches])
        if self._in_flight_bytes <= MAX_IN_FLIGHT_BYTES:
            self._room.set()
        for batch in batches:
            batch.settled(batch.admitted if stored else None)
        self._in_flight -= len(batches)
        if not self._in_flight:
            self._idle.set()

    def _count(self, stored: int) -> None:
        self.events_stored += stored
        self._unsaved += stored
        if self._unsaved >= STATE_EVERY:
            self._save()

    def _save(self) -> None:
        if self._writer is not None and self._unsaved:
            self._unsaved = 0
            self._writer.save(self._hub.head, self._runs.dump())

    def _retain(self) -> None:
        assert self._writer is not None, "only a store is retained"
        self._writer.retain()

    def _declare(self) -> None:
        if self._writer is not None:
            self._writer.declare()
            if self.problem is not None:
                self._writer.probe()  # nobody may come while we say that we cannot store
        elif self._door is not None and self._door.waiting:
            self._keep([])
            if self._overdue:
                self._loop.call_soon(self._declare)

    def _noted(self, problem: OutputError | None) -> None:
        self.problem = problem

    def _evicted(self, oldest: int) -> None:
        self._hub.evicted(oldest)

    def _every(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        def now() -> None:
            self._every(name, seconds, work)
            work()

        self._timers[name] = self._loop.call_later(seconds, now)
