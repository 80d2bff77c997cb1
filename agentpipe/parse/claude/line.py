"""One line of Claude Code, and what every part of it shares: its time, its sub-agent, its size.

The rule this module keeps: whether a line says nothing by rule is told from its decoded fields alone, before anything
else is done with it, because in a live session that is every other line.
"""

from collections.abc import Callable

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Moment, source_time
from agentpipe.parse.claude.system import SILENT_SUBTYPES
from agentpipe.parse.vocabulary.content import flat
from agentpipe.parse.vocabulary.fields import items, mapping, string
from agentpipe.parse.vocabulary.stamp import Stamp

__all__ = ["NOISE", "Line", "blocks_of", "is_result", "line_of", "origin_of"]


class Line(Stamp, gc=False, kw_only=True):
    """A decoded line; *scope* is what its ``parent_tool_use_id`` says."""

    found: dict[str, JSON]
    synthetic: bool = False  # whether the CLI itself speaks in the agent's name

    @property
    def uuid(self) -> str:
        """The line's own id, or the empty string."""
        return string(self.found.get("uuid"))


def line_of(found: dict[str, JSON], clock: Clock, moment: Moment, size: int) -> Line:
    """The line *found*, dated."""
    own = source_time(found["timestamp"]) if "timestamp" in found else None
    scope = found.get("parent_tool_use_id")
    spoken = scope if type(scope) is str else None
    return Line(clock.at(own, moment), own is not None, moment.now, size, spoken, found=found)


def _silent_part(found: dict[str, JSON]) -> bool:
    event = found.get("event")
    delta = event.get("delta") if type(event) is dict else None
    return type(delta) is dict and delta.get("type") == "input_json_delta"


def _silent_state(found: dict[str, JSON]) -> bool:
    subtype = found.get("subtype")
    return type(subtype) is str and subtype in SILENT_SUBTYPES


#: Types of which many lines say nothing, and whether one does.
NOISE: dict[str, Callable[[dict[str, JSON]], bool]] = {"stream_event": _silent_part, "system": _silent_state}


def blocks_of(content: JSON) -> list[dict[str, JSON]]:
    """The blocks of a message: a string is one text."""
    if type(content) is list and len(content) == 1 and type(content[0]) is dict:
        return content
    if type(content) is str:
        return [{"type": "text", "text": content}]
    return [block if type(block) is dict else {"type": "text", "text": flat([block])} for block in items(content)]


def is_result(block: dict[str, JSON]) -> bool:
    """Whether a block is what a tool gave back."""
    kind = block.get("type")
    return kind == "tool_result" or (type(kind) is str and kind.endswith("_tool_result"))


def origin_of(line: Line) -> str:
    """Who wrote a text in the user's name: ``replay``, ``synthetic``, ``subagent_prompt`` or what the source says."""
    found = line.found
    if found.get("isReplay") is True:
        return "replay"
    if found.get("isSynthetic") is True:
        return "synthetic"
    if line.scope is not None:
        return "subagent_prompt"
    return string(mapping(found.get("origin")).get("kind"))
