"""The part of ``buffer`` that is in memory: batches in order, first in first out.

The rule this module keeps: what it says it takes (``size_bytes``) is what it takes, Python's own share included.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agentpipe.event import Event

__all__ = ["EVENT_BYTES", "Memory", "charge"]

#: What an event takes besides its line: the object, its head's strings and the line's own header (measured: 380–430).
EVENT_BYTES = 400


class _Batch(NamedTuple):
    events: Sequence[Event]
    line_bytes: int  # of the lines with their line ends

    @property
    def size_bytes(self) -> int:
        return self.line_bytes + len(self.events) * EVENT_BYTES


class Memory:
    """Batches of events; ``count`` events take ``size_bytes``; ``spared`` of them, which take ``spared_bytes``, are
    older than everything that could still be shed.
    """

    def __init__(self) -> None:
        self._spared: deque[_Batch] = deque()  # what shedding left: older than every batch
        self._batches: deque[_Batch] = deque()
        self.count = 0
        self.spared = 0
        self.spared_bytes = 0
        self._line_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What is held, in bytes of memory."""
        return self._line_bytes + self.count * EVENT_BYTES

    def put(self, events: Sequence[Event]) -> None:
        """Take *events* in, as the newest."""
        if events:
            batch = _batch(events)
            self._batches.append(batch)
            self._count(batch, 1)

    def take(self, mark_bytes: int) -> list[Event]:
        """Hand out the oldest events: whole batches until their lines make *mark_bytes*, a large one in parts."""
        taken: list[Event] = []
        total = 0
        while self.count and total < mark_bytes:
            queue = self._spared or self._batches
            batch = queue.popleft()
            from_spared = queue is self._spared
            if batch.line_bytes > 2 * mark_bytes and len(batch.events) > 1:
                batch = self._cut(queue, batch, mark_bytes - total)
            taken += batch.events
            total += batch.line_bytes
            self._count(batch, -1)
            if from_spared:
                self.spared -= len(batch.events)
                self.spared_bytes -= batch.size_bytes
        return taken

    def shed(self, memory_bytes: int, events: int, spares: Callable[[Event], bool]) -> list[Event]:
        """Give up the oldest events until no more than the limits are held, except what *spares* says and the newest.

        ``events`` 0 is no limit of its own. *spares* is asked once about each event, in order.
        """
        shed: list[Event] = []
        while self._batches and self.over(memory_bytes, events):
            batch = self._batches.popleft()
            last = len(batch.events) - (not self._batches)  # the newest of all stays
            spared: list[Event] = []
            index = 0
            while index < last and self.over(memory_bytes, events):
                event = batch.events[index]
                index += 1
                if spares(event):
                    spared.append(event)
                    continue
                shed.append(event)
                self.count -= 1
                self._line_bytes -= len(event.line) + 1
            self._spare(spared)
            if index < len(batch.events):
                self._batches.appendleft(_batch(batch.events[index:]))
                break
        return shed

    def purge(self, lost: Callable[[Event], bool]) -> list[Event]:
        """Give up the events that are *lost*, which is asked about each that could still be shed, in order."""
        purged: list[Event] = []
        batches, self._batches = self._batches, deque()
        for batch in batches:
            kept: list[Event] = []
            for event in batch.events:
                (purged if lost(event) else kept).append(event)
            self._count(batch, -1)
            self.put(kept if len(kept) < len(batch.events) else batch.events)
        return purged

    def over(self, memory_bytes: int, events: int) -> bool:
        """Whether more is held than the limits allow."""
        return self.size_bytes > memory_bytes or bool(events and self.count > events)

    def _cut(self, queue: deque[_Batch], batch: _Batch, wanted: int) -> _Batch:
        """The head of *batch* that makes *wanted* bytes; the rest goes back to *queue*."""
        size = index = 0
        while index < len(batch.events) and size < wanted:
            size += len(batch.events[index].line) + 1
            index += 1
        if index < len(batch.events):
            queue.appendleft(_Batch(batch.events[index:], batch.line_bytes - size))
        return _Batch(batch.events[:index], size)

    def _spare(self, events: list[Event]) -> None:
        if events:
            batch = _batch(events)
            self._spared.append(batch)
            self.spared += len(events)
            self.spared_bytes += batch.size_bytes

    def _count(self, batch: _Batch, sign: int) -> None:
        self.count += sign * len(batch.events)
        self._line_bytes += sign * batch.line_bytes


def charge(events: Sequence[Event]) -> int:
    """What *events* take, in bytes of memory."""
    return _batch(events).size_bytes


def _batch(events: Sequence[Event]) -> _Batch:
    return _Batch(events, sum([len(event.line) for event in events]) + len(events))
