"""Throttling by waiting: what exceeds the rate is held until it is its turn.

The rules this module keeps: an event leaves after everything of its run that came before it; an exempt event costs no
token, takes its place behind held events of its run and jumps none; across runs, tokens are given in order of arrival.
Nothing is lost: beyond ``hold`` the stage demands HOLD, which is back-pressure for whoever writes.
"""

from collections import deque
from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush

from agentpipe.event import Event
from agentpipe.stage import BaseStage, Demand
from agentpipe.throttle.gcra import Bucket, Buckets

__all__ = ["Delay", "Held", "Lane"]

#: Held bytes at which the stage stops asking for more, whatever the number of events: half of what a run may take (T5).
HELD_BYTES = 4 * 1024 * 1024


class Held:
    """An event that waits; ``bucket`` None for one that needs no token, ``parts`` the events read that it stands for
    (0 for a gap of our own making), ``not_before`` when its debounce ends.
    """

    __slots__ = ("_event", "arrival", "bucket", "not_before", "parts", "size_bytes")

    def __init__(self, event: Event, bucket: Bucket | None, arrival: int, *, parts: int = 1) -> None:
        self._event = event
        self.bucket = bucket
        self.arrival = arrival
        self.parts = parts
        self.size_bytes = len(event.line)
        self.not_before = 0.0

    def event(self) -> Event:
        """What is handed on."""
        return self._event


class Lane:
    """The held events of one run, oldest first; ``queued`` while it stands in the heap of its head's bucket."""

    __slots__ = ("items", "queued", "run_id")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.items: deque[Held] = deque()
        self.queued = False


class Delay(BaseStage):
    """Mode ``delay``: types in *exempt* need no token; *hold* is the number of held events that is enough."""

    def __init__(self, buckets: Buckets, exempt: Collection[str], hold: int, *, event_clock: bool = False) -> None:
        super().__init__()
        # given
        self._buckets = buckets
        self._exempt = exempt
        self._hold_at = hold
        self._event_clock = event_clock
        # changing
        self._lanes: dict[str, Lane] = {}
        self._debounced: list[tuple[float, int, Lane]] = []  # heap by end of debounce
        self._due: list[tuple[float, int, Bucket]] = []  # heap by next token; stale entries are passed over
        self._arrivals = 0
        self._held = 0
        self._held_bytes = 0

    @property
    def demand(self) -> Demand:
        """HOLD while enough is held."""
        full = self._held >= self._hold_at or self._held_bytes >= HELD_BYTES
        return Demand.HOLD if full else Demand.MORE

    @property
    def deadline(self) -> float | None:
        """When the next token or the next end of a debounce is due."""
        times = [heap[0][0] for heap in (self._debounced, self._due) if heap]
        return min(times, default=None)

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        """Pass what the rate allows, hold the rest."""
        self.counts.read += len(events)
        out: list[Event] = []
        self._release(now, out)
        passed = self._passed(events, now)
        self.counts.passed += passed
        out += events[:passed]
        for event in events[passed:]:
            self._admit(event, now, out)
        return out

    def _passed(self, events: Sequence[Event], now: float) -> int:
        """How many of *events*, from the first, pass at once as nobody waits and there are tokens: the usual case."""
        if self._lanes:
            return 0
        exempt, find = self._exempt, self._buckets.find
        for index, event in enumerate(events):
            if event.type not in exempt and not find(event, now).take(now):
                return index
        return len(events)

    def wake(self, now: float) -> Sequence[Event]:
        """Hand on what has become due."""
        out: list[Event] = []
        self._release(now, out)
        return out

    def finish(self, now: float) -> Sequence[Event]:
        """Hand on what is held, all at once: only a forced end leaves something here, and losing it is worse."""
        out: list[Event] = []
        waiting = sorted((held.arrival, lane.run_id) for lane in self._lanes.values() for held in lane.items)
        for _, run_id in waiting:
            self._let_go(self._lanes[run_id], now, out)
        self._lanes.clear()
        self._debounced.clear()
        self._due.clear()
        return out

    def _admit(self, event: Event, now: float, out: list[Event]) -> None:
        bucket = None if event.type in self._exempt else self._bucket(event, now, out)
        if event.run_id not in self._lanes and (bucket is None or self._token(bucket, now)):
            self.counts.passed += 1
            out.append(event)
        else:
            self._hold(event.run_id, Held(event, bucket, self._arrival()), now, out)

    def _bucket(self, event: Event, now: float, out: list[Event]) -> Bucket:
        """The bucket of *event*; where its timestamp moves the clock on, those who wait are served first."""
        bucket = self._buckets.find(event, now)
        if self._event_clock and bucket.waiting:
            self._announce(bucket)
            self._release(now, out)
        return bucket

    def _token(self, bucket: Bucket, now: float) -> bool:
        """Take a token unless somebody waits for it already."""
        return not bucket.waiting and bucket.take(now)

    def _arrival(self) -> int:
        self._arrivals += 1
        return self._arrivals

    def _hold(self, run_id: str, held: Held, now: float, out: list[Event]) -> None:
        lane = self._lanes.get(run_id)
        if lane is None:
            lane = self._lanes[run_id] = Lane(run_id)
        lane.items.append(held)
        self._weigh(held.parts, held.size_bytes, 1)
        if held.bucket is not None:
            held.bucket.users += 1
        if len(lane.items) == 1:
            self._advance(lane, now, out)

    def _weigh(self, parts: int, size_bytes: int, items: int) -> None:
        """Count what came to be held, or is held no more with negative figures."""
        self.counts.left += parts
        self._held_bytes += size_bytes
        self._held += items

    def _release(self, now: float, out: list[Event]) -> None:
        """Hand on what is due by *now*."""
        while self._debounced and self._debounced[0][0] <= now:
            _, arrival, lane = heappop(self._debounced)
            if lane.items and lane.items[0].arrival == arrival and not lane.queued:
                self._advance(lane, now, out)
        while self._due and self._due[0][0] <= now:
            due, _, bucket = heappop(self._due)
            if due == bucket.announced:
                bucket.announced = None
                self._serve(bucket, now, out)

    def _serve(self, bucket: Bucket, now: float, out: list[Event]) -> None:
        """Give the tokens of *bucket* to the lanes that wait for them, in order of arrival."""
        while bucket.waiting and bucket.take(now):
            lane: Lane = heappop(bucket.waiting)[1]
            lane.queued = False
            self._let_go(lane, now, out)
            self._advance(lane, now, out)
        if bucket.waiting:
            self._announce(bucket)

    def _announce(self, bucket: Bucket) -> None:
        """Have *bucket* served when its next token is there; an entry with another time is stale from now on."""
        due = bucket.due
        if due != bucket.announced:
            bucket.announced = due
            heappush(self._due, (due, self._arrival(), bucket))

    def _advance(self, lane: Lane, now: float, out: list[Event]) -> None:
        """Let the head of *lane* go if it may, and the next, until one has to wait; that one is queued."""
        while lane.items:
            head = lane.items[0]
            if head.not_before > now:
                heappush(self._debounced, (head.not_before, head.arrival, lane))
                return
            if head.bucket is not None and not self._token(head.bucket, now):
                heappush(head.bucket.waiting, (head.arrival, lane))
                lane.queued = True
                if len(head.bucket.waiting) == 1:
                    self._announce(head.bucket)
                return
            self._let_go(lane, now, out)
        self._lanes.pop(lane.run_id, None)

    def _let_go(self, lane: Lane, now: float, out: list[Event]) -> None:  # noqa: ARG002 - coalescing needs the time
        held = lane.items.popleft()
        self._forget(held)
        if held.parts:
            self.counts.passed += 1
            self.counts.merged += held.parts - 1
        else:
            self.counts.added += 1
        out.append(held.event())

    def _forget(self, held: Held) -> None:
        self._weigh(-held.parts, -held.size_bytes, -1)
        if held.bucket is not None:
            held.bucket.users -= 1

    def _unqueue(self, lane: Lane) -> None:
        """Take *lane* out of the heap of its head's bucket."""
        bucket = lane.items[0].bucket
        if lane.queued and bucket is not None:
            bucket.waiting.remove((lane.items[0].arrival, lane))
            heapify(bucket.waiting)
            lane.queued = False
