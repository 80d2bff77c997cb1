"""``subscribe``: the events of a hub to a descriptor, until the end or a signal.

The rules this module keeps: what was published is printed, the same bytes, at once, in one write for what one read
brought; while the reader of the output is behind nothing is read from the hub either; a hole that the hub declares is
said. Connections, and what is taken from them, are `agentpipe.io.follower`'s.
"""

import select
from collections.abc import Callable, Mapping, Sequence

from agentpipe.errors import ReaderGone
from agentpipe.event import JSON
from agentpipe.following import Batch, Following, Found
from agentpipe.io.address import Address
from agentpipe.io.clock import Clock, now
from agentpipe.io.follower import Follower
from agentpipe.io.signals import SignalWatch
from agentpipe.io.streams import Outlet
from agentpipe.ndjson import join

__all__ = ["Subscriber"]

_GONE = select.POLLERR | select.POLLNVAL


class Subscriber:
    """Prints what *following* takes from the hub at one of *addresses*: construct, `run` once.

    A hub must be reached within *connect_timeout* seconds at the start. *warn* takes a line of text for people.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        following: Following,
        *,
        connect_timeout: float,
        warn: Callable[[str], None],
        fd_out: int = 1,
        clock: Clock = now,
    ) -> None:
        # given
        self._following = following
        self._warn = warn
        self._clock = clock
        self._outlet = Outlet(fd_out)
        self._follower = Follower(addresses, following, connect_timeout=connect_timeout, warn=warn, clock=clock)
        # changing
        self._signals = SignalWatch()
        self._signal: int | None = None

    def run(self) -> int | None:
        """Print until the end (the head of the log, when it does not follow) or a signal, whose number is returned.

        Raises HubUnreachable when no hub was reached in time, AuthError or ProtocolError when they refuse us,
        ReaderGone when the reader of the output has closed.
        """
        try:
            with self._signals:
                while self._signal is None and not (self._following.done and not self._outlet.pending):
                    self._step()
        finally:
            self._follower.close(0.5 if self._following.done else 0.0)
        return self._signal

    def report(self) -> Mapping[str, JSON]:
        """The counts as ``--stats`` prints them."""
        return {**self._follower.report(), "bytes_out": self._outlet.bytes_written}

    def _step(self) -> None:
        self._follower.listen(listening=not self._outlet.pending and not self._following.done)
        ready = dict(self._poll().poll(self._timeout_ms()))
        if self._signals.fileno() in ready:
            self._obey()
        self._serve_outlet(ready.get(self._outlet.fileno(), 0))
        self._print(self._follower.attend(ready))

    def _poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        poll.register(self._outlet.fileno(), select.POLLOUT if self._outlet.pending else 0)
        for fd, events in self._follower.interests():
            poll.register(fd, events)
        return poll

    def _timeout_ms(self) -> float | None:
        due = self._follower.deadline
        return max(0.0, (due - self._clock()) * 1000) if due is not None else None

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

    def _print(self, found: Sequence[Found]) -> None:
        """What one read brought in one write; then what did not come."""
        lines = [line for item in found if isinstance(item, Batch) for line in item.lines]
        if lines:
            self._outlet.write(join(lines))
        for item in found:
            if not isinstance(item, Batch):
                self._warn(f"{self._follower.where}: {item}")
