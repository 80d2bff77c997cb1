"""What a stage dropped and has yet to declare.

The rule this module keeps: every number that is added comes out again in exactly one ``gap``, never before an event of
the run that is older than it.
"""

import dataclasses
from collections.abc import Sequence

from agentpipe.event import EXEMPT_TYPES, Event, gap, timestamp

__all__ = ["ALWAYS_EXEMPT", "DECLARE_WITHIN_S", "Holes", "Span", "numbers", "tidied"]

#: Never in a hole. Requirement T3: errors and lifecycle; and a tool's result, without which its call seems to run on.
ALWAYS_EXEMPT = EXEMPT_TYPES | {"agent_tool_result"}

#: DESIGN "Holes": a gap may be sent up to a second after the first event it declares.
DECLARE_WITHIN_S = 1.0

#: Ranges in one gap: about 8 KB of JSON, far under the 64 KB of a message.
CROWDED = 500

Span = tuple[int, int]

#: Stands for "no number"; below every number and next to none.
_UNNUMBERED = -(1 << 70)


@dataclasses.dataclass(slots=True)
class _Range:
    """Neighbouring numbers that were dropped, and how many of each type; those without number are a range apart."""

    first: int
    last: int
    types: dict[str, int]

    @property
    def count(self) -> int:
        return sum(self.types.values())


@dataclasses.dataclass(slots=True)
class _Hole:
    """What is missing of one run since *since*."""

    since: float
    agent_id: str
    work_id: str | None
    ranges: list[_Range] = dataclasses.field(default_factory=list)


class Holes:
    """Collects dropped events by run and declares them with *reason* (``throttle`` or ``buffer``).

    Truthy while something is undeclared.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self._runs: dict[str, _Hole] = {}  # in the order of their first drop

    def __bool__(self) -> bool:
        return bool(self._runs)

    @property
    def due(self) -> float | None:
        """When the oldest hole must be declared; None when there is none."""
        for hole in self._runs.values():
            return hole.since + DECLARE_WITHIN_S
        return None

    def add(self, event: Event, now: float) -> bool:
        """Note that *event* was dropped. True when its run should be declared now, lest its gap become long."""
        hole = self._runs.get(event.run_id)
        if hole is None:
            hole = self._runs[event.run_id] = _Hole(now, event.agent_id, event.work_id)
        spans = numbers(event)
        for first, last in spans:
            _widen(hole.ranges, first, last, event.type, last - first + 1)
        if not spans:
            _widen(hole.ranges, _UNNUMBERED, _UNNUMBERED, event.type, 1)
        return len(hole.ranges) >= CROWDED

    def take(self, run_id: str, now: float, *, below: int | None = None) -> list[Event]:
        """The gap of a run, if it has one: all of it, or what is missing before the number *below*."""
        hole = self._runs.get(run_id)
        if hole is None:
            return []
        ready = hole.ranges if below is None else [r for r in hole.ranges if r.last < below]
        if not ready:
            return []
        if len(ready) == len(hole.ranges):
            del self._runs[run_id]
        else:
            hole.ranges = [r for r in hole.ranges if below is not None and r.last >= below]
        return [self._declared(run_id, hole, ready, now)]

    def take_due(self, now: float) -> list[Event]:
        """The gaps of the runs whose time has come."""
        late = [run for run, hole in self._runs.items() if hole.since + DECLARE_WITHIN_S <= now]
        return [event for run in late for event in self.take(run, now)]

    def take_all(self, now: float) -> list[Event]:
        """Every gap that is left."""
        return [event for run in list(self._runs) for event in self.take(run, now)]

    def _declared(self, run_id: str, hole: _Hole, ranges: Sequence[_Range], now: float) -> Event:
        types: dict[str, int] = {}
        for found in ranges:
            for name, count in found.types.items():
                types[name] = types.get(name, 0) + count
        return gap(
            tidied([(r.first, r.last) for r in ranges if r.first != _UNNUMBERED]),
            self._reason,
            run_id=run_id,
            agent_id=hole.agent_id,
            work_id=hole.work_id,
            at=timestamp(now),
            count=sum(r.count for r in ranges),
            types=types,
        )


def _widen(ranges: list[_Range], first: int, last: int, kind: str, count: int) -> None:
    """Add a span to its left neighbour when that is the newest range, else as a range of its own."""
    newest = ranges[-1] if ranges else None
    if newest is not None and (newest.last + 1 == first or newest.last == first == _UNNUMBERED):
        newest.last = last
        newest.types[kind] = newest.types.get(kind, 0) + count
        return
    ranges.append(_Range(first, last, {kind: count}))


def numbers(event: Event) -> list[Span]:
    """The sequence numbers that *event* stands for: what it covers and its own, ascending; empty when unnumbered."""
    own = [(event.sequence, event.sequence)] if event.sequence is not None else []
    if b'"covers"' not in event.line:
        return own
    covers = event.envelope.get("covers")
    return tidied([*_spans(covers), *own])


def _spans(covers: object) -> list[Span]:
    """The pairs of a ``covers`` value; what is no pair of integers says nothing and is passed over."""
    pairs = covers if isinstance(covers, list) else []
    return [(p[0], p[1]) for p in pairs if isinstance(p, list) and len(p) == 2 and all(type(n) is int for n in p)]


def tidied(spans: Sequence[Span]) -> list[Span]:
    """Spans in ascending order, neighbours and overlaps joined."""
    joined: list[Span] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined
