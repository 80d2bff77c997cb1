"""The log in memory: the window in front of a store, or all there is.

The rule this module keeps: **it is bounded in bytes, and what leaves is the oldest.** The newest lines stay as they
came, which is what followers read; older ones are joined into blocks, which cost little more than their bytes.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from agentpipe.event import Event, peek_lines
from agentpipe.history import SLICE_BYTES, Filter, OfRun, Page, Position, Slice, fitting

__all__ = ["MemoryLog"]

#: What a line costs beyond its bytes: the object's header and its place in the list.
LINE_OVERHEAD = 48

#: What a sealed block costs beyond its bytes: three objects, two numbers and a place in the tuple.
BLOCK_OVERHEAD = 200

#: Lines that are joined into one block, when they are no longer the newest. As many newest ones stay as they are, which
#: is what followers read; a reader of a block splits it again, at 0.05 µs a line. A block is two deliveries (of at most
#: 32 KB): readers that are behind meet at its end. Of the sizes that were tried (128 to 512 lines) this one leaves the
#: smallest holes in the allocator's memory: 10,000 events of 200 B take 1.95 MB, and with 256 lines 2.17.
SEALED_EVENTS = 192
SEALED_BYTES = 45 * 1024

#: In a small window blocks are smaller, but not so small that they cost more than they save.
LEAST_EVENTS = 32
LEAST_BYTES = 4096

#: How much a scan looks at in one piece: enough for the batch decoder to be quick, little enough to stay in cache.
SCAN_EVENTS = 1000
SCAN_BYTES = 1 << 20

#: Entries between two notes of where a run's numbers are: so many are looked through in a fraction of a millisecond.
APART = 256


class _Block(NamedTuple):
    """Entries that are no longer the newest: the lines after the offset ``start`` up to ``end``, joined by newlines."""

    start: int
    end: int
    data: bytes

    @property
    def cost(self) -> int:
        """The memory it takes, in bytes."""
        return len(self.data) + BLOCK_OVERHEAD


class _Kept(NamedTuple):
    """What a window holds, as one value: ``blocks``, and after the offset ``start`` the newest ``lines``."""

    blocks: tuple[_Block, ...]
    start: int
    lines: list[bytes]

    @property
    def oldest(self) -> int:
        return self.blocks[0].start if self.blocks else self.start

    def block_of(self, offset: int) -> int:
        """The index of the block that holds the entry after *offset*, which is one before ``start``."""
        return bisect_right(self.blocks, offset, key=_start) - 1


_start = attrgetter("start")


class MemoryLog:
    """The log in memory, bounded in events and bytes: the window in front of a store, or all there is.

    Appending past a bound drops about the oldest eighth at once, because dropping one by one would move the whole list
    each time. Only the newest lines are objects of their own; older ones are joined into blocks, which saves the fifth
    of a small event's memory.

    *indexed* notes where the numbers of each run are, for the log that is all there is; only what `append_events`
    brings is noted.

    One thread appends; any thread may read meanwhile: all that is kept is one value, which is replaced when lines
    are joined or leave. Only its newest lines grow in place, and they never shrink.
    """

    def __init__(self, epoch: str, *, max_events: int, max_bytes: int, head: int = 0, indexed: bool = False) -> None:
        # given
        self.epoch = epoch
        self._max_events = max_events
        self.max_bytes = max_bytes
        self._sealed_events = min(SEALED_EVENTS, max(LEAST_EVENTS, max_events // 16))  # so that an eighth can leave
        self._sealed_bytes = min(SEALED_BYTES, max(LEAST_BYTES, max_bytes // 16))
        # changing
        self._kept = _Kept((), head, [])
        self._lines_bytes = 0  # of the newest lines
        self._places = _Places() if indexed else None
        self.bytes_kept = 0  # the memory that it takes
        self.bytes_appended = 0  # in all

    @property
    def oldest(self) -> int:
        """The offset before the first entry that is kept."""
        return self._kept.oldest

    @property
    def head(self) -> int:
        """The offset of the last entry."""
        kept = self._kept
        return kept.start + len(kept.lines)

    def append(self, lines: Sequence[bytes]) -> Position:
        """Add *lines* and return the position after them; old ones leave when a bound is passed."""
        newest = self._kept.lines
        newest += lines
        size = sum(map(len, lines))
        self.bytes_appended += size
        self._lines_bytes += size
        self.bytes_kept += size + LINE_OVERHEAD * len(lines)
        if len(newest) > 2 * self._sealed_events or self._lines_bytes > 2 * self._sealed_bytes:
            self._seal()
        if self.bytes_kept > self.max_bytes or self.head - self.oldest > self._max_events:
            self._evict()
        return Position(self.epoch, self.head)

    def append_events(self, events: Sequence[Event]) -> Position:
        """Add the lines of *events*, whose heads say where the numbers of their runs are."""
        if self._places is not None and events:
            self._places.note(events, self.head)
        return self.append([event.line for event in events])

    def since(self, offset: int, limit: int, limit_bytes: int) -> Page:
        """The entries after *offset*; see `Log`."""
        kept = self._kept
        if offset >= kept.start or not kept.blocks:
            start = max(offset, kept.start)
            lines = kept.lines[start - kept.start : start - kept.start + limit]
        else:
            start = max(offset, kept.oldest)
            lines = _joined(kept, start, limit, limit_bytes)
        if sum(map(len, lines)) > limit_bytes:
            lines = lines[: fitting(lines, limit_bytes)]
        return Page(start, lines)

    def sealed(self, offset: int) -> int:
        """The last end of a block up to *offset*; 0 when there is none. Entries up to there keep their blocks."""
        kept = self._kept
        if offset >= kept.start:
            return kept.start if kept.blocks else 0
        return kept.blocks[index].start if (index := kept.block_of(offset)) >= 0 else 0

    def block(self, offset: int) -> Page | None:
        """The block that holds the entry after *offset*; None when that is among the newest or gone."""
        kept = self._kept
        if not kept.oldest <= offset < kept.start:
            return None
        block = kept.blocks[kept.block_of(offset)]
        return Page(block.start, block.data.split(b"\n"))

    def find(self, event_id: str) -> bytes | None:
        """The line of the event with this id: where its number should be, else anywhere, newest first."""
        run_id, _, number = event_id.rpartition(":")
        if number.isdecimal() and len(number) < 17:
            numbered = self._numbered(run_id, int(number))
            if numbered is not None and numbered.identity == event_id:
                return numbered.line
        for page in self._pages_backward():
            for event in reversed(peek_lines(page.lines)[0]):
                if event.identity == event_id:
                    return event.line
        return None

    def of_run(self, wanted: OfRun, after: int, limit: int, limit_bytes: int = SLICE_BYTES) -> Slice:
        """The entries of one run; see `Log`."""
        pick = wanted.filter.pick
        lines: list[bytes] = []
        offsets: list[int] = []
        room = limit_bytes
        page = self.since(after, SCAN_EVENTS, SCAN_BYTES)
        while page.lines:
            events, _ = peek_lines(page.lines)
            for index in pick(events):
                lines.append(events[index].line)
                offsets.append(page.start + index + 1)
                room -= len(lines[-1])
                if len(lines) == limit or room <= 0:
                    return Slice(lines, offsets, offsets[-1])
            page = self.since(page.next, SCAN_EVENTS, SCAN_BYTES)
        return Slice(lines, offsets, page.next)

    def place(self, run_id: str, sequence: int) -> int:
        """Where the numbers of a run from *sequence* on are; see `Log`."""
        return max(self.oldest, self._places.find(run_id, sequence) if self._places is not None else 0)

    def before_last(self, filter: Filter, count: int) -> int:  # noqa: A002 - the protocol's word
        """The offset after which the last *count* matching entries lie; see `Log`."""
        if filter.everything:
            return max(self.oldest, self.head - count)
        for page in self._pages_backward():
            events, _ = peek_lines(page.lines)
            found = filter.pick(events)
            if len(found) >= count:
                return page.start + found[len(found) - count]
            count -= len(found)
        return self.oldest

    def _numbered(self, run_id: str, sequence: int) -> Event | None:
        """The first event of the run with this number or a later one, but for gaps."""
        page = self.since(self.place(run_id, sequence), SCAN_EVENTS, SCAN_BYTES)
        while page.lines:
            for event in peek_lines(page.lines)[0]:
                if event.run_id == run_id and (event.sequence or 0) >= sequence and event.type != "gap":
                    return event
            page = self.since(page.next, SCAN_EVENTS, SCAN_BYTES)
        return None

    def _pages_backward(self) -> Iterable[Page]:
        kept = self._kept
        yield Page(kept.start, kept.lines[:])
        for block in reversed(kept.blocks):
            yield Page(block.start, block.data.split(b"\n"))

    def _seal(self) -> None:
        """Join all but the newest lines into blocks."""
        blocks, start, lines = self._kept
        while len(lines) > 2 * self._sealed_events or self._lines_bytes > 2 * self._sealed_bytes:
            count = min(self._sealed_events, fitting(lines, self._sealed_bytes), len(lines) - 1)
            if not count:
                break  # one line larger than a block is the newest
            block = _Block(start, start + count, b"\n".join(lines[:count]))
            size = len(block.data) - count + 1
            self._lines_bytes -= size
            self.bytes_kept += block.cost - size - LINE_OVERHEAD * count
            blocks, start, lines = (*blocks, block), block.end, lines[count:]
        self._kept = _Kept(blocks, start, lines)

    def _evict(self) -> None:
        blocks, start, lines = self._kept
        head = self.head
        bytes_goal = self.max_bytes - self.max_bytes // 8
        events_goal = self._max_events - self._max_events // 8
        first = 0
        while first < len(blocks) and (self.bytes_kept > bytes_goal or head - blocks[first].start > events_goal):
            self.bytes_kept -= blocks[first].cost
            first += 1
        count = 0
        if first == len(blocks):
            least = max(0, len(lines) - events_goal)
            while count < len(lines) - 1 and (count < least or self.bytes_kept > bytes_goal):
                self._lines_bytes -= len(lines[count])
                self.bytes_kept -= len(lines[count]) + LINE_OVERHEAD
                count += 1
        self._kept = _Kept(blocks[first:], start + count, lines[count:] if count else lines)
        if self._places is not None:
            self._places.forget(self.oldest)


def _joined(kept: _Kept, offset: int, limit: int, limit_bytes: int) -> list[bytes]:
    """The lines after *offset*, which lies in a block: about as many as asked for, from blocks and the newest."""
    lines: list[bytes] = []
    size = 0
    for block in kept.blocks[kept.block_of(offset) :]:
        found = block.data.split(b"\n")
        lines += found[offset - block.start :] if offset > block.start else found
        size += len(block.data)
        if len(lines) >= limit or size > limit_bytes:
            return lines[:limit]
    return lines + kept.lines[: limit - len(lines)]


class _Places:
    """For each run, how far the log was when some of its numbers came: the first number that a batch brought, and the
    offset before that batch. Gaps do not count, because they may come after later numbers; all others rise.

    A run has at most one note, of 16 bytes, in `APART` entries of the log. A note that is missing only means to look
    through more.
    """

    def __init__(self) -> None:
        self._notes: dict[str, tuple[array[int], array[int]]] = {}  # numbers, offsets; both rise
        self._mixed_at = -APART  # where a batch of several runs was noted last

    def note(self, events: Sequence[Event], offset: int) -> None:
        """Some *events* come after *offset*. A batch of one run, the normal case, costs the same whatever its size;
        of those of several runs one in `APART` entries is noted.
        """
        first = events[0]
        if first.run_id == events[-1].run_id:
            if first.type != "gap":
                self._note(first.run_id, first.sequence or 0, offset)
        elif offset - self._mixed_at >= APART:
            self._mixed_at = offset
            firsts = {event.run_id: event.sequence for event in reversed(events) if event.type != "gap"}
            for run_id, number in firsts.items():
                self._note(run_id, number or 0, offset)

    def _note(self, run_id: str, number: int, offset: int) -> None:
        noted = self._notes.get(run_id)
        if noted is None:
            noted = self._notes[run_id] = (array("q"), array("q"))
        numbers, offsets = noted
        if not offsets or offset - offsets[-1] >= APART:
            offsets.append(offset)  # first: a reader goes by the numbers
            numbers.append(number)

    def find(self, run_id: str, sequence: int) -> int:
        """The offset after which the number *sequence* of the run and later ones are; 0 when that is not known."""
        noted = self._notes.get(run_id)
        if noted is None:
            return 0
        numbers, offsets = noted
        index = bisect_right(numbers, sequence) - 1
        return offsets[index] if index >= 0 else 0

    def forget(self, oldest: int) -> None:
        """What lies before *oldest* is gone; where nothing is noted, one looks from *oldest* on."""
        kept = {}
        for run_id, (numbers, offsets) in self._notes.items():
            if offsets[-1] >= oldest:
                first = max(0, bisect_right(offsets, oldest) - 1)
                kept[run_id] = (numbers[first:], offsets[first:])
        self._notes = kept
