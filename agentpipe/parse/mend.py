"""A line that is no JSON, but in which whole lines of an agent stand: behind a wrapper's mark, one after the other
without a line end, or one in the middle of another.

The rule this module keeps: nothing is guessed. A part is told only when it is a whole object that the agent writes, and
what is around it is a wrapper's mark, another such object, or the two halves of one; else the line stays as it is.

Lines in the middle of others: a bug of Claude Code 2.1.74 (anthropics/claude-code, issue 49640), and what happens when
two programs write to one pipe.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from agentpipe.event import JSON, decode
from agentpipe.parse.agents.plain import without_ansi

__all__ = ["Mended", "parts_of"]

#: Tells whether a decoded object is surely a line of an agent.
IsLine = Callable[[dict[str, JSON]], bool]

#: Places in one line at which an object is looked for: a line has one or two, and each look costs its length.
_MOST_PLACES = 64

#: A wrapper's mark is a name and a time: ``[agent] ``, ``2026-11-20T07:00:00Z ``, ``web-1  | ``.
_MARK_CHARACTERS = 120

#: What a mark never has, and a broken half of an object nearly always: its strings and brackets.
_NO_MARK = frozenset('"{}\\')


class Mended(NamedTuple):
    """What a broken line holds: whole lines in their order, the text that is none, and the beginning of a line whose
    rest may come next (``torn``).
    """

    lines: list[dict[str, JSON]]
    rest: str = ""
    torn: str = ""


def parts_of(text: str, torn: str, is_line: IsLine) -> Mended | None:
    """The parts of *text*, a line that is no JSON and may be the rest of *torn*, which was broken off right before;
    None when none of it is surely a line.
    """
    whole = _joined(torn, text, is_line) if torn else None
    return Mended([whole]) if whole is not None else _mended(text, is_line)


def _mended(text: str, is_line: IsLine) -> Mended | None:
    if '{"' not in text:
        return None
    for start in _places(text):
        head = text[:start]
        broken = head[:1] == "{"
        if not broken and not _is_mark(_ink(head)):
            return None  # and what is before the next place is no mark either
        found, end = _whole(text, start)
        if found is None or not is_line(found):
            continue
        tail = text[end:]
        if not broken:
            return _with_tail(found, tail, is_line)
        outer = _joined(head, tail, is_line)
        if outer is not None:
            return Mended([found, outer])
        if not _ink(tail):
            return Mended([found], head, head)
    return None


def _joined(head: str, tail: str, is_line: IsLine) -> dict[str, JSON] | None:
    """The line of which *head* and *tail* are the halves, or None."""
    try:
        found = decode((head + tail).encode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    return found if type(found) is dict and is_line(found) else None


def _with_tail(found: dict[str, JSON], tail: str, is_line: IsLine) -> Mended:
    """*found* and what follows it: nothing, more lines, or text."""
    tail = _ink(tail)
    if not tail:
        return Mended([found])
    more = _mended(tail, is_line) or _alone(tail, is_line)
    return more._replace(lines=[found, *more.lines]) if more is not None else Mended([found], tail)


def _alone(text: str, is_line: IsLine) -> Mended | None:
    found = _joined(text, "", is_line) if text[0] == "{" else None
    return Mended([found]) if found is not None else None


def _ink(text: str) -> str:
    """*text* without what a terminal or a torn file puts around lines: escapes, NUL, white space."""
    return without_ansi(text).replace("\x00", "").strip()


def _is_mark(head: str) -> bool:
    return len(head) <= _MARK_CHARACTERS and _NO_MARK.isdisjoint(head)


def _places(text: str) -> Iterator[int]:
    """Where an object may begin: the first bracket, and wherever one begins with its type, as nearly all lines do."""
    first = text.index('{"')
    yield first
    for count, place in enumerate(re.finditer(r'\{"type"\s*:', text)):
        if count >= _MOST_PLACES:
            return
        if place.start() != first:
            yield place.start()


def _whole(text: str, start: int) -> tuple[dict[str, JSON] | None, int]:
    """The object that begins at *start* and where it ends; None when it is not whole."""
    import json  # finds the end of a value; only a broken line pays for it

    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
        found = decode(text[start:end].encode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None, start
    return (found, end) if type(found) is dict else (None, start)
