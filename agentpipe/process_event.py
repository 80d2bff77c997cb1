"""From the bytes of a running command to ``process_*`` events, by joining bytes.

The rule this module keeps: what the command printed is in its events as the same bytes. A line that is a JSON object
or array is spliced in as ``data``, never encoded again; any other line is ``text``. Nothing is skipped: blank lines are
lines, a last line without its line end is ``torn``, invalid UTF-8 is replaced by U+FFFD and flagged ``invalid_utf8``,
and a line whose event would be over the line limit is declared by a ``gap``.

A run of a million short lines is common (a build's log), so a batch of lines of one kind is formatted by a handful of
calls: 0.2 µs a line, against 0.9 µs with one encoder call each.
"""

from collections.abc import Callable, Sequence
from typing import cast

import msgspec
import orjson

from agentpipe.event import JSON, encode, gap, make, timestamp
from agentpipe.ndjson import DEFAULT_MAX_LINE, Line, Oversize, Splitter
from agentpipe.payload import EndReason, Error, ProcessExited, ProcessStarted

__all__ = ["ProcessEvents"]

_CHECK = msgspec.json.Decoder(msgspec.Raw).decode  # reads the whole value, builds nothing; UTF-8 is checked apart

#: Characters that stand for themselves inside a JSON string: printable ASCII without the quote and the backslash.
_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'"\\')) + b"\n"

#: A control character becomes six when it is escaped; lines that could outgrow the limit are looked at one by one.
_GROWTH = 6

#: What an envelope adds to its head at most: two numbers, a timestamp, the payload's keys.
_MARGIN = 512

_OPENERS = {b"{", b"["}
_BLANKS = {b" ", b"\t"}


class ProcessEvents:
    """Makes the events of one run and numbers them from 1 over both of its streams.

    Each method returns the lines of its events, LF included, ready to be written. *at* is Unix seconds; *max_line*
    bounds both a line of the command and the event made of it, in bytes. *watch* is shown every line of stdout.
    ``oversize`` counts the lines over the limit.
    """

    def __init__(
        self,
        *,
        run_id: str,
        agent_id: str,
        work_id: str | None = None,
        max_line: int = DEFAULT_MAX_LINE,
        watch: Callable[[list[bytes]], None] | None = None,
    ) -> None:
        # given
        self._run_id = run_id
        self._agent_id = agent_id
        self._work_id = work_id
        self._max_line = max_line
        self._watch = watch
        self._head, self._identity = _frame(run_id, agent_id, work_id)
        # changing
        self._splitters = {name: Splitter(max_line) for name in ("stdout", "stderr")}
        self._sequence = 0
        self.oversize = 0

    @property
    def last_sequence(self) -> int:
        """The number of the last event made; 0 before the first."""
        return self._sequence

    def started(self, command: Sequence[str], cwd: str, pid: int, at: float) -> bytes:
        """The first event of the run."""
        return self._made("process_started", ProcessStarted(command=list(command), cwd=cwd, pid=pid), at)

    def output(self, stream: str, data: bytes, at: float) -> bytes:
        """The events of the lines that *data*, read from *stream* (``stdout`` or ``stderr``), completed."""
        splitter = self._splitters[stream]
        lines = splitter.feed(data)
        return self._lines(stream, _with_blanks(lines, splitter.blanks), at)

    def ended(self, stream: str, at: float) -> bytes:
        """The event of a last line of *stream* that came without its line end, or nothing."""
        splitter = self._splitters[stream]
        lines = splitter.finish()
        return self._lines(stream, _with_blanks(lines, splitter.blanks), at, torn=True)

    def warning(self, message: str, code: str, at: float) -> bytes:
        """An ``error`` event of rank ``warning``: something that a reader of the stream should know about it."""
        return self._made("error", Error(rank="warning", message=message, code=code), at)

    def exited(
        self, *, exit_code: int | None, signal: str | None, duration_ms: int, reason: EndReason, at: float
    ) -> bytes:
        """The last event of the run."""
        payload = ProcessExited(duration_ms=duration_ms, reason=reason, exit_code=exit_code, signal=signal)
        return self._made("process_exited", payload, at)

    def _made(self, kind: str, payload: JSON, at: float) -> bytes:
        self._sequence += 1
        event = make(
            kind,
            payload,
            run_id=self._run_id,
            agent_id=self._agent_id,
            work_id=self._work_id,
            sequence=self._sequence,
            at=timestamp(at),
        )
        return event.line + b"\n"

    def _lines(self, stream: str, lines: Sequence[Line], at: float, *, torn: bool = False) -> bytes:
        if not lines:
            return b""
        if self._watch is not None and stream == "stdout":
            self._watch([line for line in lines if isinstance(line, bytes)])
        tail = b',"torn":true}}\n' if torn else b"}}\n"
        moment = timestamp(at).encode()
        sure = (self._max_line - len(self._head) - _MARGIN) // _GROWTH
        if max(map(len, lines)) <= sure and Oversize not in map(type, lines):
            return self._batch(stream, cast("list[bytes]", lines), moment, tail)
        return b"".join([self._one(stream, line, moment, tail, at) for line in lines])

    def _one(self, stream: str, line: Line, moment: bytes, tail: bytes, at: float) -> bytes:
        """The event of a line that may be over the limit, or the gap that stands for it."""
        if isinstance(line, bytes):
            made = self._batch(stream, [line], moment, tail)
            if len(made) - 1 <= self._max_line:
                return made
        else:
            self._sequence += 1
        self.oversize += 1
        missing = gap(
            [(self._sequence, self._sequence)],
            "oversize",
            run_id=self._run_id,
            agent_id=self._agent_id,
            work_id=self._work_id,
            at=timestamp(at),
        )
        return missing.line + b"\n"

    def _batch(self, stream: str, lines: list[bytes], moment: bytes, tail: bytes) -> bytes:
        """Interleave the pieces of every event: number, middle, number, payload, value, and the start of the next."""
        count = len(lines)
        if not count:
            return b""
        key, values, close = _values(lines)
        first = self._sequence + 1
        self._sequence += count
        numbers = str(list(range(first, first + count)))[1:-1].encode().split(b", ")
        pieces = [b',"timestamp":"' + moment + self._identity] * (6 * count)
        pieces[0::6] = numbers
        pieces[2::6] = numbers
        pieces[3::6] = [b'","payload":{"stream":"' + stream.encode() + b'",' + key] * count
        pieces[4::6] = values
        pieces[5::6] = [close + tail + self._head] * count
        pieces[-1] = close + tail
        return self._head + b"".join(pieces)


def _frame(run_id: str, agent_id: str, work_id: str | None) -> tuple[bytes, bytes]:
    """What stands before the sequence number, and between the timestamp and the number in the event's id."""
    envelope = {"type": "process_output", "run_id": run_id, "agent_id": agent_id}
    if work_id is not None:
        envelope["work_id"] = work_id
    return encode(envelope)[:-1] + b',"sequence":', b'","event_id":' + encode(f"{run_id}:")[:-1]


def _with_blanks(lines: list[Line], blanks: Sequence[int]) -> list[Line]:
    """Put the blank lines back where the splitter, made for NDJSON, dropped them."""
    if not blanks:
        return lines
    whole: list[Line] = []
    start = 0
    for index in blanks:
        whole += lines[start:index]
        whole.append(b"")
        start = index
    return whole + lines[start:]


def _values(lines: list[bytes]) -> tuple[bytes, list[bytes], bytes]:
    """The payload's key, the value of each line, and what closes it: stated once when the lines are of one kind."""
    firsts = {line[:1] for line in lines}
    if firsts <= _OPENERS and _all_json(lines):
        return b'"data":', lines, b""
    if firsts.isdisjoint(_OPENERS | _BLANKS):
        if not b"\n".join(lines).translate(None, _PLAIN):
            return b'"text":"', lines, b'"'
        return b"", [_text(line) for line in lines], b""
    return b"", [b'"data":' + line if _is_json(line) else _text(line) for line in lines], b""


def _all_json(lines: list[bytes]) -> bool:
    """Whether every one of *lines*, all of which open with a bracket, can be spliced into an event."""
    block = b"\n".join(lines)
    if b"\r" in block:
        return False
    try:
        block.isascii() or block.decode()
        for line in lines:
            _CHECK(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_json(line: bytes) -> bool:
    """Whether *line* is a JSON object or array that can be spliced into an event: valid JSON, UTF-8, and without a
    carriage return (which is white space in JSON and the end of a line to many readers).
    """
    return line.lstrip(b" \t")[:1] in _OPENERS and _all_json([line])


def _text(line: bytes) -> bytes:
    try:
        return b'"text":' + orjson.dumps(line.decode())
    except UnicodeDecodeError:
        return b'"text":' + orjson.dumps(line.decode(errors="replace")) + b',"invalid_utf8":true'
