"""The loop of ``agentpipe run``: from the backlog through `ProcessEvents` to the reader, while the command lives.

The rule this module keeps: what one read brought goes out in one write, at once when the reader is there; a reader
that is behind only makes the backlog grow; one that is gone is noticed while the command is silent, and ends it.
"""

import select
import signal
from collections.abc import Callable

from agentpipe.errors import OutputError, ReaderGone
from agentpipe.io.clock import Clock
from agentpipe.io.run.backlog import Backlog
from agentpipe.io.run.custody import Custody
from agentpipe.io.run.drain import Drain
from agentpipe.io.run.job_control import JobControl
from agentpipe.io.run.plumbing import STREAMS
from agentpipe.io.run.spawn import Program
from agentpipe.io.signals import SignalWatch
from agentpipe.io.streams import Outlet
from agentpipe.process_event import ProcessEvents
from agentpipe.stop import Limits, Verdict

__all__ = ["RunLoop"]

_TIMED_OUT = 124

#: What one turn formats: about one read of the drain. Short lines grow a hundredfold as events.
_TAKE_BYTES = 64 * 1024

#: When nothing that can be polled tells of the next step (a thread that ends), look again this often.
_TICK_S = 0.02

#: When all has ended and we wait for a reader with limited patience, look at the clock this often.
_STALL_TICK_S = 0.2

#: How long a pipe may stay open after every process that we know of has ended.
_STRANGER_S = 1.0

_GONE = select.POLLERR | select.POLLNVAL


class RunLoop:
    """Waits for whatever comes next and lets each part do its share, until all is over and delivered."""

    def __init__(
        self,
        custody: Custody,
        drain: Drain,
        backlog: Backlog,
        events: ProcessEvents,
        limits: Limits,
        outlet: Outlet,
        signals: SignalWatch,
        keys: JobControl,
        warn: Callable[[str], None],
        clock: Clock,
    ) -> None:
        # given
        self._custody = custody
        self._drain = drain
        self._backlog = backlog
        self._events = events
        self._limits = limits
        self._outlet = outlet
        self._signals = signals
        self._keys = keys
        self._warn = warn
        self._clock = clock
        # changing
        self._failure: ReaderGone | OutputError | None = None  # why nothing can be written any more
        self._verdict: Verdict | None = None
        self._told = 0  # requests to end that were passed on
        self._moved_at = clock()  # when the reader last took something
        self._gone_at: float | None = None
        self._abandoned = False
        self._times_full = 0

    def run(self, program: Program, started_at: float, patience_s: float) -> int:
        """Deliver everything; the exit status. *patience_s* is for a reader that stalls after we were told to end.

        Raises ReaderGone or OutputError, once the command has ended, when writing failed.
        """
        self._send(self._events.started(program.words, program.folder, self._custody.child.pid, started_at))
        while not self._over(patience_s):
            self._turn()
        if not self._abandoned:
            self._send(self._exited(started_at))
            self._flush(patience_s)
        if self._events.oversize:
            self._warn(f"{self._events.oversize} lines were over the limit (--max-line) and declared as gaps")
        if self._failure is not None:
            raise self._failure
        return self._status()

    def _over(self, patience_s: float) -> bool:
        if not self._custody.gone:
            return False
        if self._gives_up(patience_s):  # the drain may be waiting for room that will never come
            return True
        return self._drain.ended and (self._failure is not None or not self._held_bytes())

    def _held_bytes(self) -> int:
        return self._backlog.held_bytes + self._outlet.pending

    def _gives_up(self, patience_s: float) -> bool:
        """Whether we were told to end and the reader has not moved for long: then the rest is lost, and said to be."""
        since = max(self._moved_at, self._custody.ended_at or 0.0)
        stuck = self._told and self._outlet.pending and self._failure is None
        if stuck and (self._signals.interrupts > 2 or self._clock() > since + patience_s):
            self._abandoned = True
            self._warn(f"the reader has stalled: about {self._held_bytes()} bytes of output were not delivered")
        return self._abandoned

    def _turn(self) -> None:
        busy = self._outlet.pending > 0
        ready = self._wait(busy)
        if self._signals.fileno() in ready:
            self._obey()
        self._attend(ready.get(self._outlet.fileno(), 0))
        if self._backlog.fileno() in ready and not self._outlet.pending:
            self._deliver()
        self._look_after()

    def _wait(self, busy: bool) -> dict[int, int]:
        """Poll for all that can be acted upon: for the backlog only while the reader keeps up."""
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        if self._custody.ended_at is None and self._custody.child.fileno() >= 0:
            poll.register(self._custody.child.fileno(), select.POLLIN)
        if self._failure is None:
            poll.register(self._outlet.fileno(), select.POLLOUT if busy else 0)
            if not busy:
                poll.register(self._backlog.fileno(), select.POLLIN)
        return dict(poll.poll(self._timeout_ms()))

    def _timeout_ms(self) -> float | None:
        at = self._clock()
        due = [self._custody.deadline]
        if self._custody.gone and self._drain.ended:
            due.append(at + _STALL_TICK_S if self._told else None)
        elif self._custody.ended_at is not None or self._custody.child.fileno() < 0:
            due.append(at + _TICK_S)
        elif not self._custody.stopping:
            due.append(self._limits.deadline(self._drain.last_at))
        moments = [moment for moment in due if moment is not None]
        return max(0.0, min(moments) - at) * 1000 + 1 if moments else None

    def _attend(self, flags: int) -> None:
        """The reader can take more, or is gone."""
        if flags & _GONE and self._failure is None:
            self._fail(ReaderGone())
        elif flags & select.POLLOUT:
            self._send(b"")

    def _deliver(self) -> None:
        """Make the events of what has come and write them in one go."""
        made = [self._held_up()]
        for chunk in self._backlog.take(_TAKE_BYTES):
            name = STREAMS[chunk.stream]
            if chunk.data:
                made.append(self._events.output(name, chunk.data, chunk.at))
            else:
                made.append(self._events.ended(name, chunk.at))
        self._send(b"".join(made))

    def _held_up(self) -> bytes:
        """The event that says that the command had to wait for the reader, when it had to."""
        if self._backlog.times_full == self._times_full:
            return b""
        self._times_full = self._backlog.times_full
        message = "the queue was full: the command had to wait for the reader"
        return self._events.warning(message, "queue_full", self._clock())

    def _send(self, data: bytes) -> None:
        """Send *data* after what is pending; a failure ends the command and is raised when it has ended."""
        if self._failure is not None:
            return
        before = self._outlet.bytes_written
        try:
            if data:
                self._outlet.write(data)
            else:
                self._outlet.flush()
        except (ReaderGone, OutputError) as error:
            self._fail(error)
        if self._outlet.bytes_written > before:
            self._moved_at = self._clock()

    def _fail(self, error: ReaderGone | OutputError) -> None:
        self._failure = error
        self._backlog.close()
        self._custody.stop("SIGTERM", "reader_gone", self._clock())

    def _obey(self) -> None:
        self._signals.drain()
        self._custody.bury()
        if self._keys.stop_asked:
            self._suspend()
        told = self._signals.interrupts + bool(self._signals.ended_by) + self._keys.quit_asked
        if told > self._told:
            self._told = told
            self._custody.stop(self._asked().name, "signal", self._clock())

    def _asked(self) -> signal.Signals:
        """The signal that asked us to end; the gravest of several."""
        return self._signals.ended_by or (signal.SIGQUIT if self._keys.quit_asked else signal.SIGINT)

    def _suspend(self) -> None:
        """Stop the command and ourselves, until we are continued; the time between counts for no limit."""
        at = self._clock()
        self._custody.suspend()
        self._keys.suspend()
        self._custody.resume()
        self._limits.extend(self._clock() - at)
        self._drain.last_at = self._clock()

    def _look_after(self) -> None:
        """Let custody do what is due, and see to the limits of time."""
        at = self._clock()
        if not self._custody.stopping and self._custody.ended_at is None:
            self._verdict = self._limits.verdict(at, self._drain.last_at)
            if self._verdict is not None:
                self._custody.stop("SIGTERM", "exit" if self._verdict == "result" else self._verdict, at)
        self._custody.step(at, quiet=self._drain.ended)
        if self._custody.gone and not self._drain.ended:
            self._leave_strangers(at)

    def _leave_strangers(self, at: float) -> None:
        """Stop reading from a pipe that is held by a process that is no descendant of ours."""
        if self._gone_at is None:
            self._gone_at = at
        elif at > self._gone_at + _STRANGER_S and not self._backlog.waiting and not self._drain.stopping:
            self._warn("a process that the command did not start still holds its output open; not waiting for it")
            self._drain.stop_reading()

    def _exited(self, started_at: float) -> bytes:
        status = self._custody.child.status
        code, name = _split(status) if status is not None else (None, None)
        if self._verdict == "result":
            code, name = 0, None
        ended_at = self._custody.ended_at or self._clock()
        return self._events.exited(
            exit_code=code,
            signal=name,
            duration_ms=round((ended_at - started_at) * 1000),
            reason=self._custody.reason,
            at=max(ended_at, self._drain.last_at),  # not when the reader came to take it
        )

    def _flush(self, patience_s: float) -> None:
        """Wait until the reader has taken the rest."""
        while self._outlet.pending and self._failure is None and not self._gives_up(patience_s):
            ready = self._wait(busy=True)
            if self._signals.fileno() in ready:
                self._obey()
            self._attend(ready.get(self._outlet.fileno(), 0))

    def _status(self) -> int:
        """What ``run`` exits with: what was done to us, then what we did to the command, then what it did itself."""
        if self._told:
            return 128 + self._asked()
        if self._verdict is not None:
            return 0 if self._verdict == "result" else _TIMED_OUT
        status = self._custody.child.status
        return 0 if status is None else status if status >= 0 else 128 - status


def _split(status: int) -> tuple[int | None, str | None]:
    """The exit code, or the name of the signal, of a status as `Child` has it."""
    if status >= 0:
        return status, None
    try:
        return None, signal.Signals(-status).name
    except ValueError:  # a real-time signal
        return None, f"SIG{-status}"
