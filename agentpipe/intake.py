"""From the bytes of a stream to events: splitting, peeking, and what becomes of a line that is no event.

The rule this module keeps: a bad line never stops the stream and never vanishes uncounted. It is warned about (the
first few times) and counted; under ``strict`` it raises InputError, once the events before it were handed out. A line
over the limit becomes a ``gap`` event with reason ``oversize``, placed in its run when its head can still be read.
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal, NoReturn, cast

from agentpipe.errors import InputError
from agentpipe.event import JSON, Event, decode, gap, make, peek_lines, timestamp
from agentpipe.ndjson import DEFAULT_MAX_LINE, Line, Oversize, Splitter

__all__ = ["Intake", "column"]

#: Warnings printed per problem before they are only counted: enough to see what is wrong, not a second log.
WARNINGS = 5

# Compiled by `re` when a line over the limit comes: every start-up would pay for it otherwise.
_NAMED = rb'"%s"\s*:\s*("(?:[^"\\]|\\.)*")'
_SEQUENCE = rb'"sequence"\s*:\s*(\d{1,16})\b'


class Intake:
    """Turns the bytes of one input into events.

    *reads* is ``events`` (every line is an event) or ``lines`` (a line is taken as it is: an Event with an empty
    ``type``; under *strict* its ``sequence`` is the line's number in the input, so that a stage can name a bad one).
    *source* names the input in messages; *warn* takes one line of text for people. ``malformed`` and
    ``oversize`` count lines. ``failure`` is the InputError that ended a strict input while events before the bad line
    were still to be handed out; the next `feed` or `finish` raises it, and a driver may do so at once.
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
        self.failure: InputError | None = None
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
        if self.failure is not None:
            raise self.failure
        blanks = self._splitter.blanks
        events: list[Event] = []
        if lines:
            try:
                self._take(lines, events, now)
            except InputError as error:
                if not events:
                    raise
                self.failure = error
        self._lines_before += len(lines) + len(blanks)
        return events

    def _take(self, lines: Sequence[Line], events: list[Event], now: float) -> None:
        """Append to *events* what *lines* hold, in order."""
        if not self._splitter.overlong:
            self._peek(cast("list[bytes]", lines), 0, events)
            return
        whole: list[bytes] = []
        for index, line in enumerate(lines):
            if isinstance(line, bytes):
                whole.append(line)
                continue
            self._peek(whole, index - len(whole), events)
            whole = []
            events += self._declared(line, index, now)
        self._peek(whole, len(lines) - len(whole), events)

    def _peek(self, lines: list[bytes], before: int, events: list[Event]) -> None:
        if not self._peeks:
            events += self._numbered(lines, before) if self._strict else [Event(line=line) for line in lines]
            return
        found, bad = peek_lines(lines)
        if bad and self._strict:
            first, line, problem = bad[0]
            events += found[:first]  # those before it: each line gives one event
            self._refuse(before + first, line, problem)
        events += found
        for index, line, problem in bad:
            self._complain(before + index, line, problem)

    def _numbered(self, lines: list[bytes], before: int) -> list[Event]:
        return [Event(sequence=self._number(index), line=line) for index, line in enumerate(lines, before)]

    def _number(self, index: int) -> int:
        """The number in the input, from 1, of the line with this index in what the splitter returned last."""
        from bisect import bisect_right  # only for a bad line, and under strict

        return self._lines_before + index + 1 + bisect_right(self._splitter.blanks, index)

    def _refuse(self, index: int, line: bytes, problem: str) -> NoReturn:
        raise InputError(self._source, self._number(index), column(problem, line), f"{problem}: {_shown(line)}")

    def _complain(self, index: int, line: bytes, problem: str) -> None:
        self.malformed += 1
        if self.malformed <= WARNINGS:
            number = self._number(index)
            self._warn(f"{self._source}:{number}: skipped a malformed line ({problem}): {_shown(line)}")
        if self.malformed == WARNINGS:
            self._warn(f"{self._source}: further malformed lines are only counted")

    def _declared(self, line: Oversize, index: int, now: float) -> list[Event]:
        self.oversize += 1
        if self.oversize <= WARNINGS:
            number = self._number(index)
            self._warn(f"{self._source}:{number}: skipped a line of {line.size_bytes} bytes, over the limit")
        if not self._peeks:
            payload = {"count": 1, "reason": "oversize", "ranges": [], "bytes": line.size_bytes}
            payload["head"] = line.head.decode(errors="replace")
            return [make("gap", payload, run_id="", agent_id="", sequence=None, at=timestamp(now))]
        run, sequence = _named("run_id", line.head), re.search(_SEQUENCE, line.head)
        if not run or sequence is None:
            return []
        place = int(sequence[1])
        return [
            gap(
                [(place, place)],
                "oversize",
                run_id=run,
                agent_id=_named("agent_id", line.head) or "",
                work_id=_named("work_id", line.head),
                at=timestamp(now),
            )
        ]


def _ignore(message: str) -> None:
    """Nobody wants to be warned; the counts remain."""


def _named(name: str, head: bytes) -> str | None:
    """The text of a field in the first bytes of an event, or None."""
    match = re.search(_NAMED % name.encode(), head)
    try:
        found = decode(match[1]) if match else None
    except ValueError:
        return None
    return found if isinstance(found, str) else None


def column(problem: str, line: bytes) -> int:
    """The place that the decoder's message gives in bytes, counted from 1; the end of a line that was cut."""
    found = re.search(r"\(byte (\d+)\)|in position (\d+)|\(char (\d+)\)", problem)
    if found and found[3]:  # the standard library counts characters
        return len(line.decode(errors="replace")[: int(found[3])].encode()) + 1
    if found:
        past = problem.startswith("JSON is malformed: trailing")  # the decoder stands behind the first of these
        return int(found[1] or found[2]) + (not past)
    return len(line) + 1 if "truncated" in problem else 1


def _shown(line: bytes) -> str:
    """The first characters of a hostile line, safe for a terminal."""
    text = line[:60].decode(errors="replace")
    return "".join(c if c.isprintable() else "·" for c in text) + ("…" if len(line) > 60 else "")
