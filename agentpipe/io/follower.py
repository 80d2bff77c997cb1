"""Reading a hub's log over as many connections as it takes: what ``subscribe`` and `Subscription` stand on.

The rules this module keeps: while its owner does not listen nothing is read from the hub, whose log keeps our place; a
lost connection is replaced for ever once there was one, by one to the next hub if there are several; what came before
an end is handed on before the end is told. What is taken is decided in `agentpipe.following`.
"""

import random
import select
from collections.abc import Callable, Iterator, Sequence

from agentpipe.errors import HubUnreachable, PeerError
from agentpipe.event import JSON
from agentpipe.following import Following, Found
from agentpipe.history import Filter
from agentpipe.io.absence import Absence
from agentpipe.io.address import Address
from agentpipe.io.clock import Clock, now
from agentpipe.io.connect import Connector, LeftOut
from agentpipe.io.link import Link

__all__ = ["Follower", "following"]


def following(start: JSON, wanted: Filter, *, endless: bool, accumulate: bool = False) -> Following:
    """A `Following` with true chance."""
    return Following(start, wanted, endless=endless, accumulate=accumulate, chance=random.random)


class Follower:
    """Reads for *following* from the hub at one of *addresses*, which lead to the same log.

    Its owner polls `interests` until ``deadline`` and hands what is ready to `attend`, which returns what came and
    raises when reading is over: HubUnreachable when no hub was reached within *connect_timeout* seconds at the start
    (None: there is no such limit), AuthError or ProtocolError when every hub refused us. *warn* takes a line of text
    for people. ``where`` names the hub of the moment.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        following: Following,
        *,
        connect_timeout: float | None,
        warn: Callable[[str], None],
        clock: Clock = now,
    ) -> None:
        # given
        self._following = following
        self._warn = warn
        self._clock = clock
        self._connector = Connector(addresses, clock)
        # changing
        self._link: Link | None = None
        self._listening = True
        self._give_up_at = clock() + connect_timeout if connect_timeout is not None else None
        self._end: PeerError | None = None
        self._unread = False  # the last read brought something: TLS may hold more, or the end is to be told yet
        self._problem = "no answer"
        self._absence = Absence(warn, clock, "trying again")
        self._reached = 0
        self.where = ", ".join(map(str, addresses))
        self._connector.start()

    @property
    def deadline(self) -> float | None:
        """When `attend` is to be called though nothing is ready."""
        limits = [self._give_up_at]
        if self._end is not None and self._listening:
            limits.append(0.0)
        if self._link is not None and self._listening:
            limits += [self._link.deadline, self._following.deadline, 0.0 if self._unread else None]
        return min((limit for limit in limits if limit is not None), default=None)

    def listen(self, *, listening: bool) -> None:
        """Whether to read from now on; silence proves nothing while we do not, and an end is told when we do."""
        self._listening = listening

    def interests(self) -> Iterator[tuple[int, int]]:
        """The descriptors to poll, each with what to poll for."""
        yield self._connector.fileno(), select.POLLIN
        if self._link is not None and self._listening and self._link.fileno() >= 0:  # else it ended: see `_unread`
            yield self._link.fileno(), self._link.wanted

    def attend(self, ready: dict[int, int]) -> list[Found]:
        """Do what the ready descriptors and the time allow; what came, in order."""
        if self._end is not None and self._listening:
            raise self._end
        if self._connector.fileno() in ready:
            self._take_outcomes()
        found: list[Found] = []
        if self._link is not None and self._listening:
            self._guarded(self._link, found, readable=self._unread or self._link.fileno() in ready)
        if self._give_up_at is not None and self._clock() >= self._give_up_at:
            self._end = self._end or HubUnreachable(self.where, self._problem)
        return found

    def close(self, budget_s: float) -> None:
        """End, with a goodbye of at most *budget_s* seconds."""
        self._connector.close()
        if self._link is not None:
            self._link.close(budget_s)
            self._link = None

    def report(self) -> dict[str, JSON]:
        """The counts as ``--stats`` prints them."""
        return {**self._following.report(), "reconnects": max(self._reached - 1, 0)}

    def _take_outcomes(self) -> None:
        for outcome in self._connector.outcomes():
            if isinstance(outcome, Link):
                self._link = outcome
                self._following.url = self.where = str(outcome.address)
            elif isinstance(outcome, HubUnreachable):
                self._gone(outcome)
            elif isinstance(outcome, LeftOut):
                self._left_out(outcome)
            else:
                self._end = outcome

    def _guarded(self, link: Link, found: list[Found], *, readable: bool) -> None:
        """Use the connection; when it ends, get the next one."""
        try:
            link.flush()
            if readable:
                self._read(link, found)
            self._following.wake(self._clock())
            self._ask(link)
            link.check(self._clock())
        except PeerError as error:
            link.drop()
            self._following.lost()
            self._link = None
            self._unread = False
            if isinstance(error, HubUnreachable):
                self._gone(error)
                self._connector.start(link)
            elif self._connector.leave_out(link):
                self._left_out(LeftOut(link.address, error))
                self._connector.start(link)
            else:
                self._end = error

    def _read(self, link: Link, found: list[Found]) -> None:
        messages = link.receive()
        self._unread = bool(messages)
        at = self._clock()
        for message in messages:
            if message.type == "welcome":
                self._welcomed(link)
            found += self._following.hear(message, at)

    def _ask(self, link: Link) -> None:
        for note in self._following.notes:
            self._warn(f"{link.address}: {note}")
        self._following.notes.clear()
        if self._following.requests:
            link.send(*self._following.requests)
            self._following.requests.clear()

    def _welcomed(self, link: Link) -> None:
        self._reached += 1
        self._give_up_at = None
        self._absence.back(link.address)

    def _gone(self, error: HubUnreachable) -> None:
        self._problem = error.problem
        self._absence.gone(error)

    def _left_out(self, hub: LeftOut) -> None:
        self._problem = str(hub.error)
        self._absence.left_out(hub)
