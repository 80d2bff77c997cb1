"""One step of eviction: entries of some blocks become empty lines, within one transaction of the store.

The rule this module keeps: **at the end of every step each number that is gone is declared.** Of a run of which
anything was evicted two entries may stay: its last terminal event, and one ``gap`` event with all the numbers that are
gone. The gap takes the place of the last entry that was evicted, before the terminal one when there is one; the next
step that evicts something of the run moves it on, in the same transaction.

A step is bounded, whatever lies in the blocks: it opens little more than `ROOM` says, and leaves runs whose remnants
lie elsewhere to the next one.
"""

import dataclasses
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from agentpipe.blocks import aliases
from agentpipe.errors import OutputError
from agentpipe.event import TERMINAL_TYPES, Event, gap, timestamp
from agentpipe.holes import CROWDED, Span, numbers, tidied
from agentpipe.io.sqlite.blocks import joined, parts_of, present, read_lines
from agentpipe.io.sqlite.file import is_damage
from agentpipe.missing import declared_by

__all__ = ["NOTHING", "Remnant", "Room", "Step"]


class Remnant(NamedTuple):
    """What stays of a run of which something was evicted: the offsets of its gap and of its terminal event (0: there
    is none), and the bytes of both.
    """

    gap: int = 0
    terminal: int = 0
    size_bytes: int = 0


NOTHING = Remnant()


class Room(NamedTuple):
    """What one step may open."""

    blocks: int
    entries: int
    size_bytes: int


#: About three milliseconds: an entry takes 4 µs, a block 20 µs, and 1 MiB two milliseconds to be written again.
ROOM = Room(blocks=32, entries=600, size_bytes=1 << 20)


class _Open:
    """A block that is being emptied: ``events`` by index, None where an entry is gone."""

    def __init__(self, first: int, lines: list[bytes]) -> None:
        # given
        self.first = first
        # changing
        self.lines = lines
        self.events: list[Event | None] = [None] * len(lines)
        for index, event in zip(*present(lines), strict=True):
            self.events[index] = event
        self.runs: set[str] = set()  # of which something changed

    def clear(self, offset: int) -> Event | None:
        """Make an empty line of what is at *offset*; what was there."""
        index = offset - self.first
        event = self.events[index]
        if event is not None:
            self.events[index] = None
            self.lines[index] = b""
            self.runs.add(event.run_id)
        return event

    def put(self, offset: int, event: Event) -> None:
        """Put *event* in the empty place at *offset*."""
        self.events[offset - self.first] = event
        self.lines[offset - self.first] = event.line
        self.runs.add(event.run_id)


@dataclasses.dataclass(slots=True)
class _Gone:
    """What this step evicted of one run; ``last`` is the event that says whose it was."""

    last: Event
    spans: list[Span] = dataclasses.field(default_factory=list)
    offsets: list[int] = dataclasses.field(default_factory=list)
    count: int = 0
    size_bytes: int = 0


class Step:
    """What one transaction does. *numbers* are the runs by id, *remnants* what stays of them so far.

    ``remnants``, ``dropped`` (entries and bytes by run), ``entries`` and ``size_bytes`` (how many fewer the store
    holds) are to be taken over by the owner when the transaction is committed.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        runs: Mapping[str, int],
        remnants: Mapping[int, Remnant],
        now: float,
        room: Room = ROOM,
    ) -> None:
        # given
        self._connection = connection
        self._path = path
        self._numbers = runs
        self._before = remnants
        self._now = now
        self._room = room
        # changing
        self._blocks: dict[int, _Open] = {}
        self._firsts: list[int] = []
        self._opened = Room(0, 0, 0)
        self._gone: dict[int, _Gone] = {}
        self._ids: list[str] = []
        self._own_ids: list[str] = []
        self._new_ids: list[tuple[str, int]] = []
        self.remnants: dict[int, Remnant] = {}
        self.entries = 0
        self.size_bytes = 0

    @property
    def full(self) -> bool:
        """Whether the step has done its share."""
        return any(done >= limit for done, limit in zip(self._opened, self._room, strict=True))

    @property
    def dropped(self) -> dict[int, tuple[int, int]]:
        """Of each run the entries and bytes that were evicted."""
        return {run: (gone.count, gone.size_bytes) for run, gone in self._gone.items()}

    def remnant(self, run: int) -> Remnant:
        """What stays of *run*."""
        return self.remnants.get(run) or self._before.get(run, NOTHING)

    def empty(self, first: int, chosen: Collection[int] | None, enough: Callable[[], bool]) -> bool:
        """Evict what the *chosen* runs (None: all) have in the block at *first*, until it is *enough*. False when
        something was left to the next step, or to be.
        """
        block = self._block(first)
        if block is None:
            return True
        whole = True
        passed: set[int] = set()
        for index, event in enumerate(block.events):
            if event is None:
                continue
            run = self._numbers[event.run_id]
            offset = first + index
            remnant = self.remnant(run)
            if (chosen is not None and run not in chosen) or offset in (remnant.gap, remnant.terminal):
                continue
            if enough():
                return False
            if run in passed or not self._has_room(run):
                passed.add(run)
                whole = False
            elif event.type not in TERMINAL_TYPES:
                self._drop(run, block, offset)
            else:
                self._keep_terminal(run, offset, event)
        return whole

    def runs_in(self, first: int) -> set[int]:
        """The runs that had something in the block at *first*, which this step emptied."""
        block = self._blocks.get(first)
        if block is None:
            return set()
        return {self._numbers[run_id] for run_id in block.runs | {event.run_id for event in block.events if event}}

    def forget(self, run: int) -> None:
        """Let go of what stays of *run*, for good."""
        remnant = self.remnant(run)
        for offset in filter(None, remnant[:2]):
            block = self._block_of(offset)
            event = self._clear(block, offset) if block is not None else None
            if event is not None:
                ids = self._own_ids if offset == remnant.gap else self._ids
                ids += aliases([event])
        self.remnants[run] = NOTHING

    def write(self) -> None:
        """Declare what is gone, and write everything."""
        for run, gone in self._gone.items():
            self._declare(run, gone)
        self._write_blocks()
        self._write_ids()
        rows = [(run, *remnant) for run, remnant in self.remnants.items()]
        kept = [row for row in rows if row[1] or row[2]]
        self._connection.executemany("INSERT OR REPLACE INTO remnant VALUES (?, ?, ?, ?)", kept)
        gone_for_good = [(row[0],) for row in rows if not row[1] and not row[2]]
        self._connection.executemany("DELETE FROM remnant WHERE run = ?", gone_for_good)

    # --- entries

    def _has_room(self, run: int) -> bool:
        """Whether something of *run* may be evicted in this step: its remnants have to be opened for that."""
        if run in self._gone or not self._gone:  # one has to go, or there would never be an end
            return True
        return all(done < 2 * limit for done, limit in zip(self._opened, self._room, strict=True))

    def _keep_terminal(self, run: int, offset: int, event: Event) -> None:
        """The last terminal event of a run stays; one before it goes."""
        remnant = self.remnant(run)
        before = self._block_of(remnant.terminal) if remnant.terminal else None
        self.remnants[run] = Remnant(remnant.gap, offset, remnant.size_bytes + len(event.line))
        if before is not None:
            self._drop(run, before, remnant.terminal)

    def _drop(self, run: int, block: _Open, offset: int) -> None:
        event = self._clear(block, offset)
        if event is None:
            return
        gone = self._gone.get(run)
        if gone is None:
            gone = self._gone[run] = _Gone(event)
            self._open_gap(run)
        gone.last = event
        gone.spans += numbers(event)
        if event.type == "gap":
            gone.spans += declared_by(event)
        gone.offsets.append(offset)
        gone.count += 1
        gone.size_bytes += len(event.line)
        self._ids += aliases([event])

    def _open_gap(self, run: int) -> None:
        """Open the block of the gap of *run* now, so that it counts as a part of this step's share."""
        remnant = self.remnant(run)
        if remnant.gap:
            self._block_of(remnant.gap)

    def _declare(self, run: int, gone: _Gone) -> None:
        """Put the gap of *run* in its place."""
        remnant = self.remnant(run)
        block = self._block_of(remnant.gap) if remnant.gap else None
        if block is not None:
            before = self._clear(block, remnant.gap)
            if before is not None:
                gone.spans += declared_by(before)
                gone.offsets.append(remnant.gap)
                self._own_ids.append(before.identity)
        earlier = [offset for offset in gone.offsets if offset < remnant.terminal]
        place = max(earlier or gone.offsets)
        made = self._gap(gone)
        if made is None:
            place = 0
        else:
            block = self._block_of(place)
            assert block is not None, "something was evicted from it in this step"
            block.put(place, made)
            self.entries -= 1
            self.size_bytes -= len(made.line)
            self._new_ids.append((made.identity, block.first))
        terminal = self._event_at(remnant.terminal) if remnant.terminal else None
        size = sum(len(event.line) for event in (made, terminal) if event is not None)
        self.remnants[run] = Remnant(place, remnant.terminal, size)

    def _gap(self, gone: _Gone) -> Event | None:
        spans = _few(tidied(gone.spans))
        if not spans:
            return None
        last = gone.last
        at = timestamp(self._now)
        return gap(spans, "evicted", run_id=last.run_id, agent_id=last.agent_id, at=at, work_id=last.work_id)

    def _clear(self, block: _Open, offset: int) -> Event | None:
        event = block.clear(offset)
        if event is not None:
            self.entries += 1
            self.size_bytes += len(event.line)
        return event

    def _event_at(self, offset: int) -> Event | None:
        block = self._block_of(offset)
        return block.events[offset - block.first] if block is not None else None

    # --- blocks

    def _block_of(self, offset: int) -> _Open | None:
        """The block that holds *offset*; None when it is gone."""
        for first in self._firsts:
            if first <= offset < first + len(self._blocks[first].lines):
                return self._blocks[first]
        found = self._connection.execute(_HOLDING, (offset,)).fetchone()
        if found is None or found[0] + found[1] <= offset:
            return None
        return self._block(found[0])

    def _block(self, first: int) -> _Open | None:
        """The block at *first*, opened once; None when it is gone, or damaged: then it is left as it is."""
        block = self._blocks.get(first)
        if block is None:
            try:
                found = self._connection.execute(_BLOCK, (first,)).fetchone()
                block = _Open(first, read_lines(self._path, first, *found)) if found is not None else None
            except OutputError:
                return None
            except sqlite3.DatabaseError as error:
                if is_damage(error):
                    return None
                raise
            if block is None:
                return None
            self._blocks[first] = block
            self._firsts.insert(0, first)
            entries = len(block.events) - block.events.count(None)
            opened = self._opened
            self._opened = Room(opened.blocks + 1, opened.entries + entries, opened.size_bytes + len(found[2]))
        return block

    def _write_blocks(self) -> None:
        blank = 0
        for block in self._blocks.values():
            if not block.runs:
                continue
            size, data, crc = joined(block.lines)
            left = [event for event in block.events if event is not None]
            if left:
                values = (size, data, crc, block.first)
                self._connection.execute("UPDATE block SET size = ?, lines = ?, crc = ? WHERE first = ?", values)
            else:
                self._connection.execute("DELETE FROM block WHERE first = ?", (block.first,))
                blank -= len(block.lines)
            self._write_parts(block, left)
        blank += self.entries
        if blank:
            self._connection.execute(_COUNT_BLANK, (blank, blank))

    def _write_parts(self, block: _Open, left: Sequence[Event]) -> None:
        takes = parts_of([event for event in left if event.run_id in block.runs])
        for run_id in block.runs:
            take, key = takes.get(run_id), (self._numbers[run_id], block.first)
            if take is None:
                self._connection.execute("DELETE FROM part WHERE run = ? AND first = ?", key)
            else:
                self._connection.execute(_PUT_PART, (*key, take.low, take.high))

    def _write_ids(self) -> None:
        """An id stays known when its event is gone; those of our own gaps that moved on are nobody's."""
        self._connection.executemany("DELETE FROM alias WHERE event_id = ?", _each(self._own_ids))
        self._connection.executemany("UPDATE alias SET first = -abs(first) WHERE event_id = ?", _each(self._ids))
        self._connection.executemany("INSERT OR REPLACE INTO alias VALUES (?, ?)", self._new_ids)


def _each(values: Iterable[str]) -> list[tuple[str]]:
    return [(value,) for value in values]


def _few(spans: list[Span]) -> list[Span]:
    """At most `CROWDED` spans, by joining those with the smallest holes between: in a store whose holes were all
    declared they are few, and what was never declared is as gone as what was evicted.
    """
    excess = len(spans) - CROWDED
    if excess <= 0:
        return spans
    holes = sorted(range(1, len(spans)), key=lambda index: spans[index][0] - spans[index - 1][1])
    filled = set(holes[:excess])
    few = spans[:1]
    for index in range(1, len(spans)):
        if index in filled:
            few[-1] = (few[-1][0], spans[index][1])
        else:
            few.append(spans[index])
    return few


_HOLDING = "SELECT first, count FROM block WHERE first <= ? ORDER BY first DESC LIMIT 1"
_BLOCK = "SELECT count, crc, lines FROM block WHERE first = ?"
_PUT_PART = """INSERT INTO part VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (run, first) DO UPDATE SET low = excluded.low, high = excluded.high"""
_COUNT_BLANK = """INSERT INTO meta VALUES ('blank', ?) ON CONFLICT (name) DO UPDATE SET value = value + ?"""
