"""A spool read as events: from its first line on, run by run.

The rule this module keeps: which events a spool makes, with which numbers, depends on its bytes alone. A sender that
was killed is followed by one that makes them all again, and the hub takes none of them twice.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence

from agentpipe.errors import OutputError
from agentpipe.event import JSON, Event, decode, make, seconds
from agentpipe.io.hook.spool import FIRST, HEADER_START, LAST, MARK, Spool, header, said_at, stamp
from agentpipe.stage import Stage

__all__ = ["Tape", "heading"]

#: One read takes about this much, so that the hub gets the first events of a long session at once.
READ_BYTES = 1 << 20

#: A hook holds the lock for a millisecond. Only one that was stopped in there would keep us waiting.
LOCK_S = 10.0

_RECEIVED = b'{"received_at":"'
_TIME = slice(len(_RECEIVED), len(_RECEIVED) + 24)


class Tape:
    """The events of the spool at *path*. *parser* makes the stage that reads the hooks of the run with a given id.

    ``ended`` says that the session has said its end, and no new start; ``closed`` that no run is open, because what was
    read last is the mark of a run's end or nothing at all.
    """

    def __init__(self, path: str, parser: Callable[[str], Stage]) -> None:
        # given
        self.path = path
        self._parser = parser
        # changing
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = 0  # of the first byte that was not read
        self._base, self._generation = heading(b"", path)
        self._closed_at = 0  # the offset behind the last mark of an end
        self._stage: Stage | None = None
        self._now = 0.0
        self.ended = False

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

    @property
    def behind(self) -> bool:
        """Whether there is something that was not read."""
        return os.fstat(self._fd).st_size > self._offset

    @property
    def closed(self) -> bool:
        """Whether no run is open."""
        return self._stage is None

    @property
    def done_with(self) -> bool:
        """Whether there is an ended run to `forget`."""
        return bool(self._closed_at)

    def read(self) -> list[Event]:
        """The events that the next lines make. Raises OutputError."""
        if not self.behind:
            return []
        try:
            with self._spool() as spool:
                size = spool.size  # what is before this is never taken back
        except OSError as error:
            raise OutputError(self.path, error.strerror or str(error)) from error
        events: list[Event] = []
        for line, behind in self._lines(size):
            events += self._told(line, behind)
        return events

    def close_run(self, reason: str) -> bool:
        """Say in the spool that the run ends here; False when there is more to read before that. Raises OSError."""
        with self._spool() as spool:
            if spool.size != self._offset:
                return False  # a hook came meanwhile
            spool.mark(b'end","reason":"%s","at":"%s"}' % (reason.encode(), stamp()))
        return True

    def forget(self) -> None:
        """Take what belongs to ended runs out of the file: the hub has it. What came behind stays, in a run of its own.

        The new file appears whole, or not at all. Raises OSError.
        """
        with self._spool() as spool:
            start = header(self._generation, self._base.encode(), spool.lost)
            spool.replace(start, spool.read(self._closed_at, spool.size - self._closed_at))
            os.close(self._fd)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset += len(start) - self._closed_at
        self._closed_at = 0

    def leave(self, lock: int) -> bool:
        """Give the sender's *lock* back if everything was read; a hook that comes now starts a new sender."""
        with self._spool() as spool:
            if spool.size != self._offset:
                return False
            os.close(lock)
        return True

    def _spool(self) -> Spool:
        return Spool(self.path, b"", time.monotonic() + LOCK_S)

    def _lines(self, size: int) -> Iterator[tuple[bytes, int]]:
        """The next lines of the first *size* bytes, each with the offset behind it; each is whole, but for one whose
        hook was killed.
        """
        want = READ_BYTES
        data = os.pread(self._fd, min(want, size - self._offset), self._offset)
        while b"\n" not in data and self._offset + len(data) < size:
            want *= 2
            data = os.pread(self._fd, min(want, size - self._offset), self._offset)
        whole = len(data) if self._offset + len(data) >= size else data.rfind(b"\n") + 1
        for line in data[:whole].removesuffix(b"\n").split(b"\n"):
            self._offset = min(self._offset + len(line) + 1, size)
            yield line, self._offset

    def _told(self, line: bytes, behind: int) -> Sequence[Event]:
        """The events that a *line* makes; *behind* is the offset behind it."""
        if not line:
            return ()
        if line.startswith(HEADER_START) and behind == len(line) + 1:
            self._base, self._generation = heading(line, self.path)
            return ()
        mark = _mark(line)
        if mark is not None:
            return self._marked(mark, behind)
        self.ended = _ends(line) or (self.ended and said_at(line, FIRST) < 0)
        return self._fed(Event(line=line), _received(line) or self._now)

    def _marked(self, found: dict[str, JSON], behind: int) -> Sequence[Event]:
        now = seconds(found["at"])
        if found["agentpipe"] == "end":
            return self._end(now, behind)
        payload = {"count": found.get("count", 1), "ranges": []}
        if found["agentpipe"] == "lost":
            payload["reason"] = "source"
        else:
            payload |= {"reason": "oversize", "bytes": found["bytes"], "head": found["head"]}
        # As an intake tells of a line that it could not take: without a run, which the stage knows.
        return self._fed(make("gap", payload, run_id="", agent_id="", sequence=None, at=found["at"]), now)

    def _fed(self, event: Event, now: float) -> Sequence[Event]:
        if self._stage is None:
            number = f"/{self._generation}" if self._generation > 1 else ""
            self._stage = self._parser(self._base + number)
        self._now = now
        return self._stage.feed([event], now)

    def _end(self, now: float, behind: int) -> Sequence[Event]:
        stage, self._stage = self._stage, None
        self._generation += 1
        self._closed_at = behind
        self.ended = False
        return stage.finish(now) if stage is not None else ()


def heading(line: bytes, path: str) -> tuple[str, int]:
    """The run's id and the generation that the header *line* of the spool at *path* tells; those of a new one where its
    hook was killed while writing it.
    """
    try:
        found = decode(line)
        return str(found["run_id"]), int(found["generation"])
    except (ValueError, KeyError):
        return os.path.basename(path).removesuffix(".ndjson") + "/hooks", 1


def _mark(line: bytes) -> dict[str, JSON] | None:
    """The mark of ours that *line* is; None for a hook's line, and for a mark whose writer was killed."""
    if not line.startswith(MARK):
        return None
    try:
        found: dict[str, JSON] = decode(line)
    except ValueError:
        return None
    return found if found.get("at") else None


def _received(line: bytes) -> float | None:
    """When the hook came, as the hook itself has written; None for a line that is none of its."""
    if not line.startswith(_RECEIVED):
        return None
    try:
        return seconds(line[_TIME].decode("ascii", "replace"))
    except ValueError:
        return None


def _ends(line: bytes) -> bool:
    """Whether *line* says that the session ends. That text may stand in what a tool was given, too."""
    if said_at(line, LAST) < 0:
        return False
    try:
        found = decode(line)
    except ValueError:
        return False
    return type(found) is dict and found.get("hook_event_name") == "SessionEnd"
