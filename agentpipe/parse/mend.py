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
from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.plain import without_ansi

__all__ = ["Mended", "parts_of"]

#: Tells how surely a decoded object is a line of the agent that speaks.
Judge = Callable[[dict[str, JSON]], Sureness]

#: Places in one line at which an object is looked for: a line has one or two, and each look costs its length.
_MOST_PLACES = 64

#: A wrapper's mark is a name and a time: ``[agent] ``, ``2026-11-20T07:00:00Z ``, ``web-1  | ``.
_MARK_CHARACTERS = 120

#: What a mark never has, and a broken half of an object nearly always: its strings and brackets.
_NO_MARK = frozenset('"{}\\')


class Mended(NamedTuple):
    """What a broken line begins with: whole lines in their order; the *rest*, which may hold more; or the beginning of
    a line whose rest may come with the next one (*torn*).
    """

    lines: list[dict[str, JSON]]
    rest: str = ""
    torn: str = ""


def parts_of(text: str, torn: str, judge: Judge) -> Mended | None:
    """The first parts of *text*, which is no line as it is and may be the rest of *torn*, which was broken off right
    before; None when it holds nothing that is surely a line.
    """
    whole = _joined(torn, text, judge) if torn else None
    if whole is not None:
        return Mended([whole])
    return _parts(text, judge) if '{"' in text else None


def _parts(text: str, judge: Judge) -> Mended | None:
    likely: Mended | None = None  # a part of the outer line may look like a line: one that surely is goes before
    for start in _places(text):
        head = text[:start]
        broken = head[:1] == "{"
        if not broken and not _is_mark(_ink(head)):
            continue
        found, end = _whole(text, start)
        sureness = judge(found) if found is not None else Sureness.NO
        if found is None or sureness is Sureness.NO:
            continue
        tail = text[end:]
        if not broken:
            return Mended([found], rest=_ink(tail))
        outer = _joined(head, tail, judge)
        if outer is not None and sureness is Sureness.SURE:
            return Mended([found, outer])
        if outer is not None:
            likely = likely or Mended([found, outer])
        elif sureness is Sureness.SURE and not _ink(tail):  # else it may be a part of a line that was cut
            return Mended([found], torn=head)
    return likely


def _joined(head: str, tail: str, judge: Judge) -> dict[str, JSON] | None:
    """The line of which *head* and *tail* are the halves, or None."""
    try:
        found = decode((head + tail).encode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    return found if type(found) is dict and judge(found) is not Sureness.NO else None


def _ink(text: str) -> str:
    """*text* without what a terminal or a torn file puts around lines: escapes, NUL, white space."""
    return without_ansi(text).replace("\x00", "").strip()


def _is_mark(head: str) -> bool:
    return len(head) <= _MARK_CHARACTERS and _NO_MARK.isdisjoint(head)


def _places(text: str) -> Iterator[int]:
    """Where an object may begin: first wherever one begins with its type, as nearly all lines do, then anywhere."""
    seen: set[int] = set()
    for pattern in (r'\{"type"\s*:', r'\{"'):
        for count, place in enumerate(re.finditer(pattern, text)):
            if count >= _MOST_PLACES:
                break
            if place.start() not in seen:
                seen.add(place.start())
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
