"""Who speaks in a line of a rollout, where the line itself hardly says so: a person or the program, in which shape.

The rule this module keeps: the newest versions say who wrote a text in the user's name; for older ones it is told by
how the program's own texts begin.
"""

from collections.abc import Mapping

from agentpipe.event import JSON
from agentpipe.parse.vocabulary.fields import items, mapping, string

__all__ = ["is_bare_head", "is_bare_item", "origin_of", "session_id", "spoken"]

#: What the program puts in the user's name begins so.
_SYNTHETIC = ("# AGENTS.md instructions", "<environment_context", "<permissions", "<skill", "<subagent_notification",
              "<turn_aborted", "<user_instructions", "<user_shell_command", "<INSTRUCTIONS")  # fmt: skip


def session_id(found: Mapping[str, JSON]) -> str:
    """The thread that a ``session_meta`` heads: its own ``id``. The ``session_id`` beside it may be that of the agent
    that started a sub-agent, and stands alone in some versions.
    """
    return string(found.get("id")) or string(found.get("session_id"))


def spoken(content: JSON) -> str:
    """The words of a message, without its images and the tags that older versions put around them."""
    texts = [string(mapping(part).get("text")) for part in items(content)]
    return "".join(text for text in texts if not text.startswith(("<image", "</image")))


def origin_of(found: dict[str, JSON], texts: list[str]) -> str:
    """``synthetic`` for what the program said in the user's name; the newest versions say so themselves."""
    facts = mapping(found.get("internal_chat_message_metadata_passthrough"))
    sources = [mapping(mapping(one).get("provenance")).get("type") for one in items(facts.get("content_item_metadata"))]
    if sources:
        return "" if "user" in sources else "synthetic"
    return "synthetic" if texts and texts[0].lstrip().startswith(_SYNTHETIC) else ""


def is_bare_item(kind: str, found: Mapping[str, JSON]) -> bool:
    """Whether a line is an item of the model without an envelope."""
    if kind == "message":
        content = found.get("content")
        first = content[0] if type(content) is list and content else None
        return type(first) is dict and first.get("type") in ("input_text", "output_text", "input_image")
    if kind in ("function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
                "local_shell_call"):  # fmt: skip
        return type(found.get("call_id")) is str
    return kind == "reasoning" and type(found.get("summary")) is list and "encrypted_content" in found


def is_bare_head(found: Mapping[str, JSON]) -> bool:
    """Whether a line is the head of a file of old: who and when, and instructions."""
    return "instructions" in found and type(found.get("id")) is str and type(found.get("timestamp")) is str
