"""Bytes to lines and lines to bytes.

The rule this module keeps: every byte that comes in leaves as part of a line or is counted, and memory is bounded by
the line limit whatever comes in. Lines end at LF alone (U+2028 is text); CR before LF, a byte-order mark at the start
and blank lines are dropped (NDJSON permits it); a last line without its LF is a line.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

__all__ = ["DEFAULT_MAX_LINE", "Line", "Oversize", "Splitter", "join"]

#: Agents print lines of 4 MB (a file written twice in one line); four times that is room without being endless.
DEFAULT_MAX_LINE = 16 * 1024 * 1024

#: How much of a line over the limit is kept: enough to find the head of an event or to show a human what it was.
HEAD_BYTES = 4096

_BOM = b"\xef\xbb\xbf"


class Oversize(NamedTuple):
    """Stands where a line over the limit was: its first bytes and its whole size in bytes."""

    head: bytes
    size_bytes: int


Line: TypeAlias = bytes | Oversize


class Splitter:
    """Cuts a byte stream into lines without their line ends.

    Feed it what each read brought, then call `finish` once. ``torn`` tells after `finish` whether the last line came
    without its line end.
    """

    def __init__(self, max_line: int = DEFAULT_MAX_LINE) -> None:
        # given
        self._max_line = max_line
        # changing
        self._pieces: list[bytes] = []
        self._held = 0  # bytes of the unfinished line so far, kept or not
        self._at_start = True
        self.torn = False

    def feed(self, data: bytes) -> list[Line]:
        """Return the lines that *data* completed, in order."""
        if self._at_start and data:
            data = self._without_bom(data)
        first, *rest = data.split(b"\n")
        if not rest:
            self._hold(first)
            return []
        lines: list[Line] = []
        if self._held:
            self._hold(first)
            lines.append(self._take())
        else:
            lines.append(first)
        tail = rest.pop()
        lines += rest
        if tail:
            self._hold(tail)
        return self._tidy(lines, returns=b"\r" in data, long=len(data) > self._max_line)

    def finish(self) -> list[Line]:
        """Return the last line when it came without its line end, else nothing."""
        if not self._held:
            return []
        self.torn = True
        return self._tidy([self._take()], returns=True, long=True)

    def _without_bom(self, data: bytes) -> bytes:
        if self._held:  # the mark itself was torn
            data = b"".join(self._pieces) + data
            self._pieces, self._held = [], 0
        if len(data) < len(_BOM) and _BOM.startswith(data):
            return data  # undecided; it is held and looked at again
        self._at_start = False
        return data.removeprefix(_BOM)

    def _hold(self, piece: bytes) -> None:
        self._held += len(piece)
        if self._held <= self._max_line:
            self._pieces.append(piece)
            return
        head = b"".join(self._pieces)[:HEAD_BYTES]
        self._pieces = [head + piece[: HEAD_BYTES - len(head)]]

    def _take(self) -> Line:
        whole = b"".join(self._pieces)
        size = self._held
        self._pieces, self._held = [], 0
        return whole if size <= self._max_line else Oversize(whole[:HEAD_BYTES], size)

    def _tidy(self, lines: list[Line], *, returns: bool, long: bool) -> list[Line]:
        if returns:
            lines = [line.removesuffix(b"\r") if isinstance(line, bytes) else line for line in lines]
        if long:
            lines = [self._checked(line) for line in lines]
        if b"" in lines:
            lines = [line for line in lines if line]
        return lines

    def _checked(self, line: Line) -> Line:
        if isinstance(line, bytes) and len(line) > self._max_line:
            return Oversize(line[:HEAD_BYTES], len(line))
        return line


def join(lines: Iterable[bytes]) -> bytes:
    """Lines as bytes, each with its LF; empty when there are none."""
    block = b"\n".join(lines)
    return block + b"\n" if block else b""
