"""The thread that owns the door and the store.

The rule this module keeps: **a commit is admitted and stored in one go**, by one thread, so that nothing can come
between the look at a run's last number and the append. What waits when the thread is free is one commit. When the store
says that somebody else was first, the same batches are looked at again with what is true.

After a failure everything that was taken before the loop heard of it fails too, because what comes behind a lost batch
of the same sender would make its numbers look known. What a store has kept although it raised is found before the next
commit, and told in its place.
"""

import dataclasses
import itertools
import queue
import secrets
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from agentpipe.admission import MAX_IDS, Admission, Admitted
from agentpipe.errors import OutputError
from agentpipe.event import Event, peek_lines
from agentpipe.io.clock import Clock
from agentpipe.store import Commit, Sender, Store, StoreConflict

if TYPE_CHECKING:
    from agentpipe.history import Log

__all__ = ["Batch", "Writer", "shown"]

#: How often one commit may find that others were first: each time somebody's was stored.
MAX_CONFLICTS = 1000

#: Events of one commit, or one batch more: the loop tells them in one turn, in which it does nothing else.
COMMIT_EVENTS = 4000

#: A page of what was stored although its commit failed: no more than a large commit.
PAGE_EVENTS = 2000
PAGE_BYTES = 1 << 20


@dataclasses.dataclass(slots=True, eq=False)
class Batch:
    """One sender's batch: its ``lines``, or ``events`` whose heads were read. ``settled`` is called after the commit
    with what became of it, or with None when it could not be stored.
    """

    lines: Sequence[bytes]
    events: Sequence[Event] | None
    size_bytes: int
    settled: Callable[[Admitted | None], None]
    sender: Sender | None
    generation: int
    admitted: Admitted | None = None

    def admit(self, door: Admission, now: float) -> Admitted:
        """What *door* says to it."""
        if self.events is not None:
            return door.admit(self.events, now, self.sender)
        return door.admit_lines(self.lines, now, self.sender)


_Job = Callable[[], None]


class Writer:
    """*call* runs a function on the owner's thread: *done* with batches, the events that were stored and the problem
    if they were not; *noted* with a problem that hurt no batch, or None: the store can be written again; *evicted* with
    the offset before the oldest entry. With *alone*, nobody else writes to the store.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        call: Callable[..., object],
        done: Callable[[Sequence[Batch], Sequence[Event], OutputError | None], None],
        noted: Callable[[OutputError | None], None],
        evicted: Callable[[int], None],
        *,
        alone: bool = True,
    ) -> None:
        # given
        self._store = store
        self._clock = clock
        self._call = call
        self._done = done
        self._noted = noted
        self._evicted = evicted
        self._alone = alone
        self._queue: queue.SimpleQueue[list[Batch] | _Job | None] = queue.SimpleQueue()
        # changing, on the thread
        self.door = Admission(store.standings(), store.ids(MAX_IDS))
        self._stale = False  # the door may believe what is not stored
        self._head = store.head  # of what was told
        self._reader: Log | None = None
        self._failed_generation = 0
        self._failure: OutputError | None = None
        self._overdue = False  # not everything that was late is declared
        self._thread = threading.Thread(target=self._run, name="agentpipe-store", daemon=True)
        self._thread.start()

    # --- for the owner

    def put(self, batches: list[Batch]) -> None:
        """Store *batches*, in this order, behind what was put before."""
        self._queue.put(batches)

    def save(self, offset: int, state: bytes) -> None:
        """Keep the states that the entries up to *offset* were reduced to."""
        self._queue.put(lambda: self._store.save_state(offset, state))

    def retain(self) -> None:
        """Drop what is over the limits, a little between each two commits."""
        self._queue.put(self._retain)

    def declare(self) -> None:
        """Declare numbers that are missing and were waited for."""
        if self.door.waiting:
            self._queue.put(self._declare)

    def probe(self) -> None:
        """Find out whether the store can be written again."""
        self._queue.put(self._probe)

    def close(self) -> None:
        """Do what was put, close the store and end the thread."""
        self._queue.put(None)
        self._thread.join()

    # --- on the thread

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            batches: list[Batch] = []
            while True:
                if isinstance(item, list):
                    batches += item
                else:
                    self._commit(batches)
                    batches = []
                    if item is None:
                        self._work(self._store.close)
                        return
                    self._work(item)
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            self._commit(batches)

    def _work(self, job: _Job) -> None:
        try:
            job()
        except Exception as failed:  # noqa: BLE001 - a mistake of ours must not end the thread
            self._tell(self._noted, shown(failed))

    def _probe(self) -> None:
        self._store.save_state(*self._store.state())
        self._tell(self._noted, None)

    def _retain(self) -> None:
        more = self._store.retain(self._clock())
        self._tell(self._evicted, self._store.oldest)
        if more:
            self._queue.put(self._retain)

    def _declare(self) -> None:
        if self._store_all([]) and self._overdue:
            self._queue.put(self._declare)  # behind what waits

    def _commit(self, batches: list[Batch]) -> None:
        for part in _parts(batches):
            self._commit_part(part)

    def _commit_part(self, batches: list[Batch]) -> None:
        stale = [batch for batch in batches if batch.generation <= self._failed_generation]
        good = [batch for batch in batches if batch.generation > self._failed_generation]
        if stale:
            self._tell(self._done, stale, (), self._failure)
        if good:
            self._store_all(good)

    def _store_all(self, batches: list[Batch]) -> bool:
        """Store *batches* and tell; whether that was possible."""
        try:
            events = self._stored(batches)
        except Exception as failed:  # noqa: BLE001 - a mistake of ours must not leave every sender waiting for ever
            self._stale = True
            error = shown(failed)
            if error is not failed and len(batches) > 1:
                return self._store_each(batches)
            self._fail(batches, error)
            return False
        self._tell(self._done, batches, events, None)
        return True

    def _store_each(self, batches: list[Batch]) -> bool:
        """One of *batches* leads us into a mistake: those before it shall not suffer."""
        for place, batch in enumerate(batches):
            if not self._store_all([batch]):
                if behind := batches[place + 1 :]:
                    self._fail(behind, self._failure)
                return False
        return True

    def _fail(self, batches: list[Batch], error: OutputError | None) -> None:
        if batches:
            self._failed_generation, self._failure = batches[-1].generation, error
            self._tell(self._done, batches, (), error)
        else:
            self._tell(self._noted, error)

    def _stored(self, batches: list[Batch]) -> Sequence[Event]:
        """Admit and store *batches*; the events that are new."""
        if self._stale:
            self._recover()
        for _ in range(MAX_CONFLICTS):
            commit = self._admitted(batches)
            if not commit.events:
                return ()
            try:
                self._head = self._store.append(commit, self._clock())
            except StoreConflict as conflict:
                self.door.correct(commit, conflict.standings, conflict.known)
                continue
            except OutputError:
                if not self._was_kept(commit):
                    raise
            return commit.events
        raise OutputError("store", f"others were first {MAX_CONFLICTS} times")

    def _was_kept(self, commit: Commit) -> bool:
        """Whether the store has *commit* although it raised: then nobody need send it again, which would be twice for
        events that nothing tells apart.
        """
        head = self._head + len(commit.events)
        if not self._alone or self._store.head != head:
            return False
        self._head = head
        return True

    def _recover(self) -> None:
        """Go by what the store holds, and tell what it kept although it raised."""
        self.door = Admission(self._store.standings(), self._store.ids(MAX_IDS))
        if self._alone and self._store.head > self._head:
            self._tell_kept()
        self._stale = False

    def _tell_kept(self) -> None:
        self._reader = self._reader or self._store.reader()
        while (page := self._reader.since(self._head, PAGE_EVENTS, PAGE_BYTES)).lines:
            self._tell(self._done, [], peek_lines(page.lines)[0], None)
            self._head = page.next

    def _admitted(self, batches: list[Batch]) -> Commit:
        now = self._clock()
        for batch in batches:
            batch.admitted = batch.admit(self.door, now)
        self._overdue = self.door.declare(now)
        return self.door.take(secrets.token_hex(8))

    def _tell(self, function: Callable[..., None], *values: object) -> None:
        try:
            self._call(function, *values)
        except RuntimeError:
            return  # the loop has ended: the process was told to go at once


def _parts(batches: list[Batch]) -> Iterator[list[Batch]]:
    """What is stored together."""
    sizes = itertools.accumulate([len(batch.lines if batch.events is None else batch.events) for batch in batches])
    numbered = zip(batches, sizes, strict=True)
    for _, part in itertools.groupby(numbered, key=lambda pair: pair[1] // COMMIT_EVENTS):
        yield [batch for batch, _ in part]


def shown(failed: Exception) -> OutputError:
    """What is told of a failure; a mistake of ours is written out besides."""
    if isinstance(failed, OutputError):
        return failed
    traceback.print_exception(failed)
    return OutputError("store", repr(failed))
