"""The two drivers: they own time and waiting, so that stages need not.

`filter_fds` runs a stage between two descriptors without threads and without asyncio (its import would double the
start-up of every filter in a pipe); `drive` runs the same stage between an asyncio source and sink.

The rules they keep: what one read brought is handed on by one write at once; nothing is read while the reader of the
output is behind, unless the stage is elastic; after the input ended a stage is woken until it holds nothing, then
finished; a reader that is gone is noticed at once, also while the input is silent.
"""

import dataclasses
import select
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from agentpipe.errors import ReaderGone
from agentpipe.event import JSON, Event
from agentpipe.intake import Intake
from agentpipe.io.clock import Clock, now
from agentpipe.io.signals import SignalWatch
from agentpipe.io.streams import Outlet, read_some
from agentpipe.ndjson import join
from agentpipe.stage import Demand, Stage

if TYPE_CHECKING:
    import asyncio  # only `drive` needs it, and imports it itself: it costs a filter 30 ms of start-up

__all__ = ["Ending", "Sink", "Source", "drive", "filter_fds"]

#: After the first Ctrl-C a filter drains its input; this is how long it waits for the end of it.
GRACE_S = 5.0

_GONE = select.POLLERR | select.POLLNVAL


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """How a filter ended: ``signal`` is the number of the signal that cut it short, or None; ``report`` its counts."""

    signal: int | None
    report: Mapping[str, JSON]


def filter_fds(stage: Stage, intake: Intake, *, fd_in: int = 0, fd_out: int = 1, clock: Clock = now) -> Ending:
    """Run *stage* from *fd_in* to *fd_out* until the input ends.

    Raises ReaderGone when the reader of the output has closed, InputError for a bad line under strict, OutputError
    when reading or writing fails. The first SIGINT lets the input drain for 5 s, the second ends at once; SIGTERM and
    SIGHUP stop reading, let the stage finish and end.
    """
    with SignalWatch() as signals:
        return _Filter(stage, intake, fd_in, Outlet(fd_out), signals, clock).run()


class _Filter:
    """One run of the loop of `filter_fds`."""

    def __init__(
        self, stage: Stage, intake: Intake, fd_in: int, outlet: Outlet, signals: SignalWatch, clock: Clock
    ) -> None:
        # given
        self._stage = stage
        self._intake = intake
        self._fd_in = fd_in
        self._outlet = outlet
        self._signals = signals
        self._clock = clock
        self._poll = select.poll()
        # changing
        self._input_ended = False
        self._polled: tuple[bool, bool] | None = None
        self._give_up_at: float | None = None
        self._signal: int | None = None

    def run(self) -> Ending:
        self._poll.register(self._signals.fileno(), select.POLLIN)
        while not self._done():
            self._step()
        if not self._hurried():
            self._emit(self._stage.finish(self._clock()))
            self._let_go()
        return Ending(self._signal, self._report())

    def _done(self) -> bool:
        """Nothing more to read, nothing held that a later wake would bring, nothing waiting to be written."""
        if self._signal is not None:
            return True
        if self._stage.demand is Demand.DONE:
            self._input_ended = True
        waits = self._stage.counts.left and self._stage.deadline is not None
        return self._input_ended and not waits and not self._outlet.pending

    def _step(self) -> None:
        busy = self._outlet.pending > 0
        may_read = not self._input_ended and self._stage.demand is Demand.MORE and (not busy or self._stage.elastic)
        self._register(may_read, busy)
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

    def _register(self, may_read: bool, busy: bool) -> None:
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
        at = self._clock()
        if data:
            events = self._intake.feed(data, at)
        else:
            self._input_ended = True
            self._polled = None
            events = self._intake.finish(at)
        if events:
            self._emit(self._stage.feed(events, at))

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
            self._signal = self._signal or 2

    def _emit(self, events: Sequence[Event]) -> None:
        if events:
            self._outlet.write(join([event.line for event in events]))

    def _obey(self) -> None:
        self._signals.drain()
        if self._signals.interrupts >= 2:
            self._signal = 2
        elif self._signals.interrupts and self._give_up_at is None:
            self._give_up_at = self._clock() + GRACE_S
        if self._signals.ended_by is not None:
            self._signal = int(self._signals.ended_by)

    def _hurried(self) -> bool:
        return self._signals.interrupts >= 2

    def _let_go(self) -> None:
        """Write what the stage let go at its end; after a signal for at most the grace, then count it as left."""
        limit = self._clock() + GRACE_S if self._signal is not None else None
        self._poll.register(self._outlet.fileno(), select.POLLOUT)
        while self._outlet.pending and not self._hurried():
            left_ms = None if limit is None else (limit - self._clock()) * 1000
            if left_ms is not None and left_ms <= 0:
                break
            for fd, flags in self._poll.poll(left_ms):
                if fd == self._signals.fileno():
                    self._obey()
                elif flags & _GONE:
                    raise ReaderGone
                else:
                    self._outlet.flush()
            if self._signal is not None and limit is None:
                limit = self._clock() + GRACE_S

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
    """Run *stage* between *source* and *sink* in the running event loop; the sink is closed in any case."""
    import asyncio

    batches = aiter(source)
    reading: asyncio.Task[Sequence[Event] | None] | None = None
    writing: asyncio.Task[None] | None = None
    ended = False
    try:
        while not (ended and writing is None and not (stage.counts.left and stage.deadline is not None)):
            ended = ended or stage.demand is Demand.DONE
            if reading is None and not ended and stage.demand is Demand.MORE and (writing is None or stage.elastic):
                reading = asyncio.ensure_future(anext(batches, None))
            out = await _one_turn(stage, reading, writing, clock)
            if writing is not None and writing.done():
                await writing
                writing = None
            if reading is not None and reading.done():
                batch = await reading
                reading = None
                ended = batch is None
                out = [*out, *(stage.feed(batch, clock()) if batch else ())]
            if out:
                writing = asyncio.ensure_future(_in_order(writing, sink, out))
        last = stage.finish(clock())
        if last:
            await sink.write(last)
    finally:
        for task in (reading, writing):
            if task is not None:
                task.cancel()
        await sink.close()


async def _one_turn(
    stage: Stage,
    reading: "asyncio.Task[Sequence[Event] | None] | None",
    writing: "asyncio.Task[None] | None",
    clock: Clock,
) -> Sequence[Event]:
    """Wait until something is read, written or due; return what the stage let go when it was due."""
    import asyncio

    due = stage.deadline if writing is None else None
    waited = [task for task in (reading, writing) if task is not None]
    timeout = None if due is None else max(0.0, due - clock())
    if waited:
        await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    elif timeout is not None:
        await asyncio.sleep(timeout)
    at = clock()
    if (writing is None or writing.done()) and stage.deadline is not None and stage.deadline <= at:
        return stage.wake(at)
    return ()


async def _in_order(before: "asyncio.Task[None] | None", sink: Sink, events: Sequence[Event]) -> None:
    if before is not None:
        await before
    await sink.write(events)
