"""From the bytes of a stream to events: splitting, peeking, and what becomes of a line that is no event.

The rule this module keeps: a bad line never stops the stream and never vanishes uncounted. It is warned about (the
first few times) and counted; under ``strict`` it raises InputError. A line over the limit becomes a ``gap`` event with
reason ``oversize``, placed in its run when its head can still be read.
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal

from agentpipe.errors import InputError
from agentpipe.event import JSON, Event, gap, make, peek_lines, timestamp
from agentpipe.ndjson import DEFAULT_MAX_LINE, Line, Oversize, Splitter

__all__ = ["Intake"]

#: Warnings printed per problem before they are only counted: enough to see what is wrong, not a second log.
WARNINGS = 5

_RUN = re.compile(rb'"run_id":"((?:[^"\\]|\\.)+)"')
_AGENT = re.compile(rb'"agent_id":"((?:[^"\\]|\\.)*)"')
_SEQUENCE = re.compile(rb'"sequence":(\d+)')


class Intake:
    """Turns the bytes of one input into events.

    *reads* is ``events`` (every line is an event) or ``lines`` (a line is taken as it is: an Event with an empty
    ``type``). *source* names the input in messages; *warn* takes one line of text for people. ``malformed`` and
    ``oversize`` count lines.
    """

    def __init__(
        self,
        reads: Literal["events", "lines"] = "events",
        *,
        max_line: int = DEFAULT_MAX_LINE,
        strict: bool = False,
        source: str = "stdin",
        warn: Callable[[str], None] | None = None,
    ) -> None:
        # given
        self._peeks = reads == "events"
        self._strict = strict
        self._source = source
        self._warn = warn or _ignore
        self._splitter = Splitter(max_line)
        # changing
        self._lines_before = 0
        self.bytes_read = 0
        self.malformed = 0
        self.oversize = 0

    @property
    def torn(self) -> bool:
        """After `finish`: the last line came without its line end."""
        return self._splitter.torn

    def feed(self, data: bytes, now: float) -> list[Event]:
        """Return the events that *data* completed."""
        self.bytes_read += len(data)
        return self._events(self._splitter.feed(data), now)

    def finish(self, now: float) -> list[Event]:
        """Return the event of a last line without line end, if there is one."""
        return self._events(self._splitter.finish(), now)

    def report(self) -> dict[str, JSON]:
        """The counts as ``--stats`` prints them."""
        return {"malformed": self.malformed, "oversize": self.oversize, "bytes_in": self.bytes_read}

    def _events(self, lines: Sequence[Line], now: float) -> list[Event]:
        if not lines:
            return []
        events: list[Event] = []
        whole: list[bytes] = []
        for index, line in enumerate(lines):
            if isinstance(line, bytes):
                whole.append(line)
                continue
            events += self._peeked(whole, index - len(whole))
            whole = []
            events += self._declared(line, index, now)
        events += self._peeked(whole, len(lines) - len(whole))
        self._lines_before += len(lines)
        return events

    def _peeked(self, lines: list[bytes], before: int) -> list[Event]:
        if not self._peeks:
            return [Event(line=line) for line in lines]
        events, bad = peek_lines(lines)
        for index, line, problem in bad:
            self._complain(before + index, line, problem)
        return events

    def _complain(self, index: int, line: bytes, problem: str) -> None:
        number = self._lines_before + index + 1
        if self._strict:
            raise InputError(self._source, number, _column(problem), f"{problem}: {_shown(line)}")
        self.malformed += 1
        if self.malformed <= WARNINGS:
            self._warn(f"{self._source}:{number}: skipped a malformed line ({problem}): {_shown(line)}")
        if self.malformed == WARNINGS:
            self._warn(f"{self._source}: further malformed lines are only counted")

    def _declared(self, line: Oversize, index: int, now: float) -> list[Event]:
        self.oversize += 1
        number = self._lines_before + index + 1
        if self.oversize <= WARNINGS:
            self._warn(f"{self._source}:{number}: skipped a line of {line.size_bytes} bytes, over the limit")
        if not self._peeks:
            payload = {"count": 1, "reason": "oversize", "ranges": [], "bytes": line.size_bytes}
            payload["head"] = line.head.decode(errors="replace")
            return [make("gap", payload, run_id="", agent_id="", sequence=None, at=timestamp(now))]
        run, sequence = _RUN.search(line.head), _SEQUENCE.search(line.head)
        if run is None or sequence is None:
            return []
        agent = _AGENT.search(line.head)
        place = int(sequence[1])
        return [
            gap(
                [(place, place)],
                "oversize",
                run_id=run[1].decode(errors="replace"),
                agent_id=agent[1].decode(errors="replace") if agent else "",
                at=timestamp(now),
            )
        ]


def _ignore(message: str) -> None:
    """Nobody wants to be warned; the counts remain."""


def _column(problem: str) -> int:
    """The place that the decoder's message gives in bytes, counted from 1."""
    found = re.search(r"byte (\d+)", problem)
    return int(found[1]) + 1 if found else 1


def _shown(line: bytes) -> str:
    """The first characters of a hostile line, safe for a terminal."""
    text = line[:60].decode(errors="replace")
    return "".join(c if c.isprintable() else "·" for c in text) + ("…" if len(line) > 60 else "")
