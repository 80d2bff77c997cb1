"""Whose output is this? Found out by what a decoded line holds, never by its first key or a prefix.

The rule this module keeps: noise before the first line of an agent is tolerated, so nothing is decided by what is not
recognised.
"""

from agentpipe.event import JSON
from agentpipe.parse.adapter import Adapter
from agentpipe.parse.claude import Claude
from agentpipe.parse.fields import string
from agentpipe.parse.plain import Plain

__all__ = ["ADAPTERS", "is_event", "recognised", "session_of"]

#: The adapters by name, in the order in which they are asked.
ADAPTERS: dict[str, type[Claude] | type[Plain]] = {"claude": Claude, "plain": Plain}


def recognised(found: JSON) -> str | None:
    """The name of the adapter whose line, or array of lines, *found* is; None when nobody knows it."""
    if type(found) is list:
        return next((name for name in map(recognised, found) if name is not None), None)
    if type(found) is not dict:
        return None
    return next((name for name, adapter in ADAPTERS.items() if _asked(adapter).recognises(found)), None)


def _asked(adapter: type[Claude] | type[Plain]) -> type[Adapter]:
    return adapter


def session_of(found: dict[str, JSON]) -> str:
    """The id of the session that a bare line says it belongs to, or the empty string."""
    return string(found.get("session_id"))


def is_event(found: dict[str, JSON]) -> bool:
    """Whether a line is an event already: no agent's own line has all of these."""
    return (
        type(found.get("payload")) is dict
        and type(found.get("type")) is str
        and type(found.get("run_id")) is str
        and type(found.get("agent_id")) is str
        and type(found.get("timestamp")) is str
    )
