"""The two drivers: they own time and waiting, so that stages need not.

`filter_fds` runs a stage between two descriptors without threads and without asyncio (its import would double the
start-up of every filter in a pipe); `drive` runs the same stage between an asyncio source and sink.

The rules they keep: what one read brought is handed on by one write at once; nothing is read while the reader of the
output is behind, unless the stage is elastic; after the input ended a stage is woken until it holds nothing, then
finished; a reader that is gone is noticed at once, also while the input is silent.
"""

import dataclasses
import select
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from agentpipe.errors import AgentpipeError, InputError, ReaderGone
from agentpipe.event import JSON, Event
from agentpipe.intake import Intake
from agentpipe.io.clock import Clock, now
from agentpipe.io.signals import SignalWatch
from agentpipe.io.streams import Outlet, read_some, widen
from agentpipe.ndjson import join
from agentpipe.stage import Demand, Stage, will_let_go

if TYPE_CHECKING:
    import asyncio  # only `drive` needs it, and imports it itself: it costs a filter 30 ms of start-up

__all__ = ["Ending", "Sink", "Source", "drive", "filter_fds"]

#: After the first Ctrl-C a filter drains its input; this is how long it waits for the end of it.
GRACE_S = 5.0

#: A pipe whose reader has gone says POLLERR; a socket or a terminal says POLLHUP.
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """How a filter ended: ``signal`` is the number of the signal that cut it short, or None; ``report`` its counts;
    ``failure`` what stopped it early under strict, for the caller to raise once it has told the counts.
    """

    signal: int | None
    report: Mapping[str, JSON]
    failure: AgentpipeError | None = None


def filter_fds(
    stage: Stage,
    intake: Intake,
    *,
    fd_in: int = 0,
    fd_out: int = 1,
    clock: Clock = now,
    warn: Callable[[str], None] | None = None,
) -> Ending:
    """Run *stage* from *fd_in* to *fd_out* until the input ends; *warn* takes its notices, one line each.

    Raises ReaderGone when the reader of the output has closed and OutputError when reading or writing fails. A bad line
    under strict ends it too, with an InputError as ``failure`` once what came before it is written. The first SIGINT
    lets the input drain for 5 s, the second ends at once; SIGTERM and SIGHUP stop reading, let the stage finish and
    end.
    """
    widen(fd_in)
    with SignalWatch() as signals:
        return _Filter(stage, intake, fd_in, Outlet(fd_out), signals, clock, warn).run()


class _Filter:
    """One run of the loop of `filter_fds`."""

    def __init__(
        self,
        stage: Stage,
        intake: Intake,
        fd_in: int,
        outlet: Outlet,
        signals: SignalWatch,
        clock: Clock,
        warn: Callable[[str], None] | None,
    ) -> None:
        # given
        self._stage = stage
        self._intake = intake
        self._fd_in = fd_in
        self._outlet = outlet
        self._signals = signals
        self._clock = clock
        self._warn = warn
        self._poll = select.poll()
        # changing
        self._input_ended = False
        self._polled: tuple[bool, bool] | None = None
        self._give_up_at: float | None = None
        self._signal: int | None = None
        self._failure: InputError | None = None

    def run(self) -> Ending:
        self._poll.register(self._signals.fileno(), select.POLLIN)
        while not self._done():
            self._step()
        if not self._hurried():
            self._emit(self._stage.finish(self._clock()))
            self._let_go()
        return Ending(self._signal, self._report(), self._failure or self._stage.failure)

    def _done(self) -> bool:
        """Nothing more to read, nothing held that a later wake would bring, nothing waiting to be written."""
        if self._signal is not None:
            return True
        if self._stage.demand is Demand.DONE:
            self._input_ended = True
        return self._input_ended and not self._outlet.pending and not will_let_go(self._stage)

    def _step(self) -> None:
        busy = self._outlet.pending > 0
        may_read = not self._input_ended and self._stage.demand is Demand.MORE and (not busy or self._stage.elastic)
        self._register(may_read=may_read, busy=busy)
        ready = dict(self._poll.poll(self._timeout_ms(busy)))
        if self._signals.fileno() in ready:
            self._obey()
        flags = ready.get(self._outlet.fileno(), 0)
        if flags & _GONE:
            raise ReaderGone
        if flags & select.POLLOUT and busy:
            self._outlet.flush()
        if self._fd_in in ready and may_read:
            self._read()
        self._wake()

    def _register(self, *, may_read: bool, busy: bool) -> None:
        wanted = (may_read, busy)
        if wanted == self._polled:
            return
        self._polled = wanted
        self._poll.register(self._outlet.fileno(), select.POLLOUT if busy else 0)
        if may_read:
            self._poll.register(self._fd_in, select.POLLIN)
        else:
            try:
                self._poll.unregister(self._fd_in)
            except KeyError:
                pass  # it was not being polled

    def _timeout_ms(self, busy: bool) -> float | None:
        limits = [self._give_up_at] if self._give_up_at is not None else []
        if self._stage.deadline is not None and not busy:
            limits.append(self._stage.deadline)
        if not limits:
            return None
        return max(0.0, (min(limits) - self._clock()) * 1000)

    def _read(self) -> None:
        data = read_some(self._fd_in)
        if data is None:
            return
        if not data:
            self._input_ended = True
        at = self._clock()
        events = self._taken(data, at)
        if events:
            self._emit(self._stage.feed(events, at))

    def _taken(self, data: bytes, at: float) -> Sequence[Event]:
        """The events that *data* completed; a bad line under strict ends the input."""
        events: Sequence[Event] = ()
        try:
            events = self._intake.feed(data, at) if data else self._intake.finish(at)
            self._failure = self._intake.failure
        except InputError as error:
            self._failure = error
        if self._failure is not None:
            self._input_ended = True
        return events

    def _wake(self) -> None:
        """Wake the stage while it is due and the reader keeps up."""
        while not self._outlet.pending:
            at = self._clock()
            due = self._stage.deadline
            if due is None or due > at:
                break
            self._emit(self._stage.wake(at))
            if not self._stage.elastic:
                break
        if self._give_up_at is not None and self._clock() >= self._give_up_at:
            self._signal = self._signal or signal.SIGINT

    def _emit(self, events: Sequence[Event]) -> None:
        if events:
            self._outlet.write(join([event.line for event in events]))
        if self._stage.notices:
            self._tell(self._stage.notices)

    def _tell(self, notices: list[str]) -> None:
        said = list(notices)
        notices.clear()
        if self._warn is not None:
            for text in said:
                self._warn(text)

    def _obey(self) -> None:
        self._signals.drain()
        if self._signals.interrupts >= 2:
            self._signal = signal.SIGINT
        elif self._signals.interrupts and self._give_up_at is None:
            self._give_up_at = self._clock() + GRACE_S
        if self._signals.ended_by is not None:
            self._signal = int(self._signals.ended_by)

    def _hurried(self) -> bool:
        return self._signals.interrupts >= 2

    def _let_go(self) -> None:
        """Write what the stage let go at its end; after a signal for at most the grace: the report has what is left."""
        if self._signal is not None:
            self._give_up_at = self._clock() + GRACE_S
        self._register(may_read=False, busy=True)
        while self._outlet.pending and not self._hurried():
            if self._signal is not None and self._give_up_at is None:  # it came meanwhile
                self._give_up_at = self._clock() + GRACE_S
            left_ms = None if self._give_up_at is None else (self._give_up_at - self._clock()) * 1000
            if left_ms is not None and left_ms <= 0:
                self._signal = self._signal or signal.SIGINT
                break
            for fd, flags in self._poll.poll(left_ms):
                if fd == self._signals.fileno():
                    self._obey()
                elif flags & _GONE:
                    raise ReaderGone
                elif fd == self._outlet.fileno():
                    self._outlet.flush()

    def _report(self) -> dict[str, JSON]:
        return {
            **self._stage.report(),
            **self._intake.report(),
            "bytes_out": self._outlet.bytes_written,
            "bytes_unwritten": self._outlet.pending,
        }


class Source(Protocol):
    """Where events come from: batches, each what one read brought. Ends by ending the iteration."""

    def __aiter__(self) -> AsyncIterator[Sequence[Event]]: ...


class Sink(Protocol):
    """Where events go: `write` returns when it can take more and raises ReaderGone when nobody will read."""

    async def write(self, events: Sequence[Event]) -> None: ...
    async def close(self) -> None: ...


async def drive(source: Source, stage: Stage, sink: Sink, *, clock: Clock = now) -> None:
    """Run *stage* between *source* and *sink* in the running event loop; the sink is closed in any case.

    What source or sink raise comes out, ReaderGone too, and so does the stage's own failure.
    Raises RuntimeError for a stage that holds for ever.
    """
    batches = aiter(source)
    driver = _Drive(stage, sink, clock)
    try:
        await driver.run(batches)
    finally:
        try:
            await driver.stop()
            close = getattr(batches, "aclose", None)
            if close is not None:
                await close()
        finally:
            await sink.close()


class _Drive:
    """One run of the loop of `drive`: at most one read and one write are under way."""

    def __init__(self, stage: Stage, sink: Sink, clock: Clock) -> None:
        # given
        self._stage = stage
        self._sink = sink
        self._clock = clock
        # changing
        self._reading: asyncio.Task[Sequence[Event] | None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._arrived: Sequence[Event] = ()  # read, and not fed because the reader of the output fell behind meanwhile
        self._waiting: list[Event] = []  # let go while a write was under way
        self._ended = False

    async def run(self, batches: AsyncIterator[Sequence[Event]]) -> None:
        import asyncio

        while not self._done():
            if self._reading is None and not self._arrived and not self._ended and self._can_feed():
                self._reading = asyncio.ensure_future(anext(batches, None))
            await self._wait()
            self._settle()
            self._work()
            if self._waiting and self._writing is None:
                self._writing = asyncio.ensure_future(self._sink.write(self._waiting))
                self._waiting = []
        last = self._stage.finish(self._clock())
        if last:
            await self._sink.write(last)
        if self._stage.failure is not None:
            raise self._stage.failure

    async def stop(self) -> None:
        """Cancel what is under way and wait for it."""
        import asyncio

        tasks = [task for task in (self._reading, self._writing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self) -> bool:
        if self._stage.demand is Demand.DONE:
            self._ended = True
            self._arrived = ()
        busy = self._writing is not None or self._waiting or self._arrived
        return self._ended and not busy and not will_let_go(self._stage)

    def _can_feed(self) -> bool:
        return self._stage.demand is Demand.MORE and (self._writing is None or self._stage.elastic)

    async def _wait(self) -> None:
        """Until something is read or written or the stage is due."""
        import asyncio

        tasks = [task for task in (self._reading, self._writing) if task is not None]
        due = self._stage.deadline if self._writing is None else None
        timeout = None if due is None else max(0.0, due - self._clock())
        if tasks:
            await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        elif timeout is not None:
            await asyncio.sleep(timeout)
        elif not self._can_feed():
            raise RuntimeError(f"{self._stage!r} holds and has no deadline: nothing could ever wake it")

    def _settle(self) -> None:
        """Take the results of what is done; a failure of source or sink comes out here."""
        if self._writing is not None and self._writing.done():
            writing, self._writing = self._writing, None
            writing.result()
        if self._reading is not None and self._reading.done():
            reading, self._reading = self._reading, None
            batch = reading.result()
            self._ended = self._ended or batch is None
            self._arrived = batch or ()

    def _work(self) -> None:
        at = self._clock()
        due = self._stage.deadline
        if self._writing is None and due is not None and due <= at:
            self._waiting += self._stage.wake(at)
        if self._arrived and self._can_feed():
            batch, self._arrived = self._arrived, ()
            self._waiting += self._stage.feed(batch, at)
