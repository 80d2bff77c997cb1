"""``subscribe``: the events of a hub to a descriptor, over as many connections as it takes.

The rules this module keeps: what was published is printed, the same bytes, at once, in one write for what one read
brought; while the reader of the output is behind nothing is read from the hub either, whose log keeps our place; a
lost connection is replaced for ever once there was one.
"""

import select
from collections.abc import Callable, Mapping

from agentpipe.errors import HubUnreachable, PeerError, ReaderGone
from agentpipe.event import JSON
from agentpipe.following import Following
from agentpipe.io.address import Address
from agentpipe.io.clock import Clock, now
from agentpipe.io.connect import Connector, LeftOut
from agentpipe.io.link import Link
from agentpipe.io.signals import SignalWatch
from agentpipe.io.streams import Outlet

__all__ = ["Subscriber"]

_GONE = select.POLLERR | select.POLLNVAL


class Subscriber:
    """Prints what *following* takes from the hub at *address*: construct, `run` once.

    The hub must be reached within *connect_timeout* seconds at the start. *warn* takes a line of text for people.
    """

    def __init__(
        self,
        address: Address,
        following: Following,
        *,
        connect_timeout: float,
        warn: Callable[[str], None],
        fd_out: int = 1,
        clock: Clock = now,
    ) -> None:
        # given
        self._address = address
        self._following = following
        self._warn = warn
        self._clock = clock
        self._outlet = Outlet(fd_out)
        self._connector = Connector([address], clock)
        # changing
        self._signals = SignalWatch()
        self._link: Link | None = None
        self._give_up_at: float | None = clock() + connect_timeout
        self._problem = "no answer"
        self._away_since: float | None = None
        self._signal: int | None = None
        self._reached = 0
        self._unread = False  # we stopped reading early; TLS may hold what poll will not tell of

    def run(self) -> int | None:
        """Print until the end (the head of the log, when it does not follow) or a signal, whose number is returned.

        Raises HubUnreachable when the hub was not reached in time, AuthError or ProtocolError when it refuses us,
        ReaderGone when the reader of the output has closed.
        """
        self._connector.start()
        try:
            with self._signals:
                while self._signal is None and not (self._following.done and not self._outlet.pending):
                    self._step()
        finally:
            self._connector.stop()
            if self._link is not None:
                self._link.close(0.5 if self._following.done else 0.0)
        return self._signal

    def report(self) -> Mapping[str, JSON]:
        """The counts as ``--stats`` prints them."""
        reconnects = max(self._reached - 1, 0)
        return {**self._following.report(), "reconnects": reconnects, "bytes_out": self._outlet.bytes_written}

    def _step(self) -> None:
        ready = dict(self._poll().poll(self._timeout_ms()))
        if self._signals.fileno() in ready:
            self._obey()
        self._serve_outlet(ready.get(self._outlet.fileno(), 0))
        if self._connector.fileno() in ready:
            self._take_outcomes()
        if self._link is not None:
            self._guarded(readable=(self._unread or self._link.fileno() in ready) and not self._outlet.pending)
        if self._give_up_at is not None and self._clock() >= self._give_up_at:
            raise HubUnreachable(str(self._address), self._problem)

    def _poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        poll.register(self._connector.fileno(), select.POLLIN)
        poll.register(self._outlet.fileno(), select.POLLOUT if self._outlet.pending else 0)
        if self._link is not None and not self._outlet.pending:
            poll.register(self._link.fileno(), self._link.wanted)
        return poll

    def _timeout_ms(self) -> float | None:
        limits = [self._give_up_at]
        if self._link is not None and not self._outlet.pending:
            if self._unread:
                return 0.0
            limits.append(self._link.deadline)
        due = [limit for limit in limits if limit is not None]
        return max(0.0, (min(due) - self._clock()) * 1000) if due else None

    def _obey(self) -> None:
        """Any signal ends it: there is no input to drain."""
        self._signals.drain()
        if self._signals.ended_by is not None:
            self._signal = int(self._signals.ended_by)
        elif self._signals.interrupts:
            self._signal = 2

    def _serve_outlet(self, flags: int) -> None:
        if flags & _GONE:
            raise ReaderGone
        if flags & select.POLLOUT:
            self._outlet.flush()

    def _take_outcomes(self) -> None:
        for outcome in self._connector.outcomes():
            if isinstance(outcome, Link):
                self._link = outcome
            elif isinstance(outcome, HubUnreachable):
                self._gone(outcome)
            elif isinstance(outcome, LeftOut):
                self._warn(f"{outcome.address}: {outcome.error}; it is not asked again")
            else:
                raise outcome

    def _guarded(self, *, readable: bool) -> None:
        """Use the connection; when it ends, print what it still brought and get the next one."""
        link = self._link
        assert link is not None
        try:
            link.flush()
            if readable:
                self._read(link)
            if not self._outlet.pending:  # we did not listen while the reader was behind, so silence proves nothing
                link.check(self._clock())
        except HubUnreachable as error:
            link.drop()
            self._link = None
            self._gone(error)
            self._connector.start(link)
        except PeerError:
            link.drop()
            self._link = None
            raise

    def _read(self, link: Link) -> None:
        """Take what is there until the reader is behind, and hand it on in one write for each turn."""
        while not self._outlet.pending and not self._following.done and (messages := link.receive()):
            blocks = []
            for message in messages:
                if message.type == "welcome":
                    self._welcomed()
                blocks.append(self._following.hear(message))
            self._outlet.write(b"".join(blocks))
            for note in self._following.notes:
                self._warn(f"{self._address}: {note}")
            self._following.notes.clear()
            if self._following.requests:
                link.send(*self._following.requests)
                self._following.requests.clear()
        self._unread = self._outlet.pending > 0

    def _welcomed(self) -> None:
        self._reached += 1
        self._give_up_at = None
        if self._away_since is not None:
            self._warn(f"{self._address}: back after {self._clock() - self._away_since:.1f} s")
            self._away_since = None

    def _gone(self, error: HubUnreachable) -> None:
        self._problem = error.problem
        if self._away_since is None:
            self._away_since = self._clock()
            self._warn(f"{self._address}: {error.problem}; trying again")
