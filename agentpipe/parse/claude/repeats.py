"""What a session file says twice: lines of its past after a resume, blocks of a message that is written anew.

The rule this module keeps: a line is told once by its id, a call and a result once by the call's, a text once in its
message.
"""

from collections.abc import Hashable

from agentpipe.event import JSON
from agentpipe.parse.claude.line import is_result
from agentpipe.parse.vocabulary.fields import mapping, string

__all__ = ["Repeats"]

#: Lines and blocks remembered: what a file repeats is its past, which is long.
_REMEMBERED = 65536

#: Longer texts are remembered by their hash.
_SHORT = 256


class Repeats:
    """What one session file has said."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, None] = {}
        self._blocks: dict[Hashable, None] = {}

    def line(self, found: dict[str, JSON]) -> bool:
        """Whether the line was there already; one without an id never was."""
        uuid = string(found.get("uuid"))
        return bool(uuid) and _seen(self._lines, uuid)

    def without(self, found: dict[str, JSON]) -> dict[str, JSON] | None:
        """The line *found* without the blocks that were there already; None when nothing is left of it."""
        message = mapping(found.get("message"))
        content = message.get("content")
        if type(content) is not list or not content:
            return found
        name = string(message.get("id"))
        new = [block for block in content if not (type(block) is dict and self._repeats(name, block))]
        if len(new) == len(content):
            return found
        return {**found, "message": {**message, "content": new}} if new else None

    def _repeats(self, message: str, block: dict[str, JSON]) -> bool:
        kind = string(block.get("type"))
        if is_result(block):
            where, what = "result", string(block.get("tool_use_id"))
        elif kind.endswith("tool_use"):
            where, what = "call", string(block.get("id"))
        else:
            where, what = message, string(block.get(kind))
        return bool(where and what) and _seen(self._blocks, (where, kind, what if len(what) < _SHORT else hash(what)))


def _seen(known: dict[Hashable, None], key: Hashable) -> bool:
    if key in known:
        return True
    known[key] = None
    if len(known) > _REMEMBERED:
        del known[next(iter(known))]
    return False
