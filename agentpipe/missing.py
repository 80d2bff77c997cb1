"""Which numbers of a run have not come and are declared by nobody.

The rule this module keeps: the numbers of a run that were seen, those that ``covers`` and ``gap`` events declare, and
those that are noted here, have no hole; what is noted here leaves only by being declared, once.
"""

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from agentpipe.event import JSON, Event, gap, timestamp
from agentpipe.holes import Span, tidied

__all__ = ["DECLARE_AFTER_S", "Account", "Missing", "Watch", "declared_by", "without"]

#: How long a hole may wait for the publisher's own declaration: a stage sends it within a second, and the way here
#: may take some more.
DECLARE_AFTER_S = 5.0

#: Ranges that one run may have open, and declarations that it may have ahead of the numbers they are about: a gap of
#: so many is about 8 KB.
CROWDED = 500


class Account(NamedTuple):
    """What is open of one run, as it is kept with the log: the ``missing`` ranges, noted first at ``since`` (Unix
    seconds), and the ``ahead`` ones: declared already, though no number behind them has come yet.
    """

    since: float
    agent_id: str
    work_id: str | None
    missing: tuple[Span, ...]
    ahead: tuple[Span, ...]


class Missing:
    """The open numbers of one run."""

    __slots__ = ("_agent_id", "_ahead", "_ranges", "_sinces", "_work_id")

    def __init__(self, account: Account | None = None) -> None:
        # changing
        self._agent_id = account.agent_id if account is not None else ""
        self._work_id = account.work_id if account is not None else None
        self._ahead = list(account.ahead) if account is not None else []
        self._ranges = list(account.missing) if account is not None else []  # ascending
        self._sinces = [account.since for _ in self._ranges if account is not None]  # of each of them; ascending too

    def __bool__(self) -> bool:
        return bool(self._ranges or self._ahead)

    @property
    def account(self) -> Account:
        """The state, to be kept."""
        return Account(self.since or 0.0, self._agent_id, self._work_id, tuple(self._ranges), tuple(self._ahead))

    @property
    def since(self) -> float | None:
        """When the oldest of what is missing was skipped; None when nothing is missing."""
        return self._sinces[0] if self._sinces else None

    @property
    def crowded(self) -> bool:
        """Whether so much is missing that it is to be declared at once."""
        return len(self._ranges) >= CROWDED

    def skip(self, first: int, last: int, event: Event, now: float) -> None:
        """The numbers from *first* to *last* did not come before *event*."""
        new = without([(first, last)], self._ahead)
        if new:
            self._ranges += new
            self._sinces += [now] * len(new)
            self._agent_id, self._work_id = event.agent_id, event.work_id

    def declare(self, spans: Sequence[Span], last: int) -> None:
        """An event declares *spans* (ascending), or stands for them; the run's last number is *last*."""
        if self._ranges and spans and spans[0][0] <= self._ranges[-1][1]:
            left = without(self._ranges, spans)
            if left != self._ranges:
                self._sinces = _inherited(left, self._ranges, self._sinces)
                self._ranges = left
        ahead = [span for span in spans if span[1] > last]
        if ahead:
            self._ahead = tidied([*self._ahead, *ahead])[-CROWDED:]

    def reach(self, last: int) -> None:
        """The run's last number is now *last*: what was declared ahead of it is not ahead any more."""
        if self._ahead:
            self._ahead = [span for span in self._ahead if span[1] > last]

    def take(self, run_id: str, now: float, *, since: float | None = None) -> Event | None:
        """The gap that declares what is missing, all of it or what was skipped at *since* or before; None when nothing
        is.
        """
        count = len(self._ranges) if since is None else bisect_right(self._sinces, since)
        if not count:
            return None
        ranges = tidied(self._ranges[:count])
        del self._ranges[:count], self._sinces[:count]
        at = timestamp(now)
        return gap(ranges, "source", run_id=run_id, agent_id=self._agent_id, at=at, work_id=self._work_id)


class Watch:
    """Whose turn it is to be declared, without a look at everybody else."""

    def __init__(self) -> None:
        # changing
        self._turns: list[tuple[float, str]] = []  # a heap
        self._watched: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, run_id: str, since: float) -> None:
        """Numbers of a run are missing since *since*. Who is watched already is met earlier, and added anew then."""
        if run_id not in self._watched:
            self._watched.add(run_id)
            heapq.heappush(self._turns, (since, run_id))

    def late(self, before: float, limit: int) -> list[str]:
        """Take out those, at most *limit*, of whom numbers are missing since *before* or longer."""
        found: list[str] = []
        while self._turns and self._turns[0][0] <= before and len(found) < limit:
            found.append(heapq.heappop(self._turns)[1])
        self._watched.difference_update(found)
        return found


def declared_by(event: Event) -> list[Span]:
    """The ranges that a ``gap`` event declares, and its own number, which it may have for itself; what is no pair of
    integers says nothing.
    """
    own = [(event.sequence, event.sequence)] if event.sequence is not None else []
    try:
        ranges: JSON = event.payload.get("ranges")
    except ValueError:
        return own  # no JSON that can be decoded: it declares nothing else
    pairs = ranges if isinstance(ranges, list) else []
    found = [p for p in pairs if isinstance(p, list) and len(p) == 2 and all(type(n) is int for n in p)]
    return tidied([*own, *[(p[0], p[1]) for p in found if p[0] <= p[1]]])


def _inherited(pieces: Sequence[Span], ranges: Sequence[Span], sinces: Sequence[float]) -> list[float]:
    """Since when each of *pieces*, which are parts of *ranges*, is missing; all of it ascending."""
    found: list[float] = []
    place = 0
    for first, _ in pieces:
        while ranges[place][1] < first:
            place += 1
        found.append(sinces[place])
    return found


def without(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """*spans* less *others*, in one pass over both: a hostile gap may have thousands of ranges."""
    left: list[Span] = []
    cuts = tidied([span for span in others if span[0] <= span[1]])
    place = 0
    for first, last in sorted(spans):
        start = first
        while place < len(cuts) and cuts[place][1] < start:
            place += 1
        following = place
        while following < len(cuts) and cuts[following][0] <= last and start <= last:
            if cuts[following][0] > start:
                left.append((start, cuts[following][0] - 1))
            start = cuts[following][1] + 1
            following += 1
        if start <= last:
            left.append((start, last))
    return left
