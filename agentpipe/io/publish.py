"""``publish``: events from a descriptor to a hub.

The rules this module keeps, in this order: the pipe in front of it is never held up for longer than it was allowed
because a hub is away or silent; what was read is delivered in order, or counted and declared; a hub that answers sets
the pace. One loop owns the input, the copy to stdout, the signals and the connection; nothing in it waits for one of
them alone.
"""

import dataclasses
import os
import select
from collections.abc import Mapping
from enum import Enum, auto

from agentpipe.errors import HubUnreachable, InputError, PeerError, ReaderGone, Undelivered
from agentpipe.event import JSON, Event
from agentpipe.intake import Intake
from agentpipe.io.clock import Clock, now
from agentpipe.io.delivery import Delivery
from agentpipe.io.signals import SignalWatch
from agentpipe.io.streams import READ_BYTES, Outlet, read_some

__all__ = ["Outcome", "Publisher", "Publishing", "exit_status", "new_publisher_id"]

#: Saying goodbye gets at least this much, also when the time for draining is used up.
GOODBYE_S = 0.5

#: What is still read after SIGTERM: the most that a pipe holds (pipe(7)), so that one who writes on does not keep us.
REST_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """How to publish: whether the hub must be there at the start, how many seconds to wait for it then and for
    acknowledgements at the end, how many seconds a full window may hold up the input while the hub is silent.
    """

    required: bool = False
    drain_timeout: float = 10.0
    hold: float = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: the ``signal`` that cut it short, or None; what was not delivered, or None; the ``fatal`` cause
    when the hub refused us for good; the run's terminal event; whether the reader of the copy left; the counts.
    """

    signal: int | None
    undelivered: Undelivered | None
    fatal: PeerError | None
    ending: Event | None
    reader_gone: bool
    report: Mapping[str, JSON]


class _Phase(Enum):
    REACHING = auto()  # --required: nothing is read before the hub is there
    PIPING = auto()
    DRAINING = auto()  # the input has ended


class Publisher:
    """Publishes what *intake* makes of *fd_in* by *delivery*: construct, `run` once. Without a descriptor it publishes
    what is there already.

    *copy* is where every byte that was read is written too (``--passthrough``), or None.
    """

    def __init__(
        self,
        delivery: Delivery,
        intake: Intake,
        publishing: Publishing,
        *,
        fd_in: int | None = 0,
        copy: Outlet | None = None,
        clock: Clock = now,
    ) -> None:
        # given
        self._delivery = delivery
        self._intake = intake
        self._publishing = publishing
        self._fd_in = fd_in if fd_in is not None else os.open(os.devnull, os.O_RDONLY)
        self._copy = copy
        self._clock = clock
        # changing
        self._signals = SignalWatch()
        self._phase = _Phase.REACHING if publishing.required else _Phase.PIPING
        self._give_up_at: float | None = clock() + publishing.drain_timeout if publishing.required else None
        self._full_since: float | None = None
        self._reader_gone = False
        self._signal: int | None = None
        self._hurried = False
        self._cut: InputError | None = None  # under strict: a signal ended the input in the middle of a line

    def run(self) -> Outcome:
        """Publish until the input has ended and everything is acknowledged, or the time for that is over.

        Raises HubUnreachable, AuthError or ProtocolError under ``required``; InputError for a bad line under strict.
        A hub that refuses us for good is a problem of the outcome: the pipe goes on to its end, and is told then.
        """
        try:
            with self._signals:
                try:
                    while not self._done():
                        self._step()
                finally:
                    self._delivery.window.finish(self._clock())
            if self._cut is not None:
                raise self._cut
            return self._outcome()
        finally:
            left = self._give_up_at - self._clock() if self._give_up_at is not None else 0.0
            self._delivery.close(0.0 if self._hurried else min(max(left, GOODBYE_S), 2.0))

    def _done(self) -> bool:
        if self._hurried:
            return True
        if self._phase is not _Phase.DRAINING or (self._copy is not None and self._copy.pending):
            return False
        late = self._late_at is not None and self._clock() >= self._late_at
        return late or not self._delivery.window.held or self._delivery.fatal is not None

    @property
    def _late_at(self) -> float | None:
        """When waiting is over. What lies in an outbox may take its time as long as the hub takes it."""
        if self._phase is _Phase.DRAINING and self._delivery.window.place and self._give_up_at is not None:
            return max(self._give_up_at, self._delivery.stored_at + self._publishing.drain_timeout)
        return self._give_up_at

    def _step(self) -> None:
        at = self._clock()
        may_read = self._may_read(at)
        ready = dict(self._poll(may_read).poll(self._timeout_ms(at)))
        if self._signals.fileno() in ready:
            self._obey()
        self._delivery.attend(ready)
        self._serve_copy(ready)
        if self._fd_in in ready and may_read and self._phase is _Phase.PIPING:
            self._read()
        self._settle_phase()
        self._delivery.window.tend(self._clock())
        self._delivery.advance()

    def _poll(self, may_read: bool) -> select.poll:
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        for fd, events in self._delivery.interests():
            poll.register(fd, events)
        if may_read:
            poll.register(self._fd_in, select.POLLIN)
        if self._copy is not None:
            poll.register(self._copy.fileno(), select.POLLOUT if self._copy.pending else 0)
        return poll

    def _may_read(self, at: float) -> bool:
        """Read while there is room; with a full window while waiting has no more sense, dropping then."""
        if self._phase is not _Phase.PIPING or (self._copy is not None and self._copy.pending):
            return False
        window = self._delivery.window
        if not window.full:
            self._full_since = None
            if window.undeclared:
                window.declare(at)
                self._delivery.advance()
            return True
        if self._full_since is None:
            self._full_since = at
        return self._dropping(at)

    def _dropping(self, at: float) -> bool:
        """Whether a full window has waited long enough for a hub that says nothing."""
        if self._delivery.fatal is not None:
            return True
        if self._full_since is None:
            return False
        return at >= max(self._full_since, self._delivery.progress_at) + self._publishing.hold

    def _timeout_ms(self, at: float) -> float | None:
        limits = [self._late_at, self._delivery.deadline, self._delivery.window.deadline]
        if self._full_since is not None and not self._dropping(at):
            limits.append(max(self._full_since, self._delivery.progress_at) + self._publishing.hold)
        due = [limit for limit in limits if limit is not None]
        return max(0.0, (min(due) - at) * 1000) if due else None

    def _read(self) -> None:
        data = read_some(self._fd_in)
        if data is None:
            return
        at = self._clock()
        events = self._intake.feed(data, at) if data else self._intake.finish(at)
        window = self._delivery.window
        if events:
            window.offer(events, at, dropping=window.full and self._dropping(at))
        if not data:
            self._drain()
        elif self._copy is not None and not self._reader_gone:
            try:
                self._copy.write(data)
            except ReaderGone:
                self._lose_reader()

    def _take_rest(self) -> None:
        """What the pipe holds now, and the line that we have half of: who wrote them counts them as handed on."""
        poll = select.poll()
        poll.register(self._fd_in, select.POLLIN)
        for _ in range(REST_BYTES // READ_BYTES):
            if not self._may_read(self._clock()) or not poll.poll(0):
                break
            self._read()
        if self._phase is not _Phase.PIPING:
            return
        try:
            events = self._intake.finish(self._clock())
        except InputError as error:
            self._cut = error
            return
        self._delivery.window.offer(events, self._clock())

    def _serve_copy(self, ready: Mapping[int, int]) -> None:
        if self._copy is None:
            return
        flags = ready.get(self._copy.fileno(), 0)
        try:
            if flags & (select.POLLERR | select.POLLNVAL):
                raise ReaderGone
            if flags & select.POLLOUT:
                self._copy.flush()
        except ReaderGone:
            self._lose_reader()

    def _lose_reader(self) -> None:
        """Whoever reads our copy is gone: what was read is still delivered, then we end as a filter does."""
        self._copy = None
        self._reader_gone = True
        self._drain()

    def _drain(self) -> None:
        if self._phase is not _Phase.DRAINING:
            self._phase = _Phase.DRAINING
            self._give_up_at = self._clock() + self._publishing.drain_timeout
            self._delivery.window.declare(self._clock())

    def _settle_phase(self) -> None:
        if self._phase is _Phase.REACHING:
            self._settle_reaching()
        elif self._phase is _Phase.PIPING and self._give_up_at is not None and self._clock() >= self._give_up_at:
            self._signal = self._signal or 2  # an interrupt's time for the input is over
            self._drain()
        if self._publishing.required and self._delivery.fatal is not None:
            raise self._delivery.fatal

    def _settle_reaching(self) -> None:
        if self._delivery.reached:
            self._phase, self._give_up_at = _Phase.PIPING, None
        elif self._give_up_at is not None and self._clock() >= self._give_up_at:
            raise HubUnreachable(self._delivery.where, self._delivery.problem)

    def _obey(self) -> None:
        """SIGINT: the rest of the pipe got it too and ends by itself, so read on to its end, for a while; a second
        one ends at once. SIGTERM and SIGHUP are for us alone: stop reading, deliver what there is.
        """
        self._signals.drain()
        if self._signals.interrupts >= 2:
            self._signal, self._hurried = 2, True
        elif self._signals.interrupts and self._give_up_at is None:
            self._give_up_at = self._clock() + self._publishing.drain_timeout
        if self._signals.ended_by is not None and self._signal is None:
            self._signal = int(self._signals.ended_by)
            self._take_rest()
            self._drain()

    def _outcome(self) -> Outcome:
        delivery = self._delivery
        window = delivery.window
        missing = window.undelivered + delivery.refused
        return Outcome(
            self._signal,
            Undelivered(missing, self._why()) if missing else None,
            delivery.fatal,
            window.ending,
            self._reader_gone,
            {**delivery.report(), **self._intake.report()},
        )

    def _why(self) -> str:
        window, delivery = self._delivery.window, self._delivery
        held = window.undelivered - window.dropped  # without the gaps that were made here
        kept = min(window.kept, held)
        crowded, full = window.dropped - window.oversize, "outbox" if window.place else "window"
        reasons = {
            f"{kept} kept in {window.place}, which the next publish --outbox {window.place} sends first "
            f"({delivery.problem})": kept,
            f"{held - kept} not acknowledged ({delivery.problem})": held - kept,
            f"{crowded} dropped from a full {full}": crowded,
            f"{window.oversize} larger than the hub takes": window.oversize,
            f"{delivery.refused} refused": delivery.refused,
        }
        why = ", ".join(reason for reason, count in reasons.items() if count)
        counts = f"{window.read} read, {window.settled} acknowledged, {window.resent} resent"
        return f"{why}; {counts}, {max(delivery.reached - 1, 0)} reconnects"


def new_publisher_id() -> str:
    """An id that no other publisher has."""
    return os.urandom(16).hex()


def exit_status(ending: Event | None) -> int:
    """The status that a run's terminal event stands for: the child's own, else 1 for failed and 130 for cancelled.

    1 when there was no terminal event: nobody knows how the run ended.
    """
    if ending is None:
        return 1
    code = ending.payload.get("exit_code")
    if type(code) is int and (code != 0 or ending.type == "run_completed"):  # an agent may fail and exit with 0
        return code & 0xFF if code >= 0 else 128 - code & 0xFF
    return {"run_completed": 0, "run_cancelled": 130}.get(ending.type, 1)
