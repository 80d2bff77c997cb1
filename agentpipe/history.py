"""The log: what happened, in one order, for everybody.

The rule this module keeps: **an entry's place never changes, and what is gone is said to be gone.** Offsets count from
1 without holes. Entries leave a window at its beginning and a store anywhere; a reader who asks for what is gone gets a
page that says so: it starts later than asked, or has empty lines where entries were.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from agentpipe.event import Event

__all__ = [
    "EVERYTHING",
    "SLICE_BYTES",
    "Filter",
    "Log",
    "OfRun",
    "Page",
    "Position",
    "Slice",
    "fitting",
]

#: How much one answer about a run holds: thousands of ordinary events, or a few of the largest.
SLICE_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """``offset`` entries of the log with this ``epoch`` are behind the reader; 0 is before the first."""

    epoch: str
    offset: int


class Page(NamedTuple):
    """Consecutive entries: ``lines[0]`` is the entry after ``start``. ``start`` is more than what was asked for when
    the entries between are gone; one that is gone in the middle is the empty line in its place.
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


class OfRun(NamedTuple):
    """What is asked for of one run: ``types`` (empty: all) less ``without``."""

    run_id: str
    types: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()

    @property
    def filter(self) -> Filter:
        """The same as a filter."""
        return Filter(runs=frozenset({self.run_id}), types=self.types, without=self.without)


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
        """The entries after *offset*: at least one when there is one, at most *limit* and about *limit_bytes*; see
        `Page` for those that are gone.
        """
        ...

    def find(self, event_id: str) -> bytes | None:
        """The line of the event with this id, or None when it is not kept."""
        ...

    def of_run(self, wanted: "OfRun", after: int, limit: int, limit_bytes: int = SLICE_BYTES) -> Slice:
        """The entries of one run after the offset *after*: at most *limit* and about *limit_bytes*, at least one when
        there is one.
        """
        ...

    def place(self, run_id: str, sequence: int) -> int:
        """An offset after which lie all entries of the run with the number *sequence* and later ones that are kept;
        found without reading through the log. A few with lower numbers may lie there too, gaps of any number.
        """
        ...

    def before_last(self, filter: Filter, count: int) -> int:  # noqa: A002 - the protocol's word
        """The offset after which the last *count* entries that match lie (``oldest`` when there are fewer)."""
        ...


def fitting(lines: Sequence[bytes], limit_bytes: int) -> int:
    """How many of the first *lines* stay within *limit_bytes*, at least one."""
    if sum(map(len, lines)) <= limit_bytes:
        return len(lines)
    total = 0
    for index, line in enumerate(lines):
        total += len(line)
        if total > limit_bytes:
            return max(1, index)
    return len(lines)
