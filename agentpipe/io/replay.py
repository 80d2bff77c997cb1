"""Playing saved logs: reading them, waiting for each line's moment, writing the same bytes.

The rules this module keeps: what is written is what was read, byte for byte (a last line gets its line end); a line
is never early and, unless the reader is behind, never late; a reader that is behind is waited for, and nothing is lost
or read ahead meanwhile. Memory is bounded by one block and one line, however long the log is.
"""

import select
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agentpipe.errors import OptionError, ReaderGone
from agentpipe.io.clock import Clock, now
from agentpipe.io.saved_log import Source, opened
from agentpipe.io.signals import SignalWatch
from agentpipe.io.streams import READ_BYTES, Outlet
from agentpipe.replay import FASTEST, Schedule, moment, restamped

__all__ = ["Player", "Playing"]

#: A line longer than this is passed on in pieces as it is read, untimed: the line limit of the other commands.
MAX_LINE = 16 * 1024 * 1024

_GONE = select.POLLERR | select.POLLNVAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Playing:
    """How to play: the speed factor (infinite: as fast as possible), the cap on silences in seconds (0: none), whether
    to start again at the end, the first and last line to play (from 1, inclusive; last 0: all), whether to set
    timestamps to the moment of playing.
    """

    factor: float = 1.0
    max_idle: float = 0.0
    loop: bool = False
    first: int = 1
    last: int = 0
    rewrite_time: bool = False


class Player:
    """Plays the logs at *paths* (``-`` is descriptor 0; gzip is recognised) once: construct, `run`.

    *warn* takes one line of text for people.
    """

    def __init__(
        self,
        paths: Sequence[str],
        playing: Playing,
        *,
        warn: Callable[[str], None],
        fd_out: int = 1,
        clock: Clock = now,
    ) -> None:
        if playing.loop and "-" in paths:
            raise OptionError("--loop", "stdin can be read once only")
        # given
        self._paths = paths
        self._playing = playing
        self._warn = warn
        self._clock = clock
        self._outlet = Outlet(fd_out)
        self._poll = select.poll()
        self._schedule = Schedule(playing.factor, playing.max_idle)
        self._by_line = playing.factor < FASTEST or playing.first > 1 or playing.last > 0 or playing.rewrite_time
        # changing
        self._signals = SignalWatch()
        self._start = 0.0
        self._number = 0  # of the line read last
        self._ready: list[bytes] = []  # due now, in one write
        self._ready_bytes = 0
        self._signal: int | None = None

    def run(self) -> int | None:
        """Play until the end; the number of the signal that cut it short, or None.

        Raises InputMissing for a file that cannot be read, ReaderGone when the reader of the output has closed.
        """
        with self._signals as signals:
            self._poll.register(signals.fileno(), select.POLLIN)
            self._start = self._clock()
            while self._play_all() and self._playing.loop:
                self._number = 0
        return self._signal

    def _play_all(self) -> bool:
        """Play every file once; False when nothing was played, over which a loop would spin, or a signal came."""
        before = self._outlet.bytes_written
        for path in self._paths:
            if self._wanted():
                self._play_file(path)
        self._hand_on()
        return self._signal is None and self._outlet.bytes_written > before

    def _wanted(self) -> bool:
        """Whether the next line is to be played, or at least read."""
        return self._signal is None and not 0 < self._playing.last <= self._number

    def _play_file(self, path: str) -> None:
        before, stamped = self._number, self._schedule.stamped
        self._schedule.rewind()
        with opened(path) as source:
            for line in self._lines(source):
                if not self._wanted():
                    return
                self._play(line)
        timed = self._playing.factor < FASTEST
        if timed and self._number - before > 1 and self._schedule.stamped == stamped and self._signal is None:
            self._warn(f"{path}: no line has a timestamp, so it was played as fast as possible")

    def _lines(self, source: Source) -> Iterator[bytes]:
        """Line after line with its line end; where single lines do not matter, block after block of whole ones."""
        cutter = _Cutter(whole_blocks=not self._by_line)
        while data := self._read(source):
            yield from cutter.feed(data)
        yield from cutter.finish()

    def _read(self, source: Source) -> bytes:
        """The next block; waits for a pipe or terminal in poll, so that signals and a gone reader are noticed."""
        fd = source.fd_to_poll
        while fd is not None and self._signal is None:
            self._hand_on()
            self._poll.register(fd, select.POLLIN)
            ready = self._wait(None)
            self._poll.unregister(fd)
            if fd in ready:
                break
        if self._signal is not None:
            return b""
        data = source.read()
        return self._read(source) if data is None else data

    def _play(self, line: bytes) -> None:
        number = self._number + 1
        if line.endswith(b"\n"):
            self._number = number
        if number < self._playing.first:
            return
        if self._playing.factor < FASTEST:
            self._wait_until(self._start + self._schedule.due(moment(line)))
        if self._signal is not None:
            return
        if self._playing.rewrite_time:
            line = restamped(line, self._clock())
        self._ready.append(line)
        self._ready_bytes += len(line)
        if self._ready_bytes >= READ_BYTES:
            self._hand_on()

    def _wait_until(self, due: float) -> None:
        if due <= self._clock():
            return
        self._hand_on()
        while self._signal is None and (left := due - self._clock()) > 0:
            self._wait(left)

    def _hand_on(self) -> None:
        """Write what is due, and wait until the reader has taken it."""
        block = b"".join(self._ready)
        self._ready, self._ready_bytes = [], 0
        if block:
            self._outlet.write(block)
        while self._outlet.pending and self._signal is None:
            self._wait(None)

    def _wait(self, seconds: float | None) -> dict[int, int]:
        """Wait for a signal, the reader, a registered input or *seconds*."""
        fd = self._outlet.fileno()
        self._poll.register(fd, select.POLLOUT if self._outlet.pending else 0)
        ready = dict(self._poll.poll(None if seconds is None else seconds * 1000))
        if self._signals.fileno() in ready:
            self._obey()
        flags = ready.get(fd, 0)
        if flags & _GONE:
            raise ReaderGone
        if flags & select.POLLOUT:
            self._outlet.flush()
        return ready

    def _obey(self) -> None:
        """There is nothing to drain in a player: any signal ends it."""
        self._signals.drain()
        if self._signals.ended_by is not None:
            self._signal = int(self._signals.ended_by)
        elif self._signals.interrupts:
            self._signal = 2


class _Cutter:
    """Cuts blocks into lines that keep their line ends (or, *whole_blocks*, into runs of lines); only LF ends one."""

    def __init__(self, *, whole_blocks: bool) -> None:
        # given
        self._whole_blocks = whole_blocks
        # changing
        self._tail: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> list[bytes]:
        head, found, rest = data.rpartition(b"\n")
        if not found:
            return self._hold(rest)
        lines = [head + b"\n"] if self._whole_blocks else [line + b"\n" for line in head.split(b"\n")]
        lines[0] = b"".join(self._tail) + lines[0]
        self._tail, self._held = [], 0
        return lines + self._hold(rest)

    def finish(self) -> list[bytes]:
        """The last line, with the line end it lacked."""
        rest = b"".join(self._tail)
        return [rest + b"\n"] if rest else []

    def _hold(self, piece: bytes) -> list[bytes]:
        self._tail.append(piece)
        self._held += len(piece)
        if self._held <= MAX_LINE:
            return []
        whole = b"".join(self._tail)
        self._tail, self._held = [], 0
        return [whole]
