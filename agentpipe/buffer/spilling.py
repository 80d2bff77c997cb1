"""``buffer --spill``: what memory does not hold goes to a file, in order, and outlives the process.

The rules this module keeps: once something is on disk, what comes goes to disk until all of it was handed on, so the
order stands; a block is removed from disk only when the next one is asked for, for then the reader has taken it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from agentpipe.buffer.memory import EVENT_BYTES, Memory, charge
from agentpipe.errors import OutputError
from agentpipe.event import JSON, Event, peek_lines
from agentpipe.ndjson import join
from agentpipe.stage import BaseStage

__all__ = ["BLOCK_BYTES", "Block", "Spill", "Store"]

#: Handed on at once, and the size of a block on disk: what a crash repeats is no more than this, or one larger event.
BLOCK_BYTES = 256 * 1024


class Block:
    """Lines as they lie on disk: *lines* each with its LF, and how many there are."""

    __slots__ = ("count", "lines")

    def __init__(self, lines: bytes, count: int) -> None:
        self.lines = lines
        self.count = count


class Store(Protocol):
    """Where events go that memory does not hold: first in, first out, across processes (``agentpipe.io.spill``).

    ``name`` is its path, ``count`` the number of events that were not taken. What a method wrote is safe from a crash
    of this process when it returns; each raises OutputError when the file cannot be read or written.

    ``append`` adds blocks as the newest; where none is untaken it leaves room for *behind* blocks that ``prepend`` may
    put before them later. ``prepend`` adds blocks after what was taken and before what was not. ``take`` gives the
    oldest untaken blocks, until they make *mark_bytes*, as one; they stay on disk until ``settle`` removes them.
    ``skip`` takes the oldest untaken block without reading it.
    """

    @property
    def name(self) -> str: ...
    @property
    def count(self) -> int: ...
    def append(self, blocks: Sequence[Block], *, behind: int = 0) -> None: ...
    def prepend(self, blocks: Sequence[Block]) -> None: ...
    def take(self, mark_bytes: int) -> Block | None: ...
    def skip(self) -> None: ...
    def settle(self) -> None: ...


class Spill(BaseStage):
    """``spill``: starts with what an earlier process left in *store*, counted as read here."""

    def __init__(self, store: Store, memory_bytes: int, events: int) -> None:
        super().__init__()
        # given
        self._store = store
        self._memory_bytes = memory_bytes
        self._events = events
        self._resumed = store.count
        # changing
        self._memory = Memory()
        self._under_way: Sequence[Event] = ()  # handed on from memory; the reader may not have taken it yet
        self._copy: Sequence[Event] = ()  # of the oldest block on disk, so that a reader who keeps up costs no reading
        self._taken = 0  # events of the block that is under way from the store, and in it still
        self._spilled = 0
        self.counts.read = self.counts.left = self._resumed

    @property
    def elastic(self) -> bool:
        """Fed also while the reader is busy."""
        return True

    @property
    def deadline(self) -> float | None:
        """Due at once while anything is held or not known to be taken."""
        return 0.0 if self._memory.count or self._under_way or self._taken or self._store.count else None

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:  # noqa: ARG002 - the contract's shape
        """Take *events* in, to memory or to disk; they leave in `wake`."""
        if self._store.count or not self._fits(events):
            self._spill(events)
        else:
            self._memory.put(events)
        self.counts.read += len(events)
        self._count()
        return ()

    def wake(self, now: float) -> Sequence[Event]:  # noqa: ARG002 - the contract's shape
        """Forget what was under way, for the reader has taken it, and hand on the oldest."""
        self._settle()
        if self._memory.count:
            out: Sequence[Event] = self._memory.take(BLOCK_BYTES)
            self._under_way = out
        else:
            out = self._from_disk()
        self.counts.passed += len(out)
        self._count()
        return out

    def finish(self, now: float) -> Sequence[Event]:  # noqa: ARG002 - the contract's shape
        """Keep on disk all that is held or under way, for the next start. A normal end finds nothing to keep."""
        self.keep()
        return ()

    @property
    def held(self) -> int:
        """Events that memory holds or that are under way from there: what a crash would cost."""
        return self._memory.count + len(self._under_way)

    def keep(self) -> None:
        """Put memory on disk, in its place; what was under way may come twice, which is better than not at all."""
        held = [*self._under_way, *self._memory.take(self._memory.size_bytes + 1)]
        self._under_way = self._copy = ()
        if held:
            self._store.prepend(_blocks(held))

    def report(self) -> Mapping[str, JSON]:
        """The counts, and how many events were found on disk at the start (``resumed``), went there (``spilled``) and
        are there now for the next start (``kept``): with those that the reader may have taken already.
        """
        kept = self._store.count + self._taken
        return {**self.counts.report(), "resumed": self._resumed, "spilled": self._spilled, "kept": kept}

    def _spill(self, events: Sequence[Event]) -> None:
        blocks = _blocks(events)
        found_empty = not self._store.count
        self._store.append(blocks, behind=self.held)
        self._spilled += len(events)
        if found_empty and len(blocks) == 1:
            self._copy = events

    def _settle(self) -> None:
        self._under_way = ()
        if self._taken:
            self._store.settle()
            self._taken = 0

    def _from_disk(self) -> Sequence[Event]:
        if self._copy:
            events, self._copy = self._copy, ()
            self._store.skip()
            self._taken = len(events)
            return events
        block = self._store.take(BLOCK_BYTES)
        if block is None:
            return ()
        self._taken = block.count
        return self._read(block)

    def _read(self, block: Block) -> Sequence[Event]:
        events, bad = peek_lines(block.lines.removesuffix(b"\n").split(b"\n"))
        if bad or len(events) != block.count:
            raise OutputError(self._store.name, "damaged: it holds lines that are no events")
        return events

    def _fits(self, events: Sequence[Event]) -> bool:
        count = self._memory.count + len(events)
        if count * EVENT_BYTES > self._memory_bytes or (self._events and count > self._events):
            return False
        return self._memory.size_bytes + charge(events) <= self._memory_bytes

    def _count(self) -> None:
        self.counts.left = self._memory.count + self._store.count


def _blocks(events: Sequence[Event]) -> list[Block]:
    """*events* as blocks of about `BLOCK_BYTES`; a larger event is a block of its own."""
    whole = join([event.line for event in events])
    if len(whole) <= 2 * BLOCK_BYTES or len(events) == 1:
        return [Block(whole, len(events))]
    middle = len(events) // 2
    return [*_blocks(events[:middle]), *_blocks(events[middle:])]
