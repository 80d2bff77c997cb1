"""Progress that a program, a script or an agent declares itself, by a line of its own.

``::progress 3/10 Compiling::`` says how many of how many and what is being done, ``::progress 40%::`` the share alone.

The rule this module keeps: a marker is a whole line, so nothing that merely speaks of one is taken for it; a line that
looks like one and counts beyond its total, or to nothing, is none, and so is one between the fences of a code block,
which shows how it is written. The line itself stays what it is.
"""

import re
from typing import NamedTuple

__all__ = ["Marker", "declared_in"]

_BEGINS = "::progress "

#: Numbers have nine digits at most; what is said beside them is a line for people. Compiled when it is first met.
_MARKER = r"^::progress (?:([0-9]{1,9})/([0-9]{1,9})|([0-9]{1,3}(?:\.[0-9]{1,3})?)%)(?: ([^\r\n]{1,200}?))?::[ \t]*\r?$"


#: From one fence of Markdown to the next of its kind; a fence without another encloses nothing.
_BLOCK = r"^ {0,3}(```|~~~).*?^ {0,3}\1"


class Marker(NamedTuple):
    """What a marker tells: *done* of *total*, and what is being done."""

    done: float
    total: float
    said: str


def declared_in(text: str) -> Marker | None:
    """The last marker in *text*, or None."""
    if _BEGINS not in text:
        return None
    if "```" in text or "~~~" in text:
        text = re.sub(_BLOCK, "", text, flags=re.MULTILINE | re.DOTALL)
    found = [marker for marker in map(_marker, re.finditer(_MARKER, text, re.MULTILINE)) if marker is not None]
    return found[-1] if found else None


def _marker(match: re.Match[str]) -> Marker | None:
    done, total, percent, said = match.groups()
    numbers = (float(percent), 100.0) if percent else (float(done), float(total))
    if not 0 <= numbers[0] <= numbers[1] or not numbers[1]:
        return None
    return Marker(*numbers, (said or "").strip())
