"""Which numbers of a run have not come and are declared by nobody.

The rule this module keeps: the numbers of a run that were seen, those that ``covers`` and ``gap`` events declare, and
those that are noted here, have no hole; what is noted here leaves only by being declared, once.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agentpipe.event import JSON, Event, gap, timestamp
from agentpipe.holes import Span, tidied

__all__ = ["DECLARE_AFTER_S", "Account", "Missing", "declared_by", "without"]

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

    __slots__ = ("_agent_id", "_ahead", "_ranges", "_since", "_work_id")

    def __init__(self, account: Account | None = None) -> None:
        # changing
        self._since = account.since if account is not None else 0.0
        self._agent_id = account.agent_id if account is not None else ""
        self._work_id = account.work_id if account is not None else None
        self._ranges = list(account.missing) if account is not None else []
        self._ahead = list(account.ahead) if account is not None else []

    def __bool__(self) -> bool:
        return bool(self._ranges or self._ahead)

    @property
    def account(self) -> Account:
        """The state, to be kept."""
        return Account(self._since, self._agent_id, self._work_id, tuple(self._ranges), tuple(self._ahead))

    def due(self, now: float) -> bool:
        """Whether what is missing is to be declared now: it waited long enough, or has become long."""
        return bool(self._ranges) and (now - self._since >= DECLARE_AFTER_S or len(self._ranges) >= CROWDED)

    def skip(self, first: int, last: int, event: Event, covered: Sequence[Span], now: float) -> None:
        """The numbers from *first* to *last* did not come before *event*, which covers some of them itself."""
        new = without([(first, last)], [*covered, *self._ahead])
        self._ahead = [span for span in self._ahead if span[1] > last]
        if new:
            if not self._ranges:
                self._since = now
            self._ranges += new
            self._agent_id, self._work_id = event.agent_id, event.work_id

    def declare(self, spans: Sequence[Span], last: int) -> None:
        """A ``gap`` declares *spans*; the run's last number is *last*."""
        if self._ranges:
            self._ranges = without(self._ranges, spans)
        ahead = [span for span in spans if span[1] > last]
        if ahead:
            self._ahead = tidied([*self._ahead, *ahead])[-CROWDED:]

    def take(self, run_id: str, now: float) -> Event | None:
        """The gap that declares what is missing; None when nothing is."""
        if not self._ranges:
            return None
        ranges, self._ranges = tidied(self._ranges), []
        at = timestamp(now)
        return gap(ranges, "source", run_id=run_id, agent_id=self._agent_id, at=at, work_id=self._work_id)


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


def without(spans: Iterable[Span], others: Sequence[Span]) -> list[Span]:
    """*spans* less *others*."""
    left = list(spans)
    for first, last in others:
        left = [piece for span in left for piece in _cut(span, first, last)]
    return left


def _cut(span: Span, first: int, last: int) -> list[Span]:
    if last < span[0] or first > span[1]:
        return [span]
    pieces = [(span[0], first - 1), (last + 1, span[1])]
    return [piece for piece in pieces if piece[0] <= piece[1]]
