"""Bringing events to a hub: the window, the connection of the moment, and the next one when it is lost.

The rules this module keeps: an event is forgotten when the hub has said that it is stored, not before; after a lost
connection everything that was not is sent again, in order, and the hub ignores what it knows; people are told once
when a hub goes away and once when it, or another of the same log, takes events again.
"""

from collections.abc import Callable, Iterator, Sequence

from agentpipe.client_frame import ENVELOPE_BYTES, introduction, publication
from agentpipe.errors import HubUnreachable, PeerError, ProtocolError
from agentpipe.event import JSON
from agentpipe.inflight import Window
from agentpipe.io.absence import Absence
from agentpipe.io.address import Address
from agentpipe.io.clock import Clock, now
from agentpipe.io.connect import Connector, LeftOut
from agentpipe.io.link import Link
from agentpipe.wire import HubMessage

__all__ = ["Delivery"]

#: One write takes at most about this much: several frames in one system call, without a copy of the whole window.
WRITE_BYTES = 256 * 1024

#: The close code for a publisher that another one of the same id has replaced (docs/protocol.md).
FENCED = 4409

#: How many of the hub's complaints are printed; the others are counted.
COMPLAINTS = 5


class Delivery:
    """Delivers what is offered to *window* to the hub at one of *addresses*, which lead to the same log: one
    connection at a time, to another when it is lost.

    Its owner polls `interests`, hands every ready descriptor to `attend`, calls `advance` after each turn and at
    ``deadline``. ``fatal`` is the reason why no hub will ever take anything, or None; ``where`` names the hubs.
    *warn* takes a line of text for people.
    """

    def __init__(
        self, addresses: Sequence[Address], window: Window, *, warn: Callable[[str], None], clock: Clock = now
    ) -> None:
        # given
        self.where = ", ".join(map(str, addresses))
        self.window = window
        self._warn = warn
        self._clock = clock
        self._connector = Connector(addresses, clock)
        # changing
        self._link: Link | None = None
        self._welcome = False
        self._absence = Absence(warn, clock, "events are kept and sent when a hub is there")
        self.problem = "no connection was made"
        self.fatal: PeerError | None = None
        self.progress_at = clock()  # when the hub last settled something, or the first welcome since
        self._expecting = False  # nothing was settled since that welcome: another one is no progress
        self.stored_at = self.progress_at  # when it last settled something
        self.reached = 0  # how many times the hub welcomed us
        self.epoch = ""  # of the hub's log: another one says that what was stored may be gone
        self.refused = 0
        self._complaints = 0
        self._connector.start()

    @property
    def deadline(self) -> float | None:
        """When `advance` is to be called though nothing is ready."""
        return self._link.deadline if self._link is not None else None

    def interests(self) -> Iterator[tuple[int, int]]:
        """The descriptors to poll, each with what to poll for."""
        yield self._connector.fileno(), 1
        if self._link is not None:
            yield self._link.fileno(), self._link.wanted

    def attend(self, ready: dict[int, int]) -> None:
        """Do what the ready descriptors allow."""
        if self._connector.fileno() in ready:
            self._take_outcomes()
        if self._link is not None and self._link.fileno() in ready:
            self._guarded(self._read)

    def advance(self) -> None:
        """Send what waits, as far as the connection takes it now; notice a dead one."""
        if self._link is not None:
            self._guarded(self._send)

    def close(self, budget_s: float) -> None:
        """End: say goodbye within *budget_s* seconds."""
        self._connector.stop()
        if self._link is not None:
            self._link.close(budget_s)
            self._link = None

    def report(self) -> dict[str, JSON]:
        """The counts as ``--stats`` prints them."""
        reconnects = max(self.reached - 1, 0)
        return {**self.window.report(), "refused": self.refused, "reconnects": reconnects}

    def _take_outcomes(self) -> None:
        for outcome in self._connector.outcomes():
            if isinstance(outcome, Link):
                self._link = outcome
            elif isinstance(outcome, HubUnreachable):
                self._gone(outcome)
            elif isinstance(outcome, LeftOut):
                self._leave_out(outcome)
            else:
                self._give_up(outcome)

    def _guarded(self, step: Callable[[Link], None]) -> None:
        """Take a step on the connection; when it ends, see to what comes next."""
        link = self._link
        assert link is not None
        try:
            step(link)
        except PeerError as error:
            link.drop()
            self._link, self._welcome = None, False
            self.window.rewind()
            if isinstance(error, HubUnreachable):
                self._gone(error)
                self._connector.start(link)
            elif isinstance(error, ProtocolError) and error.code == str(FENCED):
                self._give_up(ProtocolError("fenced", f"{link.address}: {self._fenced(error)}"))
            elif self._connector.leave_out(link):
                self._leave_out(LeftOut(link.address, error))
                self._connector.start(link)
            else:
                self._give_up(error)

    def _gone(self, error: HubUnreachable) -> None:
        self.problem = error.problem
        self._absence.gone(error)

    def _fenced(self, error: ProtocolError) -> str:
        """Another process speaks as this publisher: to go on elsewhere would be to speak against it."""
        whose = f"uses {self.window.place} or a copy of it" if self.window.place else "has the id of this one"
        return f"a newer publisher {whose} ({error.problem})"

    def _leave_out(self, hub: LeftOut) -> None:
        self.problem = str(hub.error)
        self._absence.left_out(hub)

    def _give_up(self, error: PeerError) -> None:
        self.fatal = error
        self.problem = str(error)
        self._warn(f"{error}; nothing more is sent")

    def _read(self, link: Link) -> None:
        link.flush()
        while messages := link.receive():
            for message in messages:
                self._understand(message, link)

    def _understand(self, message: HubMessage, link: Link) -> None:
        match message.type:
            case "ack":
                self._settle(message.count or 0)
            case "welcome":
                self._welcomed(message, link)
            case "error":
                self._complained(message, link.address)

    def _settle(self, count: int) -> None:
        try:
            settled = self.window.settle(count)
        except ValueError as error:
            raise ProtocolError("bad_message", str(error)) from None
        if settled:
            self.progress_at = self.stored_at = self._clock()
            self._expecting = False

    def _welcomed(self, message: HubMessage, link: Link) -> None:
        self._welcome = True
        self.reached += 1
        self._compare_log(message.epoch or "", link.address)
        if not self._expecting:
            self.progress_at = self._clock()
            self._expecting = True
        self.problem = "the hub was silent"
        limit = (message.limits or {}).get("max_publish_bytes")
        self.window.max_line = limit - ENVELOPE_BYTES if limit else None
        if self.window.publisher:
            link.send(introduction(self.window.publisher, self.window.next_generation()))
        self._absence.back(link.address, f", {self.window.held} events to send" if self.window.held else "")

    def _compare_log(self, epoch: str, address: Address) -> None:
        """A hub that kept its log in memory was restarted, or is not of the same log as the one before."""
        if self.epoch not in ("", epoch) and self.window.settled:
            count = self.window.settled
            self._warn(f"{address}: the log is another one than before; {count} events that were stored may be gone")
        self.epoch = epoch

    def _complained(self, message: HubMessage, address: Address) -> None:
        """The hub refused events of ours, which its `ack` settles too; or something else of ours is wrong, or of its
        own (a store that failed: what is not acknowledged is sent again), which refuses no event.
        """
        if message.code in ("unknown_type", "fenced"):
            return  # a hub from before `introduction`, which fences nobody; or the close that follows tells it
        self.refused += message.count or 0
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            self._warn(f"{address}: refused ({message.code}): {message.message}")

    def _send(self, link: Link) -> None:
        at = self._clock()
        while self._welcome and link.pending < WRITE_BYTES and self.window.waiting:
            payloads, size = [], 0
            while size < WRITE_BYTES and (lines := self.window.next_frame(at)):
                payloads.append(publication(lines))
                size += len(payloads[-1])
            link.send(*payloads)
        link.check(at)
