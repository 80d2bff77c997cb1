"""The log: what happened, in one order, for everybody.

The rule this module keeps: **an entry's place never changes, and what is gone is said to be gone.** Offsets count from
1 without holes; entries leave only at the beginning; a reader who asks for more than is kept gets a page that says
where it really starts.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from agentpipe.event import Event, peek_lines

__all__ = ["EVERYTHING", "SLICE_BYTES", "Filter", "Log", "MemoryLog", "Page", "Position", "Slice", "fitting"]

#: What a line costs beyond its bytes: the object's header and its place in the list.
LINE_OVERHEAD = 48


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """``offset`` entries of the log with this ``epoch`` are behind the reader; 0 is before the first."""

    epoch: str
    offset: int


class Page(NamedTuple):
    """Consecutive entries: ``lines[0]`` is the entry after ``start``. ``start`` is more than what was asked for when
    the entries between are gone.
    """

    start: int
    lines: Sequence[bytes]

    @property
    def next(self) -> int:
        """The offset to ask with next time."""
        return self.start + len(self.lines)


class Slice(NamedTuple):
    """Entries picked out of the log: ``lines`` and their ``offsets``; everything up to ``next`` was looked at."""

    lines: Sequence[bytes]
    offsets: Sequence[int]
    next: int


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """Which events a reader wants. An empty set means all; ``without`` names types that are left out."""

    runs: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    works: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()

    @property
    def everything(self) -> bool:
        """Nothing is left out."""
        return not (self.runs or self.agents or self.works or self.types or self.without)

    def matches(self, event: Event) -> bool:
        """Whether the reader wants *event*."""
        return (
            (not self.runs or event.run_id in self.runs)
            and (not self.types or event.type in self.types)
            and event.type not in self.without
            and (not self.agents or event.agent_id in self.agents)
            and (not self.works or event.work_id in self.works)
        )

    def pick(self, events: Iterable[Event]) -> list[int]:
        """The indexes of the events that the reader wants."""
        matches = self.matches
        return [index for index, event in enumerate(events) if matches(event)]


EVERYTHING = Filter()


class Log(Protocol):
    """An append-only log that forgets its beginning.

    ``oldest`` is the offset before the first entry that is kept, ``head`` that of the last one. Calls may take as
    long as a disk does, so that the hub makes them on a thread; each answers for the log as it was at that moment.
    """

    @property
    def epoch(self) -> str: ...
    @property
    def oldest(self) -> int: ...
    @property
    def head(self) -> int: ...
    def since(self, offset: int, limit: int, limit_bytes: int) -> Page:
        """The entries after *offset*: at least one when there is one, at most *limit* and about *limit_bytes*."""
        ...

    def find(self, event_id: str) -> bytes | None:
        """The line of the event with this id, or None when it is not kept."""
        ...

    def of_run(self, run_id: str, after: int, limit: int, types: frozenset[str]) -> Slice:
        """The entries of one run after the offset *after*, of these types (empty: all): at most *limit* and about
        `SLICE_BYTES`, at least one when there is one.
        """
        ...

    def before_last(self, filter: Filter, count: int) -> int:  # noqa: A002 - the protocol's word
        """The offset after which the last *count* entries that match lie (``oldest`` when there are fewer)."""
        ...


class MemoryLog:
    """The log in memory, bounded in events and bytes: the window in front of a store, or all there is.

    Appending past a bound drops the oldest eighth at once, because dropping one by one would move the whole list
    each time.

    One thread appends; any thread may read meanwhile: the lines and the offset before them are one value, which is
    replaced when lines leave.
    """

    def __init__(self, epoch: str, *, max_events: int, max_bytes: int, head: int = 0) -> None:
        # given
        self.epoch = epoch
        self._max_events = max_events
        self._max_bytes = max_bytes
        # changing
        self._kept: tuple[int, list[bytes]] = (head, [])  # the list grows in place, and never shrinks
        self.bytes_kept = 0

    @property
    def oldest(self) -> int:
        """The offset before the first entry that is kept."""
        return self._kept[0]

    @property
    def head(self) -> int:
        """The offset of the last entry."""
        oldest, lines = self._kept
        return oldest + len(lines)

    def append(self, lines: Sequence[bytes]) -> Position:
        """Add *lines* and return the position after them; old ones leave when a bound is passed."""
        kept = self._kept[1]
        kept += lines
        self.bytes_kept += sum(map(len, lines)) + LINE_OVERHEAD * len(lines)
        if self.bytes_kept > self._max_bytes or len(kept) > self._max_events:
            self._evict()
        return Position(self.epoch, self.head)

    def since(self, offset: int, limit: int, limit_bytes: int) -> Page:
        """The entries after *offset*; see `Log`."""
        oldest, kept = self._kept
        start = max(offset, oldest)
        first = start - oldest
        lines = kept[first : first + limit]
        if sum(map(len, lines)) > limit_bytes:
            lines = lines[: fitting(lines, limit_bytes)]
        return Page(start, lines)

    def find(self, event_id: str) -> bytes | None:
        """The line of the event with this id; looks through what is kept, newest first."""
        for page in self._pages_backward():
            for event in reversed(peek_lines(page.lines)[0]):
                if event.identity == event_id:
                    return event.line
        return None

    def of_run(self, run_id: str, after: int, limit: int, types: frozenset[str]) -> Slice:
        """The entries of one run; see `Log`."""
        wanted = Filter(runs=frozenset({run_id}), types=types)
        lines: list[bytes] = []
        offsets: list[int] = []
        room = SLICE_BYTES
        page = self.since(after, SCAN_EVENTS, SCAN_BYTES)
        while page.lines:
            events, _ = peek_lines(page.lines)
            for index in wanted.pick(events):
                lines.append(events[index].line)
                offsets.append(page.start + index + 1)
                room -= len(lines[-1])
                if len(lines) == limit or room <= 0:
                    return Slice(lines, offsets, offsets[-1])
            page = self.since(page.next, SCAN_EVENTS, SCAN_BYTES)
        return Slice(lines, offsets, page.next)

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

    def _pages_backward(self) -> Iterable[Page]:
        oldest, kept = self._kept
        end = len(kept)
        while end:
            first = max(0, end - SCAN_EVENTS)
            yield Page(oldest + first, kept[first:end])
            end = first

    def _evict(self) -> None:
        oldest, kept = self._kept
        bytes_goal = self._max_bytes - self._max_bytes // 8
        least = max(0, len(kept) - (self._max_events - self._max_events // 8))
        count = 0
        while count < len(kept) - 1 and (count < least or self.bytes_kept > bytes_goal):
            self.bytes_kept -= len(kept[count]) + LINE_OVERHEAD
            count += 1
        self._kept = oldest + count, kept[count:]


#: How much a scan looks at in one piece: enough for the batch decoder to be quick, little enough to stay in cache.
SCAN_EVENTS = 1000
SCAN_BYTES = 1 << 20

#: How much one answer about a run holds: thousands of ordinary events, or a few of the largest.
SLICE_BYTES = 8 << 20


def fitting(lines: Sequence[bytes], limit_bytes: int) -> int:
    """How many of the first *lines* stay within *limit_bytes*, at least one."""
    total = 0
    for index, line in enumerate(lines):
        total += len(line)
        if total > limit_bytes:
            return max(1, index)
    return len(lines)
