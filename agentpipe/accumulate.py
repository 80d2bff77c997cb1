"""Accumulated text for readers of the log who ask for it: what they find together of one text comes as one event.

The rule this module keeps: **a message is whole.** Chunks are joined only with chunks of the same message, so that the
position after it is true of every entry before it: who comes back there gets nothing twice and misses nothing. What
became of the others is in ``covers``; whatever is not joined keeps its bytes.
"""

from collections.abc import Sequence
from typing import NamedTuple

from agentpipe.event import Event, encode
from agentpipe.holes import numbers
from agentpipe.merge import TEXT_TYPES, Chunk, covering, merged

__all__ = ["Portion", "accumulated", "portion"]

#: What ``covers`` adds to a line: a comma, the name, and one range of two numbers of 16 digits.
_COVERS_BYTES = 64


class Portion(NamedTuple):
    """What some events become: ``lines``, and for each the index of the last event that it stands for (``ends``, which
    rise). All events before the index ``next`` are in it.
    """

    lines: list[bytes]
    ends: list[int]
    next: int


class _Text:
    """Chunks that follow each other in their run, and the final text that replaces them when it is there; ``size`` is
    about that of the line that it becomes.
    """

    __slots__ = ("chunks", "end", "final", "size")

    def __init__(self, chunk: Chunk, end: int) -> None:
        self.chunks = [chunk]
        self.final: Event | None = None
        self.end = end
        self.size = len(chunk.event.line) + 1

    def ends_with(self, event: Event) -> bool:
        """Whether *event* is the final one, right after the last chunk."""
        last = self.chunks[-1]
        if event.sequence is None or not last.replaced_by(event):
            return False
        return numbers(event)[0][0] == last.last + 1

    @property
    def line(self) -> bytes:
        event = merged(self.chunks) if self.final is None else covering(self.final, self.chunks)
        return event.line


class _Message:
    """A message in the making."""

    def __init__(self, limit_events: int, limit_bytes: int) -> None:
        # given
        self._limit_events = limit_events
        self._limit_bytes = limit_bytes
        # changing
        self.made: dict[int, _Text | Event] = {}  # by the last event that each stands for; the indexes rise
        self._open: dict[str, _Text] = {}  # by run: what the run's next event may go on with
        self._size = 0

    def take(self, event: Event, index: int) -> bool:
        """Whether there was room for *event*; there always is for the first."""
        text = self._open.get(event.run_id)
        if event.type not in TEXT_TYPES:
            taken = self._append(event, len(event.line) + 1, index)
        elif (chunk := Chunk.read(event)) is None:
            taken = self._append(event, len(event.line) + 1, index) if text is None else self._end(text, event, index)
        elif text is not None and text.chunks[-1].precedes(chunk):
            return self._go_on(text, chunk, index)
        else:
            started = _Text(chunk, index)
            taken = self._append(started, started.size, index)
            if taken:
                self._open[event.run_id] = started
            return taken
        if taken:
            self._open.pop(event.run_id, None)
        return taken

    def _append(self, item: _Text | Event, size: int, index: int) -> bool:
        if self.made and (len(self.made) >= self._limit_events or self._size + size > self._limit_bytes):
            return False
        self.made[index] = item
        self._size += size
        return True

    def _go_on(self, text: _Text, chunk: Chunk, index: int) -> bool:
        more = len(encode(chunk.text)) + (_COVERS_BYTES if len(text.chunks) == 1 else 0)
        if self._size + more > self._limit_bytes:
            return False
        text.chunks.append(chunk)
        self._grow(text, more, index)
        return True

    def _end(self, text: _Text, event: Event, index: int) -> bool:
        if not text.ends_with(event):
            return self._append(event, len(event.line) + 1, index)
        more = len(event.line) + 1 + _COVERS_BYTES - text.size
        if self._size + more > self._limit_bytes:
            return False
        text.final = event
        self._grow(text, more, index)
        return True

    def _grow(self, text: _Text, more: int, index: int) -> None:
        """*text* stands for the event at *index* as well, and takes its place."""
        text.size += more
        self._size += more
        del self.made[text.end]
        text.end = index
        self.made[index] = text


def portion(events: Sequence[Event], start: int, *, limit_events: int, limit_bytes: int) -> Portion:
    """One message's worth of *events* from the index *start* on: at most *limit_events* lines, and *limit_bytes* unless
    a single event is larger. *events* are in the order of the log, of any runs.
    """
    message = _Message(limit_events, limit_bytes)
    end = start
    while end < len(events) and message.take(events[end], end):
        end += 1
    lines = [item.line for item in message.made.values()]
    if sum(map(len, lines)) + len(lines) > limit_bytes and end > start + 1:
        # Escapes of their own made the joined texts longer than their parts: join fewer.
        return portion(events[: (start + end) // 2], start, limit_events=limit_events, limit_bytes=limit_bytes)
    return Portion(lines, list(message.made), end)


def accumulated(events: Sequence[Event], *, limit_bytes: int) -> Portion:
    """All of *events*: what a reader gets who takes them at once. A joined line has at most *limit_bytes*."""
    lines: list[bytes] = []
    ends: list[int] = []
    start = 0
    while start < len(events):
        found = portion(events, start, limit_events=len(events), limit_bytes=limit_bytes)
        lines += found.lines
        ends += found.ends
        start = found.next
    return Portion(lines, ends, start)
