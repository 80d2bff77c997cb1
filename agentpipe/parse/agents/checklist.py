"""A to-do list that an agent keeps as check boxes of Markdown: ``- [x] read``, ``- [ ] write``."""

from collections.abc import Sequence

from agentpipe.parse.vocabulary.plans import step
from agentpipe.progress import Step

__all__ = ["steps_of"]

#: What stands in a box, and the status it means.
_BOXES = {" ": "pending", "x": "completed", "X": "completed", "~": "in_progress", ">": "in_progress", "-": "cancelled"}

_BULLETS = ("- [", "* [", "+ [")


def steps_of(text: str) -> Sequence[Step]:
    """The items of the list in *text*, which may hold other lines; none when there is no list in it."""
    rows = [line.strip() for line in text.split("\n")]
    boxes = [row for row in rows if row[:3] in _BULLETS and row[4:5] == "]" and row[3] in _BOXES]
    return [step(row[5:].strip(), _BOXES[row[3]]) for row in boxes]
