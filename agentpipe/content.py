"""The whole of something that an event shows in part, put together from the ``content`` events of a log.

The rules this module keeps: **the whole or none of it.** What is missing is known before the first byte is given; and
never more than a few parts are in memory. The parts of a whole have consecutive numbers in their run, the first of
which is in its ``ref`` (``docs/events.md``, ``content``); whatever else stands there is not a part.
"""

from binascii import a2b_base64
from collections.abc import Iterator
from typing import NamedTuple

from agentpipe.event import Event, peek_lines
from agentpipe.history import Log, OfRun

__all__ = ["Survey", "pieces", "split_ref", "survey"]

#: What is read from the log at once: several parts as `parse` makes them, or one of the largest that a hub takes.
READ_EVENTS = 500
READ_BYTES = 512 * 1024

_STANDARD = bytes.maketrans(b"-_", b"+/")
_NO_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"))


class Survey(NamedTuple):
    """What the log has of a whole.

    ``parts`` is how many there are to be, 0 when none is left to say so; ``missing`` are the first and last of those
    that are not there, from 1; ``size_bytes`` is the true size of the whole when none is missing. ``after`` is the
    offset behind which its first part is.
    """

    ref: str
    media_type: str = ""
    parts: int = 0
    missing: tuple[tuple[int, int], ...] = ()
    size_bytes: int = 0
    after: int = 0


class _Part(NamedTuple):
    """A part: its number and how many there are, and its ``data`` as it stands in the event."""

    number: int
    parts: int
    media_type: str
    data: str
    base64: bool


def split_ref(ref: str) -> tuple[str, int] | None:
    """The run and the number of a whole's first part; None when *ref* is no id of a numbered event."""
    run_id, _, number = ref.rpartition(":")
    if not run_id or not number.isdecimal() or not number.isascii() or len(number) > 16 or number[0] == "0":
        return None
    return run_id, int(number)


def survey(log: Log, ref: str) -> Survey | None:
    """Look whether all parts of *ref* are there; None when something else is there, or *ref* names nothing."""
    named = split_ref(ref)
    if named is None:
        return None
    run_id, first = named
    found = Survey(ref)
    missing: list[tuple[int, int]] = []
    joiner = _Joiner()
    expected, size = 1, 0
    for offset, event in _run_from(log, run_id, first, log.place(run_id, first)):
        part = _part(event, ref, first)
        if part is None or (found.parts and part.parts != found.parts):
            if event.sequence == first:
                return None
            break
        if not found.parts:
            found = Survey(ref, part.media_type, part.parts, after=offset - 1)
        if part.number > expected:
            missing.append((expected, part.number - 1))
        size += len(joiner.add(part))
        expected = part.number + 1
        if expected > part.parts:
            break
    if expected <= found.parts:
        missing.append((expected, found.parts))
    return found._replace(missing=tuple(missing), size_bytes=size + len(joiner.end()))


def pieces(log: Log, found: Survey) -> Iterator[bytes]:
    """The bytes of a whole that was not missing anything, piece by piece. Raises LookupError when something is now."""
    run_id, first = split_ref(found.ref) or ("", 0)
    joiner = _Joiner()
    expected = 1
    for _, event in _run_from(log, run_id, first, found.after):
        part = _part(event, found.ref, first)
        if part is None or part.number != expected:
            break
        yield joiner.add(part)
        expected += 1
        if expected > found.parts:
            yield joiner.end()
            return
    raise LookupError(found.ref)


def _run_from(log: Log, run_id: str, number: int, after: int) -> Iterator[tuple[int, Event]]:
    """The events of a run from *number* on, which lie after the offset *after*, with their offsets; no gaps."""
    wanted = OfRun(run_id)
    while (found := log.of_run(wanted, after, READ_EVENTS, READ_BYTES)).lines:
        for offset, event in zip(found.offsets, peek_lines(found.lines)[0], strict=True):
            if event.type != "gap" and (event.sequence or 0) >= number:
                yield offset, event
        after = found.next


def _part(event: Event, ref: str, first: int) -> _Part | None:
    """*event* as a part of *ref*, whose first part has the number *first*; None when it is none."""
    if event.type != "content":
        return None
    payload = event.payload
    number, parts, media_type = (event.sequence or 0) - first + 1, payload.get("parts"), payload.get("media_type")
    base64 = "base64" in payload
    data = payload.get("base64" if base64 else "text")
    if payload.get("ref") != ref or payload.get("part") != number or type(parts) is not int or parts < number:
        return None
    if not isinstance(media_type, str) or not isinstance(data, str):
        return None
    return _Part(number, parts, media_type, data, base64)


class _Joiner:
    """Parts to bytes. Base64 of any make is read as far as it can be: four characters are three bytes, over the ends
    of parts too.
    """

    def __init__(self) -> None:
        self._left = b""

    def add(self, part: _Part) -> bytes:
        """The bytes that *part* completes."""
        if not part.base64:
            return self.end() + part.data.encode("utf-8", "surrogatepass")
        text = part.data.encode("ascii", "ignore")
        data = self._left + text.translate(_STANDARD, _NO_BASE64)
        whole = len(data) - len(data) % 4
        self._left = data[whole:]
        return a2b_base64(data[:whole]) + (self.end() if text.rstrip().endswith(b"=") else b"")

    def end(self) -> bytes:
        """What is left: two or three characters are one or two bytes, one is none."""
        left, self._left = self._left, b""
        return a2b_base64(left + b"=" * (4 - len(left))) if len(left) > 1 else b""
