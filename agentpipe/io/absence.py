"""What people are told of hubs that go away and come back.

The rule this module keeps: once when a hub goes and once when it, or another of its log, is there; and of hubs that
only come to go again nothing more after the first few times, because a log of days is read by somebody.
"""

from collections.abc import Callable

from agentpipe.backoff import STABLE_S
from agentpipe.errors import HubUnreachable
from agentpipe.io.address import Address
from agentpipe.io.clock import Clock
from agentpipe.io.connect import LeftOut

__all__ = ["Absence"]

#: Connections in a row that did not hold and that people hear of: enough to see that it is no accident.
TOLD = 5


class Absence:
    """Told when hubs are `gone`, `left_out` and `back`; *warn* takes a line of text for people, *meanwhile* says what
    happens until then.
    """

    def __init__(self, warn: Callable[[str], None], clock: Clock, meanwhile: str) -> None:
        # given
        self._warn = warn
        self._clock = clock
        self._meanwhile = meanwhile
        # changing
        self._since: float | None = None
        self._hubs: set[str] = set()  # that people were told of since
        self._back_at: float | None = None
        self._short = 0  # connections in a row that did not hold

    def gone(self, error: HubUnreachable) -> None:
        """A connection was lost, or none was made."""
        self._away()
        if error.url in self._hubs:
            return
        self._hubs.add(error.url)
        if self._short <= TOLD:
            meanwhile = self._meanwhile if self._short < TOLD else "it comes and goes, told no more until it stays"
            self._warn(f"{error.url}: {error.problem}; {meanwhile}")

    def left_out(self, hub: LeftOut) -> None:
        """A hub refused us for good, and another is asked."""
        self._away()
        self._warn(str(hub))

    def back(self, address: Address, more: str = "") -> None:
        """There is a hub; *more* goes behind the line that says so."""
        at = self._clock()
        if self._since is not None and self._short < TOLD:
            how = "back" if str(address) in self._hubs else "there"
            self._warn(f"{address}: {how} after {at - self._since:.1f} s{more}")
        self._since = None
        self._back_at = at
        self._hubs.clear()

    def _away(self) -> None:
        """From now on there is no hub, if there was one."""
        if self._since is not None:
            return
        self._since = self._clock()
        if self._back_at is not None:
            self._short = self._short + 1 if self._since - self._back_at < STABLE_S else 0
