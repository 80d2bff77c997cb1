"""When each line of a saved log is to be played.

The rule this module keeps: the schedule is absolute. The moment of a line is a sum of what the log itself says, never
of waits that were made, so a slow reader delays lines but never stretches the rest; and time in a log never runs
backwards: a line whose timestamp is missing, or earlier than one before it, is due together with the line before it.
"""

import math
import re

import msgspec

from agentpipe.event import decode, encode, seconds, timestamp

__all__ = ["FASTEST", "Schedule", "moment", "restamped", "speed"]

#: The factor of ``--speed max``: nothing is ever waited for.
FASTEST = math.inf

#: A number over this is milliseconds (OpenCode writes them): as seconds it would be after the year 5000.
_MILLISECONDS = 1e11

_VALUE = re.compile(rb'\s*:\s*("(?:[^"\\]|\\.)*"|[^\s,}"]+)')


class _Stamp(msgspec.Struct, gc=False):
    """The one field that timing needs, at the top level of a line."""

    timestamp: str | int | float | None = None


_STAMP = msgspec.json.Decoder(_Stamp)


def speed(text: str) -> float:
    """A factor such as ``1``, ``2.5``, ``10x`` or ``max``. Raises ValueError when *text* is none."""
    plain = text.strip().lower()
    if plain == "max":
        return FASTEST
    try:
        factor = float(plain.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < FASTEST:
        raise ValueError(f"{text!r} is not a speed such as 1, 2.5, 10x or max")
    return factor


def moment(line: bytes) -> float | None:
    """Unix seconds of the top-level ``timestamp`` of *line*; None when it has none that can be read."""
    if b'"timestamp"' not in line:
        return None
    try:
        found = _STAMP.decode(line).timestamp
    except (ValueError, RecursionError):  # a malformed line, or a timestamp of another type: played all the same
        return None
    if isinstance(found, str):
        try:
            return seconds(found)
        except (ValueError, OverflowError):
            return None
    if found is None or not math.isfinite(found):
        return None
    return found / 1000 if abs(found) > _MILLISECONDS else float(found)


class Schedule:
    """Says of line after line how many seconds after the start it is due.

    *factor* divides the log's time; a silence in the log longer than *max_idle* seconds (of the log's time; 0 for no
    cap) counts as that long. ``stamped`` counts the lines whose own timestamp was used.
    """

    def __init__(self, factor: float = 1.0, max_idle: float = 0.0) -> None:
        # given
        self._factor = factor
        self._max_idle = max_idle
        # changing
        self._played = 0.0  # seconds of log time since the first line, silences capped
        self._latest: float | None = None
        self.stamped = 0

    def due(self, at: float | None) -> float:
        """Seconds after the start for the next line, whose own time is *at* (Unix seconds) or unknown."""
        if at is not None:
            self.stamped += 1
            if self._latest is not None and at > self._latest:
                silence = at - self._latest
                self._played += min(silence, self._max_idle) if self._max_idle else silence
            self._latest = at if self._latest is None else max(at, self._latest)
        return self._played / self._factor

    def rewind(self) -> None:
        """Another log, or the same one again, follows at once: its times are not compared with those before."""
        self._latest = None


def restamped(line: bytes, now: float) -> bytes:
    """*line* with the value of its top-level ``timestamp`` replaced by *now* (Unix seconds); all other bytes stay.

    A line without a timestamp, or with one in a form that is not text or a number, comes back as it is.
    """
    if moment(line) is None:
        return line
    before = decode(line)
    old = before["timestamp"]
    new = timestamp(now) if isinstance(old, str) else (int(now * 1000) if abs(old) > _MILLISECONDS else now)
    wanted = {**before, "timestamp": new}
    found = line.find(b'"timestamp"')
    while found >= 0:
        changed = _spliced(line, found + len(b'"timestamp"'), encode(new))
        if changed is not None and decode(changed) == wanted:
            return changed
        found = line.find(b'"timestamp"', found + 1)
    return line


def _spliced(line: bytes, after_key: int, value: bytes) -> bytes | None:
    """*line* with the scalar that follows the key ending at *after_key* replaced; None when no scalar follows."""
    found = _VALUE.match(line, after_key)
    return line[: found.start(1)] + value + line[found.end(1) :] if found else None
