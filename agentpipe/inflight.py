"""The window: events on their way to one hub, kept until the hub has said that they are stored.

The rules this module keeps: order is never changed; memory is bounded in bytes and events; every event that was
offered is settled, or still held, or was dropped and is declared by a ``gap`` of its run before the run's terminal
event. ``read + added = settled + dropped + held`` at every moment.

Only new events are ever dropped, and only when the driver says that waiting has no more sense; the types that change
the meaning of the rest (`agentpipe.event.EXEMPT_TYPES`) have a reserve of their own, and so has the event whose
``content`` was taken just before it: without it nobody would know what the parts are of.
"""

from collections import deque
from collections.abc import Sequence
from itertools import accumulate, takewhile

from agentpipe.event import EXEMPT_TYPES, TERMINAL_TYPES, Event, encode, peek
from agentpipe.holes import Holes

__all__ = ["Window", "size_of"]

#: What an event costs beside its bytes: the header of a bytes object, its slot in a list, the allocator's rounding.
OVERHEAD = 64

#: Small events are bounded by number: so many are some seconds of the fastest pipe, or hours of an agent.
MAX_EVENTS = 200_000

#: What exempt events may use above the window: some thousands of lifecycle events and errors.
RESERVE = 1 << 20

#: Taken whatever the bounds: a run has one terminal event, which alone says how it ended, and stages before us send
#: at most a gap a second for a run.
_ALWAYS = TERMINAL_TYPES | {"gap"}


class Window:
    """The events of one publisher that no hub has acknowledged, in order: those in flight, then those waiting.

    *max_bytes* and *max_events* bound what is held, *reserve* bytes more are for exempt types; *batch* and
    *batch_bytes* bound a frame (a larger event goes alone). `offer` takes events in, `next_frame` gives what is to be
    sent, `settle` forgets what the hub has stored, `rewind` makes all of it wait again after a lost connection.

    ``publisher`` is the id by which hubs know this publisher again, empty for one that has none. Events that bring
    neither number nor id get an id made of it, so that one that is sent again is known as the same.

    ``max_line`` is the largest line that the hub takes, once it is known. ``ending`` is the last terminal event that
    was taken in. The counters: ``read``, ``added`` (gaps made here), ``settled``, ``dropped``, of them ``oversize``
    (larger than the hub takes), ``resent``, ``held``.
    """

    #: Where events outlive us; `agentpipe.outbox` has such a place.
    place = ""

    def __init__(
        self,
        max_bytes: int,
        *,
        batch: int = 20,
        batch_bytes: int = 64 * 1024,
        max_events: int = MAX_EVENTS,
        reserve: int = RESERVE,
        publisher: str = "",
    ) -> None:
        # given
        self.publisher = publisher
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._reserve = reserve
        self._batch = batch
        self._batch_bytes = batch_bytes
        self.max_line: int | None = None
        # changing
        self._in_flight: deque[list[bytes]] = deque()
        self._waiting: deque[list[bytes]] = deque()
        self._cursor = 0  # lines of the first waiting batch that are in flight already
        self._settled_on_link = 0
        self.in_flight = 0  # events that were sent on this connection and are not settled
        self._holes = Holes("buffer")
        self._own_gaps: set[bytes] = set()  # made here and still held
        self._bytes = 0
        self._led = ""  # the run whose content was taken last, when nothing else was since
        self.ending: Event | None = None
        self.read = 0
        self.added = 0
        self.settled = 0
        self.dropped = 0
        self.oversize = 0
        self.resent = 0
        self._loaded = 0  # events in memory
        self._generation = 0
        self._named = 0  # the last number that an event's id was made of

    @property
    def held(self) -> int:
        """How many events were taken in and are not settled."""
        return self._loaded

    @property
    def kept(self) -> int:
        """How many of them outlive us, at ``place``."""
        return 0

    @property
    def deadline(self) -> float | None:
        """When `tend` is to be called though nothing happened."""
        return None

    @property
    def full(self) -> bool:
        """Whether an ordinary event finds no room. Once something was dropped, until half of the window is free
        again: a window at its brim would else declare a gap for every few events.
        """
        share = 2 if self._holes else 1
        return self._bytes >= self._max_bytes // share or self.held >= self._max_events // share

    @property
    def undeclared(self) -> bool:
        """Whether something was dropped that no gap declares yet."""
        return bool(self._holes)

    @property
    def undelivered(self) -> int:
        """How many of the events that were offered the hub does not have."""
        return self.held - len(self._own_gaps) + self.dropped

    @property
    def waiting(self) -> bool:
        """Whether `next_frame` has something to give."""
        return bool(self._waiting)

    def offer(self, events: Sequence[Event], now: float, *, dropping: bool = False) -> None:
        """Take *events* in. Unless *dropping*, all of them, whatever the bounds: one read more than they allow."""
        self.read += len(events)
        if dropping:
            self._sift(events, now)
            return
        if self._holes:
            self.declare(now)
        self._take(events)

    def tend(self, now: float) -> None:
        """Do what is due beside taking and giving. Memory needs no care."""

    def finish(self, now: float) -> None:
        """The end: nothing is offered or settled any more."""

    def next_generation(self) -> int:
        """The number of the connection that is made now; no later one of this ``publisher`` has a lower one."""
        self._generation += 1
        return self._generation

    def declare(self, now: float) -> None:
        """Put a gap for every run of which something was dropped."""
        self._add(self._holes.take_all(now))

    def next_frame(self, now: float) -> list[bytes] | None:
        """The lines of the next frame, which are in flight from now on; None when nothing waits."""
        lines = self._whole_frame() or self._gathered_frame(now)
        if not lines:
            return None
        self._in_flight.append(lines)
        self.in_flight += len(lines)
        return lines

    def settle(self, count: int) -> int:
        """The hub has settled the first *count* events of this connection; how many of them are news.

        Raises ValueError, and changes nothing, when fewer were sent.
        """
        news = count - self._settled_on_link
        if news > self.in_flight:
            raise ValueError(f"{count} events acknowledged, {self._settled_on_link + self.in_flight} sent")
        left = news
        while left > 0:
            lines = self._in_flight[0]
            done = lines[:left]
            if len(done) == len(lines):
                self._in_flight.popleft()
            else:
                del lines[: len(done)]
            left -= len(done)
            self._forget(done)
        self._settled_on_link = max(count, self._settled_on_link)
        self.settled += max(news, 0)
        self.in_flight -= max(news, 0)
        return max(news, 0)

    def rewind(self) -> None:
        """The connection is lost: what was in flight waits again, in its place, and will be sent again whole."""
        if self._cursor:
            del self._waiting[0][: self._cursor]
            self._cursor = 0
        self.resent += self.in_flight
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight.clear()
        self.in_flight = 0
        self._settled_on_link = 0

    def report(self) -> dict[str, int]:
        """The counts as ``--stats`` prints them."""
        return {
            "in": self.read,
            "added": self.added,
            "acknowledged": self.settled,
            "dropped": self.dropped,
            "left": self.held,
            "resent": self.resent,
        }

    def _sift(self, events: Sequence[Event], now: float) -> None:
        """One by one: in while there is room, else into the hole of its run."""
        for event in events:
            if self._has_room(event):
                self._add(self._holes.take(event.run_id, now))
                self._take([event])
                continue
            self.dropped += 1
            if self._holes.add(event, now):
                self._add(self._holes.take(event.run_id, now))

    def _has_room(self, event: Event) -> bool:
        if not self.held or event.type in _ALWAYS:
            return True
        if event.type in EXEMPT_TYPES or (event.run_id == self._led and event.type != "content"):
            return self._room() + self._reserve > len(event.line)
        return not self.full

    def _room(self) -> int:
        """How many bytes more fit; negative when there are too many already."""
        return self._max_bytes - self._bytes

    def _add(self, gaps: Sequence[Event]) -> None:
        gaps = self._identified(gaps)
        self.added += len(gaps)
        self._own_gaps.update(gap.line for gap in gaps)
        self._take(gaps)

    def _take(self, events: Sequence[Event]) -> None:
        if not events:
            return
        self._led = events[-1].run_id if events[-1].type == "content" else ""
        if not TERMINAL_TYPES.isdisjoint([event.type for event in events]):
            self.ending = next(event for event in reversed(events) if event.type in TERMINAL_TYPES)
        self._put([event.line for event in self._identified(events)])

    def _identified(self, events: Sequence[Event]) -> Sequence[Event]:
        """*events*, each with a number or an id by which it is known again."""
        if not self.publisher or None not in [event.sequence for event in events]:
            return events
        return [self._with_id(e) if e.sequence is None and e.event_id is None else e for e in events]

    def _with_id(self, event: Event) -> Event:
        self._named += 1
        rest = event.line.lstrip()[1:].lstrip()
        comma = b"" if rest.startswith(b"}") else b","
        return peek(b'{"event_id":%b%b%b' % (encode(f"{self.publisher}-{self._named}"), comma, rest))

    def _put(self, lines: list[bytes]) -> None:
        """Have *lines* wait behind all others."""
        self._waiting.append(lines)
        self._loaded += len(lines)
        self._bytes += size_of(lines)

    def _forget(self, lines: Sequence[bytes]) -> None:
        self._loaded -= len(lines)
        if self._own_gaps:
            self._own_gaps.difference_update(lines)
        self._bytes -= size_of(lines)

    def _whole_frame(self) -> list[bytes]:
        """The normal case at full speed: a full frame out of one batch, without a look at each line."""
        if not self._waiting:
            return []
        end = self._cursor + self._batch
        batch = self._waiting[0]
        lines = batch[self._cursor : end]
        size = sum(map(len, lines)) + len(lines)
        if end >= len(batch) or size > self._batch_bytes or (self.max_line is not None and size > self.max_line):
            return []
        self._cursor = end
        return lines

    def _gathered_frame(self, now: float) -> list[bytes]:
        """What fits of the batches that wait: the rest of one and the beginning of others, or one large event."""
        lines: list[bytes] = []
        size = 0
        while self._waiting and len(lines) < self._batch:
            batch = self._waiting[0]
            piece = batch[self._cursor : self._cursor + self._batch - len(lines)]
            taken = self._fitting(piece, size) or (piece[:1] if not lines else [])
            lines += taken
            size += sum(map(len, taken)) + len(taken)
            self._cursor += len(taken)
            if self._cursor == len(batch):
                self._waiting.popleft()
                self._cursor = 0
            if len(taken) < len(piece):
                break
        if self.max_line is not None and size > self.max_line:
            lines = [self._small_enough(line, self.max_line, now) for line in lines]
        return lines

    def _fitting(self, lines: list[bytes], size: int) -> list[bytes]:
        """As many of *lines* as fit into a frame that holds *size* bytes already."""
        room = min(self._batch_bytes, self.max_line or self._batch_bytes) - size
        if sum(map(len, lines)) + len(lines) <= room:
            return lines
        sizes = accumulate(len(line) + 1 for line in lines)
        return lines[: sum(1 for _ in takewhile(lambda used: used <= room, sizes))]

    def _small_enough(self, line: bytes, limit: int, now: float) -> bytes:
        """*line*, or the gap that stands for one which the hub would not take."""
        if len(line) <= limit:
            return line
        hole = Holes("oversize")
        hole.add(peek(line), now)
        declared = self._identified(hole.take_all(now))[0].line
        self.dropped += 1
        self.oversize += 1
        self.added += 1
        self._own_gaps.add(declared)
        self._bytes += len(declared) - len(line)
        return declared


def size_of(lines: Sequence[bytes]) -> int:
    """The bytes of memory that *lines* take."""
    return sum(map(len, lines)) + OVERHEAD * len(lines)
