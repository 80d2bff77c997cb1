"""The thread that owns the door and the store.

The rule this module keeps: **a commit is admitted and stored in one go**, by one thread, so that nothing can come
between the look at a run's last number and the append. What waits when the thread is free is one commit. When the store
says that somebody else was first, the same batches are looked at again with what is true.

After a failure everything that was taken before the loop heard of it fails too, because what comes behind a lost batch
of the same sender would make its numbers look known.
"""

import dataclasses
import queue
import secrets
import threading
import traceback
from collections.abc import Callable, Sequence

from agentpipe.admission import MAX_IDS, Admission, Admitted
from agentpipe.errors import OutputError
from agentpipe.event import Event
from agentpipe.io.clock import Clock
from agentpipe.store import Commit, Sender, Store, StoreConflict

__all__ = ["Batch", "Writer"]

#: How often one commit may find that others were first: each time somebody's was stored.
MAX_CONFLICTS = 1000


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
    if they were not; *noted* with a problem that hurt no batch; *evicted* with the offset before the oldest entry.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        call: Callable[..., object],
        done: Callable[[Sequence[Batch], Sequence[Event], OutputError | None], None],
        noted: Callable[[OutputError | None], None],
        evicted: Callable[[int], None],
    ) -> None:
        # given
        self._store = store
        self._clock = clock
        self._call = call
        self._done = done
        self._noted = noted
        self._evicted = evicted
        self._queue: queue.SimpleQueue[list[Batch] | _Job | None] = queue.SimpleQueue()
        # changing, on the thread
        self.door = Admission(store.standings(), store.ids(MAX_IDS))
        self._stale = False  # the door may believe what is not stored
        self._failed_generation = 0
        self._failure: OutputError | None = None
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
        except OutputError as error:
            self._tell(self._noted, error)

    def _retain(self) -> None:
        more = self._store.retain(self._clock())
        self._tell(self._evicted, self._store.oldest)
        if more:
            self._queue.put(self._retain)

    def _declare(self) -> None:
        self._store_all([])

    def _commit(self, batches: list[Batch]) -> None:
        stale = [batch for batch in batches if batch.generation <= self._failed_generation]
        good = [batch for batch in batches if batch.generation > self._failed_generation]
        if stale:
            self._tell(self._done, stale, (), self._failure)
        if good:
            self._store_all(good)

    def _store_all(self, batches: list[Batch]) -> None:
        try:
            events = self._stored(batches)
        except Exception as failed:  # noqa: BLE001 - a mistake of ours must not leave every sender waiting for ever
            error = failed if isinstance(failed, OutputError) else OutputError("store", repr(failed))
            if error is not failed:
                traceback.print_exception(failed)
            self._stale = True
            if batches:
                self._failed_generation, self._failure = batches[-1].generation, error
                self._tell(self._done, batches, (), error)
            else:
                self._tell(self._noted, error)
            return
        self._tell(self._done, batches, events, None)

    def _stored(self, batches: list[Batch]) -> Sequence[Event]:
        """Admit and store *batches*; the events that are new."""
        if self._stale:
            self.door = Admission(self._store.standings(), self._store.ids(MAX_IDS))
            self._stale = False
        for _ in range(MAX_CONFLICTS):
            commit = self._admitted(batches)
            if not commit.events:
                return ()
            try:
                self._store.append(commit, self._clock())
            except StoreConflict as conflict:
                self.door.correct(commit, conflict.standings, conflict.known)
                continue
            return commit.events
        raise OutputError("store", f"others were first {MAX_CONFLICTS} times")

    def _admitted(self, batches: list[Batch]) -> Commit:
        now = self._clock()
        for batch in batches:
            batch.admitted = batch.admit(self.door, now)
        self.door.declare(now)
        return self.door.take(secrets.token_hex(8))

    def _tell(self, function: Callable[..., None], *values: object) -> None:
        try:
            self._call(function, *values)
        except RuntimeError:
            return  # the loop has ended: the process was told to go at once
