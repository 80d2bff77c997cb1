"""Throttling by joining: chunks of one text that would have to wait become one event.

The rules this module keeps, on top of those of `delay`: a chunk is joined only to its neighbour; a text's
first chunk goes at once and the next ones wait for company for at most the debounce; whatever else exceeds the rate
waits. A waiting chunk is dropped, and declared in its place, in two cases only: the final text that replaces it has
come, or an exempt event would have to wait for nothing but it.
"""

from collections.abc import Collection, Sequence

from agentpipe.event import TERMINAL_TYPES, Event
from agentpipe.holes import Holes
from agentpipe.merge import MERGED_BYTES, Chunk, merged
from agentpipe.throttle.delay import Delay, Held, Lane
from agentpipe.throttle.gcra import Bucket, Buckets

__all__ = ["Coalesce"]

#: Runs whose last chunk is remembered for the debounce before those that are over are forgotten.
_REMEMBERED = 1000


class _Block(Held):
    """Chunks that follow each other, to be handed on as one."""

    __slots__ = ("chunks",)

    def __init__(self, chunk: Chunk, bucket: Bucket | None, arrival: int) -> None:
        super().__init__(chunk.event, bucket, arrival)
        self.chunks = [chunk]

    def takes(self, chunk: Chunk) -> bool:
        return self.chunks[-1].precedes(chunk) and self.size_bytes + len(chunk.event.line) <= MERGED_BYTES

    def add(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.parts += 1
        self.size_bytes += len(chunk.event.line)

    def event(self) -> Event:
        return merged(self.chunks)


class Coalesce(Delay):
    """Mode ``coalesce``: *debounce* is in seconds."""

    def __init__(
        self, buckets: Buckets, exempt: Collection[str], hold: int, debounce: float, *, event_clock: bool = False
    ) -> None:
        super().__init__(buckets, exempt, hold, event_clock=event_clock)
        self._debounce = debounce
        # changing: per run the text that was last handed on and until when its chunks wait
        self._quiet: dict[str, tuple[tuple[object, ...], float]] = {}

    def _passed(self, events: Sequence[Event], now: float) -> int:  # noqa: ARG002 - chunks are looked at one by one
        return 0

    def _admit(self, event: Event, now: float, out: list[Event]) -> None:
        chunk = None if event.type in self._exempt else Chunk.read(event)
        bucket = self._bucket(event, now, out) if chunk is not None else None
        lane = self._lanes.get(event.run_id)
        tail = lane.items[-1] if lane is not None else None
        if lane is not None and isinstance(tail, _Block):
            if chunk is not None and tail.takes(chunk):
                tail.add(chunk)
                self._weigh(1, len(event.line), 0)
                return
            self._close(lane, tail, event, now, out)
        if chunk is None or bucket is None:
            super()._admit(event, now, out)
        else:
            self._admit_chunk(chunk, bucket, now, out)

    def _admit_chunk(self, chunk: Chunk, bucket: Bucket, now: float, out: list[Event]) -> None:
        event = chunk.event
        key, until = self._quiet.get(event.run_id, ((), 0.0))
        waits = event.run_id in self._lanes or (until > now and key == chunk.key)
        if not waits and self._token(bucket, now):
            self.counts.passed += 1
            out.append(event)
            self._remember(chunk, now)
            return
        block = _Block(chunk, bucket, self._arrival())
        if key == chunk.key:
            block.not_before = until
        self._hold(event.run_id, block, now, out)

    def _close(self, lane: Lane, tail: _Block, event: Event, now: float, out: list[Event]) -> None:
        """*event* is the next of the run: *tail* waits for no more parts, and may be of no more use."""
        tail.not_before = 0.0
        if lane.items[0] is tail and not lane.queued:
            self._advance(lane, now, out)
        if not lane.items:
            return
        hurried = event.type in self._exempt and event.type not in TERMINAL_TYPES and len(lane.items) == 1
        if hurried or tail.chunks[-1].replaced_by(event):
            self._drop(lane, tail, now, out)

    def _drop(self, lane: Lane, tail: _Block, now: float, out: list[Event]) -> None:
        """Put a gap where *tail* is, the last of its lane."""
        if lane.items[0] is tail:
            self._unqueue(lane)
        lane.items.pop()
        self._forget(tail)
        self.counts.drop("throttle", tail.parts)
        holes = Holes("throttle")
        for chunk in tail.chunks:
            holes.add(chunk.event, now)
        for gap in holes.take_all(now):
            self._hold(lane.run_id, Held(gap, None, tail.arrival, parts=0), now, out)

    def _let_go(self, lane: Lane, now: float, out: list[Event]) -> None:
        held = lane.items[0]
        super()._let_go(lane, now, out)
        if isinstance(held, _Block):
            self._remember(held.chunks[-1], now)

    def _remember(self, chunk: Chunk, now: float) -> None:
        if len(self._quiet) >= _REMEMBERED:
            self._quiet = {run: quiet for run, quiet in self._quiet.items() if quiet[1] > now}
        self._quiet[chunk.event.run_id] = (chunk.key, now + self._debounce)
