"""Reading logs for `agentpipe.stats`: files, packed files, folders, stdin; events as they are, all else through parse.

The rules this module keeps: the figures depend on what the logs say, never on when they are read, so a line without a
time has none; each log is read on its own, in bounded memory, however long it is. The first Ctrl-C on a pipe lets the
writer end, so that ``agentpipe run … | agentpipe stats`` says what there was.
"""

import os
import select
from collections.abc import Callable, Iterable, Iterator, Sequence

from agentpipe.errors import InputMissing
from agentpipe.event import JSON, Event, decode, encode
from agentpipe.intake import Intake
from agentpipe.io.saved_log import Source, opened
from agentpipe.io.signals import SignalWatch
from agentpipe.io.streams import is_terminal
from agentpipe.ndjson import DEFAULT_MAX_LINE
from agentpipe.parse import Parse, ParseOptions
from agentpipe.stats import Summary, table, told

__all__ = ["LOG_NAMES", "read_logs", "shown"]

#: What a log is called, where a folder is named instead of files.
LOG_NAMES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

#: When lines are said to be read: a line that tells no time gets this one, which no agent tells.
_NEVER = 0.0

#: Warnings of malformed lines for each log.
_WARNINGS = 3


def read_logs(paths: Sequence[str], warn: Callable[[str], None]) -> tuple[dict[str, JSON], int | None]:
    """The report of all logs at *paths* (``-``: stdin), and the number of the signal that cut the reading short.

    A folder stands for the logs in it and below, in the order of their names. *warn* takes lines for people. Raises
    InputMissing for what cannot be read.
    """
    summary = Summary()
    given: dict[str, int] = {"logs": 0, "lines": 0, "malformed": 0, "oversize": 0}
    with SignalWatch() as signals:
        reading = _Reading(signals)
        for path in _files(paths):
            log = _Log(path, summary, warn)
            with opened(path) as source:
                for data in reading.blocks(source):
                    log.feed(data)
            log.finish()
            given["logs"] += 1
            for name in ("lines", "malformed", "oversize"):
                given[name] += getattr(log, name)
            if reading.ended_by is not None:
                break
    return {"input": given, **summary.report()}, reading.ended_by


def shown(report: dict[str, JSON], *, json: bool) -> str:
    """The report as text for stdout: one JSON object, or tables, in colour on a terminal that wants it."""
    if json:
        return encode(report).decode() + "\n"
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return table(report, color=wanted and is_terminal(1))


class _Reading:
    """Blocks of a log, until its end or a signal."""

    def __init__(self, signals: SignalWatch) -> None:
        # given
        self._signals = signals
        # changing
        self.ended_by: int | None = None

    def blocks(self, source: Source) -> Iterator[bytes]:
        """What `Source.read` gives; a pipe is waited for in poll, so that signals are noticed."""
        while self._ready(source.fd_to_poll):
            data = source.read()
            if data:
                yield data
            elif data is not None:
                return

    def _ready(self, fd: int | None) -> bool:
        """Wait for *fd*; False when a signal says to stop."""
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        if fd is not None:
            poll.register(fd, select.POLLIN)
        while True:
            ready = dict(poll.poll(None if fd is not None else 0))
            if self._signals.fileno() in ready:
                self._signals.drain()
            live = fd is not None  # whoever writes got the same Ctrl-C, and ends
            if self._signals.ended_by is not None:
                self.ended_by = int(self._signals.ended_by)
            elif self._signals.interrupts > (1 if live else 0):
                self.ended_by = 2
            if self.ended_by is not None:
                return False
            if fd is None or fd in ready:
                return True


class _Log:
    """One log: its lines sorted into events, which pass as they are, and what an agent wrote, which is parsed."""

    def __init__(self, path: str, summary: Summary, warn: Callable[[str], None]) -> None:
        # given
        self._name = "stdin" if path == "-" else path
        self._summary = summary
        self._warn = warn
        self._intake = Intake("lines", max_line=DEFAULT_MAX_LINE, source=self._name, warn=warn)
        # changing
        self._parse: Parse | None = None
        self._processes: set[str] = set()  # runs of `agentpipe run` that are not parsed yet
        self._of_events = False  # whether the log has shown to be one of events
        self.lines = 0
        self.malformed = 0

    @property
    def oversize(self) -> int:
        """Lines over the limit."""
        return self._intake.oversize

    def feed(self, data: bytes) -> None:
        """The next block."""
        self._take(self._intake.feed(data, _NEVER))

    def finish(self) -> None:
        """The log has ended, and so have the runs in it that were parsed."""
        self._take(self._intake.finish(_NEVER))
        if self._parse is not None:
            self._count(self._parse.finish(_NEVER))

    def _take(self, lines: Iterable[Event]) -> None:
        for line in lines:
            self.lines += 1
            self._line(line)

    def _line(self, line: Event) -> None:
        """One line as the intake gives it: its bytes in an event that says nothing else, or what was too long."""
        found = told(line.line) if not line.type else None
        if found is None:
            if self._of_events and not line.type and not _is_json(line.line):
                self._complain(line.line)
            else:
                self._parsed(line)
            return
        self._of_events = True
        if found.type.startswith("process_") or found.run_id in self._processes:
            self._parsed(line)
            (self._processes.discard if found.type == "process_exited" else self._processes.add)(found.run_id)
        else:
            self._summary.take(found, line.line)

    def _parsed(self, line: Event) -> None:
        if self._parse is None:
            self._parse = Parse(ParseOptions(), self._run_id)
        self._count(self._parse.feed([line], _NEVER))

    def _run_id(self) -> str:
        """A run whose agent has no id is called what its log is called."""
        return self._name

    def _count(self, events: Iterable[Event]) -> None:
        for event in events:
            found = told(event.line)
            if found is not None:
                self._summary.take(found, event.line)

    def _complain(self, line: bytes) -> None:
        self.malformed += 1
        if self.malformed <= _WARNINGS:
            shown = "".join(c if c.isprintable() else "·" for c in line[:60].decode(errors="replace"))
            self._warn(f"{self._name}: skipped a malformed line among events: {shown}")


def _is_json(line: bytes) -> bool:
    try:
        decode(line)
    except ValueError:
        return False
    return True


def _files(paths: Sequence[str]) -> Iterator[str]:
    for path in paths or ("-",):
        if path != "-" and os.path.isdir(path):
            yield from _inside(path)
        else:
            yield path


def _inside(folder: str) -> Iterator[str]:
    found = False
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.endswith(LOG_NAMES):
                found = True
                yield os.path.join(place, name)
    if not found:
        raise InputMissing(folder, f"no log in this folder ({', '.join(LOG_NAMES)})")
