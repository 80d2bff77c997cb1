"""What one kind of subscription finds after one offset, as messages; no positions of readers, no sockets.

The rule this module keeps: **the same bytes for all.** Nothing in a `Step` depends on who reads; what lies in the
window is found there, what lies before it in the page that is handed in. A step that does not reach the end of the log
ends where others end, wherever it began: those who are behind at many places are at few after it.
"""

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import NamedTuple

from agentpipe import wire
from agentpipe.accumulate import portion
from agentpipe.event import Event, peek_lines
from agentpipe.history import EVERYTHING, Filter, Page
from agentpipe.memory_log import MemoryLog

__all__ = ["DELIVERY_BYTES", "Manner", "Reading", "Step", "Told", "even"]

#: One delivery is at most about this much, so that a client that stalls just then costs no more than that.
DELIVERY_BYTES = 32 * 1024

#: A page of the store or a block of the window is told in parts of this much, counted from its beginning; the envelopes
#: come on top.
PART_BYTES = 30 * 1024

#: What was told to one who is behind is kept for the others, up to this and a quarter of the window: five hundred that
#: are cut together come back over some seconds, in which thousands of events are published.
TOLD_BYTES = 4 << 20

#: What one step reads on: as many small events as a delivery can hold.
STEP_EVENTS = 500

#: What a filter looks at before it is known whether more fits: ten messages, about a delivery when it wants all.
LOOK_EVENTS = 10 * wire.MAX_EVENTS

#: Heads that are kept beside the window pin their lines: few large events are as much as many small ones.
FRESH_BYTES = 1 << 20


class Manner(NamedTuple):
    """What is the same for subscriptions that get the same bytes: the filter, the id as JSON, whether texts are
    accumulated, and the events/s beyond which they are (None: no limit).
    """

    filter: Filter
    id_json: bytes
    accumulate: bool
    max_rate: float | None


@dataclasses.dataclass(slots=True)
class Step:
    """What one filter finds after one offset, shared by the families of a tick."""

    packs: list[wire.Pack | wire.Gone]
    scanned: int
    rest: Page | None


class _Parted(NamedTuple):
    """A page, and the indexes of its lines at which steps end."""

    page: Page
    ends: list[int]


class Reading:
    """Reads *window*, which only `announce` adds to."""

    def __init__(self, window: MemoryLog) -> None:
        # given
        self._window = window
        # changing
        self._fresh: list[Event] = []  # the heads of the newest entries, so that following peeks nothing again
        self._fresh_start = window.head
        self._fresh_since = window.bytes_appended
        self._block: _Parted | None = None  # what steps were taken from last
        self._page: _Parted | None = None

    def announce(self, events: Sequence[Event]) -> None:
        """Append *events* to the window."""
        window = self._window
        many = len(self._fresh) > STEP_EVENTS or window.bytes_appended - self._fresh_since > FRESH_BYTES
        if many or self._fresh_start + len(self._fresh) != window.head:
            self._fresh, self._fresh_start, self._fresh_since = [], window.head, window.bytes_appended
        self._fresh += events
        window.append_events(events)

    def step(self, manner: Manner, start: int, page: Page | None) -> Step:
        """What the filter finds after *start*, up to about one delivery."""
        found = self._read(start, page, manner)
        packs: list[wire.Pack | wire.Gone] = []
        size = 0
        for item in self._packs(manner, found, whole=page is None):
            size += item.size
            if packs and size > DELIVERY_BYTES:
                return Step(packs, packs[-1].pos, page)
            packs.append(item)
        return Step(packs, found.next, page)

    def _packs(self, manner: Manner, found: Page, *, whole: bool) -> Iterable[wire.Pack | wire.Gone]:
        """The messages that *found* becomes, one by one; nothing is gone of a page that is *whole*."""
        if not whole and b"" in found.lines:
            parts = (self._packs(manner, part, whole=True) if isinstance(part, Page) else (part,)
                     for part in wire.divided(found))  # fmt: skip
            return chain.from_iterable(parts)
        everything = manner.filter is EVERYTHING or manner.filter.everything
        if everything and not manner.accumulate:
            return wire.pack(found, limit_bytes=DELIVERY_BYTES)
        if not manner.accumulate:
            return self._picked(manner.filter, found)
        heads = self._heads(found)
        return _accumulated(found, heads, range(len(heads)) if everything else manner.filter.pick(heads))

    def _picked(self, wanted: Filter, found: Page) -> Iterator[wire.Pack]:
        """The messages of what a filter wants; no more is looked at than is taken."""
        for first in range(0, len(found.lines), LOOK_EVENTS):
            part = Page(found.start + first, found.lines[first : first + LOOK_EVENTS])
            yield from wire.pack(part, wanted.pick(self._heads(part)), limit_bytes=DELIVERY_BYTES)

    def _read(self, start: int, page: Page | None, manner: Manner) -> Page:
        some_go = manner.accumulate or not manner.filter.everything
        if page is None and some_go:
            found = self._window.since(start, STEP_EVENTS, 4 * DELIVERY_BYTES)
            end = self._window.sealed(found.next)
            return Page(start, found.lines[: end - start]) if start < end and found.next < self._window.head else found
        parted = self._of_page(page) if page is not None else self._of_block(start)
        if parted is None:
            return self._window.since(start, STEP_EVENTS, DELIVERY_BYTES)
        lines, ends = parted.page.lines, parted.ends
        first = start - parted.page.start
        part = bisect_right(ends, first) + (3 if some_go else 0)
        return Page(start, lines[first : ends[min(part, len(ends) - 1)]])

    def _of_page(self, page: Page) -> "_Parted":
        if self._page is None or self._page.page is not page:
            self._page = _Parted(page, _ends(page.lines))
        return self._page

    def _of_block(self, start: int) -> "_Parted | None":
        """The window's block that holds the entry after *start*; None when that is among the newest."""
        if self._block is None or not self._block.page.start <= start < self._block.page.next:
            page = self._window.block(start)
            if page is None:
                return None
            self._block = _Parted(page, _ends(page.lines))
        return self._block

    def _heads(self, page: Page) -> Sequence[Event]:
        first = page.start - self._fresh_start
        if first >= 0 and page.next <= self._fresh_start + len(self._fresh):
            return self._fresh[first : first + len(page.lines)]
        return peek_lines(page.lines)[0]


class Told:
    """What was told to those who are behind, so that others who come to the same place are told the same bytes. The
    first that came are the first to go.
    """

    def __init__(self, limit_bytes: int) -> None:
        # given
        self._limit_bytes = min(limit_bytes, TOLD_BYTES)
        # changing
        self._kept: dict[tuple[int, int], dict[Manner, tuple[bytes, int, int]]] = {}
        self._bytes = 0

    def find(self, manner: Manner, position: int, scanned: int) -> tuple[bytes, int, int] | None:
        """The bytes for readers at this place, and the place they are at afterwards."""
        here = self._kept.get((position, scanned))
        return here.get(manner) if here is not None else None

    def keep(self, manner: Manner, position: int, scanned: int, told: tuple[bytes, int, int]) -> None:
        """Remember what `find` has not found."""
        if len(told[0]) > 2 * DELIVERY_BYTES:
            return  # one large event would push out what many share
        self._kept.setdefault((position, scanned), {})[manner] = told
        self._bytes += len(told[0])
        while self._bytes > self._limit_bytes:
            gone = self._kept.pop(next(iter(self._kept)))
            self._bytes -= sum([len(data) for data, _, _ in gone.values()])


def even(page: Page) -> Page:
    """A page of the store cut at a round offset, so that those who read from other places come to the same one."""
    if not page.lines:
        return page
    size = 1 << (len(page.lines).bit_length() - 1)  # at most the page, so that there is something left
    return Page(page.start, page.lines[: page.next // size * size - page.start])


def _ends(lines: Sequence[bytes]) -> list[int]:
    """The indexes at which the parts of *lines* end."""
    sizes = list(accumulate(map(len, lines)))
    ends: list[int] = []
    first = 0
    while first < len(lines):
        told = sizes[first - 1] if first else 0
        edge = (told // PART_BYTES + 1) * PART_BYTES
        first = min(bisect_left(sizes, edge, first) + 1, first + STEP_EVENTS, len(lines))
        ends.append(first)
    return ends


def _accumulated(page: Page, heads: Sequence[Event], picked: Sequence[int]) -> Iterator[wire.Pack]:
    """The messages of the entries *picked*, with their texts joined."""
    events = [heads[index] for index in picked]
    start = 0
    while start < len(events):
        room = DELIVERY_BYTES - wire.ENVELOPE_BYTES
        found = portion(events, start, limit_events=wire.MAX_EVENTS, limit_bytes=room)
        yield wire.Pack(page.start + picked[found.next - 1] + 1, b",".join(found.lines), len(found.lines))
        start = found.next
