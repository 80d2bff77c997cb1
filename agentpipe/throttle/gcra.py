"""The rate limit itself: the generic cell rate algorithm, one bucket a key.

The rule this module keeps: over any interval *t* a bucket lets ``burst + rate·t`` events pass at most, on a clock
that never steps back. There are no windows, hence no double burst at their edges. A bucket that has rested until it is
full is no different from a new one, which is why forgetting it costs nothing.

Source of the algorithm: ITU-T I.371, Annex A (virtual scheduling).
"""

from collections.abc import Callable
from math import exp
from typing import Any, TypeAlias

import msgspec

from agentpipe.event import JSON, Event, seconds

__all__ = ["MAX_BUCKETS", "Bucket", "Buckets", "Key", "by"]

#: Keys with a bucket of their own: 10,000 buckets take about 4 MB. Beyond it new keys share one.
MAX_BUCKETS = 10_000

#: Unix seconds as a float are exact to 0.24 µs: what is due within this much is due.
_SLACK_S = 1e-6

#: After a sweep of a full table that freed little, the next one waits: a sweep looks at every bucket.
_SWEEP_EVERY_S = 1.0

Key: TypeAlias = Callable[[Event], str | None]


class Bucket:
    """The tokens of one key.

    ``waiting``, ``announced`` and ``users`` belong to whoever queues for tokens: a heap of those who wait, the time at
    which it will be looked at again, and how many held events refer to this bucket.
    """

    __slots__ = (
        "_arrived",
        "_arrived_at",
        "_full_at",
        "_interval",
        "_lead",
        "_tolerance",
        "_zero",
        "announced",
        "users",
        "waiting",
    )

    def __init__(self, rate: float, burst: float, now: float) -> None:
        # given; a rate of 0 is no limit
        self._interval = 1 / rate if rate else 0.0
        self._tolerance = (burst - 1) * self._interval
        # changing; times count from the bucket's start, where floats are exact
        self._zero = now
        self._lead = 0.0
        self._full_at = 0.0
        self._arrived = 0.0
        self._arrived_at = 0.0
        self.waiting: list[tuple[int, Any]] = []
        self.announced: float | None = None
        self.users = 0

    @property
    def due(self) -> float:
        """When the next token is there, in the driver's time."""
        return self._zero - self._lead + self._full_at - self._tolerance

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        at = now - self._zero + self._lead
        if at < self._full_at - self._tolerance - _SLACK_S:
            return False
        self._full_at = max(self._full_at, at) + self._interval
        return True

    def arrivals(self, now: float) -> float:
        """Count one arrival; return how many come in a second, as estimated over about the last one."""
        at = now - self._zero + self._lead
        self._arrived = self._arrived * exp(self._arrived_at - at) + 1
        self._arrived_at = at
        return self._arrived

    def rested(self, now: float) -> bool:
        """Whether it is full and nobody refers to it: equal to a new one."""
        return not self.users and now - self._zero + self._lead >= self._full_at

    def begin(self, at: float, now: float) -> None:
        """Start the bucket's own clock: it shows *at* (Unix seconds) now."""
        self._lead = at - now
        self._zero = at

    def advance(self, at: float, now: float) -> None:
        """Put the bucket's own clock forward to *at* if it is behind; between events it goes on with the driver's."""
        self._lead = max(self._lead, at - now)


class Buckets:
    """The bounded table of buckets; *key* gives an event's key, None for the bucket that is shared.

    With *event_clock* each bucket's time is what its newest event says, and runs on with the driver's from there: a
    replayed log is not one burst, and a live stream is limited as by the wall clock.
    """

    def __init__(self, rate: float, burst: float, key: Key, *, event_clock: bool = False) -> None:
        # given
        self._rate = rate
        self._burst = burst
        self._key = key
        self._event_clock = event_clock
        # changing
        self._table: dict[str | None, Bucket] = {}
        self._sweep_at = 0.0

    def __len__(self) -> int:
        return len(self._table)

    def find(self, event: Event, now: float) -> Bucket:
        """The bucket of *event*, its clock set by the event where that is asked for."""
        key = self._key(event)
        bucket = self._table.get(key)
        if bucket is None:
            bucket = self._made(key, event, now)
        elif self._event_clock:
            bucket.advance(_stamp(event, now), now)
        return bucket

    def _made(self, key: str | None, event: Event, now: float) -> Bucket:
        if len(self._table) >= MAX_BUCKETS and key is not None and not self._freed(now):
            key = None
            if None in self._table:
                return self._table[None]
        bucket = self._table[key] = Bucket(self._rate, self._burst, now)
        if self._event_clock:
            bucket.begin(_stamp(event, now), now)
        return bucket

    def _freed(self, now: float) -> bool:
        """Forget the buckets that have rested; whether there is room now."""
        if now < self._sweep_at:
            return False
        self._table = {key: bucket for key, bucket in self._table.items() if not bucket.rested(now)}
        self._sweep_at = now + _SWEEP_EVERY_S if len(self._table) > MAX_BUCKETS * 0.9 else now
        return len(self._table) < MAX_BUCKETS


class _Stamped(msgspec.Struct):
    timestamp: str | None = None


_STAMP = msgspec.json.Decoder(_Stamped)


def _stamp(event: Event, now: float) -> float:
    """The event's timestamp in Unix seconds; *now* when it has none that can be read."""
    try:
        found = _STAMP.decode(event.line).timestamp
        return seconds(found) if found else now
    except (ValueError, OverflowError):
        return now


def by(field: str | None) -> Key:
    """The key that ``--by`` names: a field of the head, or a dotted path into the event such as ``payload.name``.

    A field that is missing, or is no string, number or boolean, gives None: the shared bucket.
    """
    if field is None:
        return _shared
    if field in ("run_id", "agent_id", "work_id", "type"):
        return lambda event: getattr(event, field) or None
    path = field.split(".")
    return lambda event: _found(event, path)


def _shared(event: Event) -> None:
    """Every event has the same bucket."""


def _found(event: Event, path: list[str]) -> str | None:
    value: JSON = event.envelope
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return str(value) if isinstance(value, str | int | float) else None
