"""The small drafts: errors by rank, log entries, and what is not known.

The rule this module keeps: the four ranks stay apart. A failed tool (``tool``) lets the run go on; a ``warning`` is
about what may yet go well; a failed ``turn`` is the agent's own account of one; ``agent`` is the program or its API
failing for good. A bad line (``input``) is none of them.
"""

from typing import TYPE_CHECKING

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft

if TYPE_CHECKING:
    from agentpipe.payload import Rank  # a name for mypy alone: its import is paid at start-up

__all__ = ["error", "log", "raw"]


def error(rank: "Rank", message: str, at: str, scope: str | None = None, /, **more: JSON) -> list[Draft]:
    """An ``error``; values of *more* that are None or empty are left out."""
    extra = {key: value for key, value in more.items() if value not in (None, "")}
    return [Draft("error", {"rank": rank, "message": message, **extra}, at, scope)]


def log(level: str, message: str, at: str, source: str, **more: JSON) -> list[Draft]:
    """An ``agent_log_entry``; values of *more* that are empty are left out."""
    extra = {key: value for key, value in more.items() if value}
    return [Draft("agent_log_entry", {"level": level, "message": message, "source": source, **extra}, at)]


def raw(format: str, reason: str, at: str, data: JSON, scope: str | None = None) -> Draft:  # noqa: A002 - the event's field
    """What an adapter does not know, kept whole."""
    return Draft("raw", {"format": format, "reason": reason, "data": data}, at, scope)
