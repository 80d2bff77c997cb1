"""How surely a line is one of Claude Code's stream: others print lines of the same types.

The rule this module keeps: what only Claude Code writes is sure; what others write as well is likely, as long as no
mark of theirs is in it.
"""

from collections.abc import Mapping

from agentpipe.event import JSON
from agentpipe.parse.adapter import Sureness
from agentpipe.parse.claude.usage import COSTS
from agentpipe.parse.vocabulary.fields import mapping, string

__all__ = ["sureness_of"]

#: Types that make a line Claude Code's, alone or with more of what it has.
_OWN_TYPES = frozenset({"rate_limit_event", "control_request", "control_response"})
_TYPES = _OWN_TYPES | {"assistant", "result", "stream_event", "system", "user"}


def sureness_of(found: Mapping[str, JSON]) -> Sureness:
    """How surely the decoded line *found* is Claude Code's."""
    kind = found.get("type")
    if type(kind) is not str or kind not in _TYPES or "parentUuid" in found or "sessionId" in found:
        return Sureness.NO
    if kind in _OWN_TYPES or "claude_code_version" in found:
        return Sureness.SURE
    if "uuid" in found:
        return _among_alike(kind, found)
    return Sureness.LIKELY if _looks_right(kind, found) else Sureness.NO


def _among_alike(kind: str, found: Mapping[str, JSON]) -> Sureness:
    """Qwen Code's lines have ids too. Its messages are called as their lines, its events do not repeat the API's usage,
    and its results tell no cost. What has nothing of that may be either's; only Qwen Code writes a line's id before its
    body, while an id after the body says nothing, as keys may have been sorted since.
    """
    if "timestamp" in found or "tool_use_result" in found or "api_message_id" in found:
        return Sureness.SURE
    if kind == "system":
        if "qwen_code_version" in found or "data" in found:
            return Sureness.NO
        return Sureness.LIKELY if "parent_tool_use_id" in found else Sureness.SURE
    if kind == "assistant":
        return Sureness.NO if mapping(found.get("message")).get("id") == found["uuid"] else Sureness.SURE
    if kind == "result":
        return Sureness.SURE if any(name in found for name in COSTS) else Sureness.NO
    if kind == "stream_event" and mapping(found.get("event")).get("type") == "message_start":
        return Sureness.SURE if "usage" in mapping(mapping(found["event"]).get("message")) else Sureness.NO
    first = next((name for name in found if name in ("event", "message", "uuid")), "")
    return Sureness.NO if first == "uuid" else Sureness.LIKELY


def _looks_right(kind: str, found: Mapping[str, JSON]) -> bool:
    """Whether a line of a type that others print too has what Claude Code's has. Amp's sessions are called ``T-…``."""
    if string(found.get("session_id")).startswith("T-"):
        return False
    if kind == "system":
        return type(found.get("subtype")) is str
    if kind in ("assistant", "user"):
        return type(found.get("message")) in (dict, str)
    return type(found.get("subtype")) is str or type(found.get("is_error")) is bool
