"""What comes in: admitted, stored, then told; in this order, for every way in.

The rule this module keeps: **acknowledged means stored, and told means stored.** With a store, commits are made on a
thread; everything that came while one ran goes into the next. Only when it is done do the events enter the window,
the states and the subscribers' feed, and are the senders told.

When a commit fails, everything that waited fails with it, the senders are told so, and the door goes back to what the
store really holds.
"""

import asyncio
import dataclasses
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from agentpipe.admission import MAX_IDS, Admission, Admitted
from agentpipe.errors import OutputError
from agentpipe.event import Event
from agentpipe.hub import Hub
from agentpipe.io.clock import Clock
from agentpipe.io.serve.feed import Feed
from agentpipe.io.sqlite_log import SqliteLog
from agentpipe.runs import Runs

__all__ = ["Intake"]

#: Bytes on their way to the disk before senders have to wait: a fast disk takes this in a tenth of a second.
MAX_IN_FLIGHT_BYTES = 8 << 20

#: The states are saved after so many events: a restart reduces at most these again.
STATE_EVERY = 20_000

#: How often the store looks for what is over its limits.
RETAIN_EVERY_S = 20.0


@dataclasses.dataclass(slots=True, eq=False)
class _Batch:
    """One sender's batch; ``settled`` is called with True after the commit, with False when it failed."""

    events: list[Event]
    size_bytes: int
    settled: Callable[[bool], None]
    generation: int


_Job = Callable[[SqliteLog], None]


class Intake:
    """The way in. *store* is None for a hub that keeps its log in memory. Everything is called on the loop's thread."""

    def __init__(
        self, admission: Admission, hub: Hub[Any], feed: Feed, runs: Runs, store: SqliteLog | None, clock: Clock
    ) -> None:
        # given
        self._hub = hub
        self._feed = feed
        self._runs = runs
        self._store = store
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        # changing
        self._admission = admission
        self._waiting: list[_Batch] = []
        self._flushing = False
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._generation = 1
        self._failed_generation = 0  # written by the thread, read by both
        self._failure: OutputError | None = None  # the thread's own: why that generation failed
        self._unread = False  # the thread's own: what the store holds could not be read after a failure
        self._unsaved = 0
        self.problem: OutputError | None = None
        self.events_stored = 0
        self._queue: queue.SimpleQueue[list[_Batch] | _Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if store is not None:
            self._thread = threading.Thread(target=self._write, args=(store,), name="agentpipe-store", daemon=True)
            self._thread.start()
            self._retaining = self._loop.call_later(RETAIN_EVERY_S, self._retain)

    def take(self, lines: Sequence[bytes], settled: Callable[[bool], None]) -> Admitted:
        """Take a batch of event lines; *settled* is called once it is stored (True) or could not be (False)."""
        return self._taken(self._admission.admit_lines(lines), sum(map(len, lines)), settled)

    def take_events(self, events: Sequence[Event], settled: Callable[[bool], None]) -> Admitted:
        """Take a batch of events whose heads were read already."""
        size = sum([len(event.line) for event in events])
        return self._taken(self._admission.admit(events, range(len(events)), []), size, settled)

    def last(self, run_id: str) -> int:
        """The last number of a run that was taken; 0 when there is none."""
        return self._admission.last(run_id)

    async def room(self) -> None:
        """Wait while the disk is behind."""
        await self._room.wait()

    async def flushed(self) -> None:
        """Wait until everything taken so far is stored and told, or has failed."""
        await self._idle.wait()

    async def close(self) -> None:
        """Store what is left, save the states and end the thread."""
        await self.flushed()
        if self._thread is None:
            return
        self._retaining.cancel()
        self._save()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _taken(self, admitted: Admitted, size: int, settled: Callable[[bool], None]) -> Admitted:
        """*size* is that of all lines, new or not: their sender's callback holds them until it is called."""
        self._waiting.append(_Batch(admitted.new, size, settled, self._generation))
        self._in_flight += 1
        self._in_flight_bytes += size
        self._idle.clear()
        if self._in_flight_bytes > MAX_IN_FLIGHT_BYTES:
            self._room.clear()
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        return admitted

    def _flush(self) -> None:
        self._flushing = False
        batches, self._waiting = self._waiting, []
        if self._store is None:
            self._done(batches, None)
        else:
            self._queue.put(batches)

    def _done(self, batches: Sequence[_Batch], problem: OutputError | None) -> None:
        """Tell what was stored, then tell the senders: these in any case, or they would wait for ever."""
        self.problem = problem
        try:
            if problem is None:
                self._announce([event for batch in batches for event in batch.events])
        finally:
            self._release(batches, stored=problem is None)

    def _announce(self, events: list[Event]) -> None:
        if events:
            self._hub.announce(events)
            self._feed.wake()
            self._runs.apply(events, self._clock())
            self._count(len(events))

    def _release(self, batches: Sequence[_Batch], *, stored: bool) -> None:
        self._in_flight_bytes -= sum([batch.size_bytes for batch in batches])
        if self._in_flight_bytes <= MAX_IN_FLIGHT_BYTES:
            self._room.set()
        for batch in batches:
            batch.settled(stored)
        self._in_flight -= len(batches)
        if not self._in_flight:
            self._idle.set()

    def _count(self, stored: int) -> None:
        self.events_stored += stored
        self._unsaved += stored
        if self._unsaved >= STATE_EVERY:
            self._save()

    def _save(self) -> None:
        if self._store is not None and self._unsaved:
            self._unsaved = 0
            offset, state = self._hub.head, self._runs.dump()
            self._queue.put(lambda store: store.save_state(offset, state))

    def _retain(self) -> None:
        self._queue.put(self._retain_now)
        self._retaining = self._loop.call_later(RETAIN_EVERY_S, self._retain)

    def _retain_now(self, store: SqliteLog) -> None:
        oldest = store.retain(self._clock())
        self._tell(self._hub.evicted, oldest)

    def _failed(self, batches: Sequence[_Batch], problem: OutputError, admission: Admission | None) -> None:
        """Go back to what the store holds: the numbers of failed events are not taken. While that cannot be read
        (None), everything that comes fails, and each time it is tried again.
        """
        if admission is not None and self._failed_generation == self._generation:
            self._generation += 1
            self._admission = admission
        self._done(batches, problem)

    # --- on the store's thread

    def _write(self, store: SqliteLog) -> None:
        while True:
            item = self._queue.get()
            batches: list[_Batch] = []
            while True:
                if isinstance(item, list):
                    batches += item
                else:
                    self._commit(store, batches)
                    batches = []
                    if item is None:
                        self._work(store, SqliteLog.close)
                        return
                    self._work(store, item)
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            self._commit(store, batches)

    def _work(self, store: SqliteLog, job: _Job) -> None:
        try:
            job(store)
        except OutputError as error:
            self._tell(self._note, error)

    def _note(self, problem: OutputError) -> None:
        self.problem = problem

    def _commit(self, store: SqliteLog, batches: list[_Batch]) -> None:
        if not batches:
            return
        stale = [batch for batch in batches if batch.generation <= self._failed_generation]
        good = [batch for batch in batches if batch.generation > self._failed_generation]
        if stale:
            assert self._failure is not None, "a generation has failed"
            self._tell_failed(store, stale, self._failure, read=self._unread)
        if not good:
            return
        try:
            store.append([event for batch in good for event in batch.events], self._clock())
        except OutputError as error:
            self._failed_generation, self._failure = good[-1].generation, error
            self._tell_failed(store, good, error, read=True)
            return
        self._tell(self._done, good, None)

    def _tell_failed(self, store: SqliteLog, batches: list[_Batch], problem: OutputError, *, read: bool) -> None:
        """Tell that *batches* are not stored; *read* what the store holds instead, unless that was told already."""
        admission = None
        if read:
            try:
                admission = Admission(store.lasts(), store.ids(MAX_IDS))
            except OutputError as error:
                problem = error
            self._unread = admission is None
        self._tell(self._failed, batches, problem, admission)

    def _tell(self, function: Callable[..., None], *values: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *values)
        except RuntimeError:
            return  # the loop has ended: the process was told to go at once
