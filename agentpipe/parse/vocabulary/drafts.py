"""The small drafts: errors by rank, log entries, and what is not known.

The rule this module keeps: the four ranks stay apart. A failed tool (``tool``) lets the run go on; a ``warning`` is
about what may yet go well; a failed ``turn`` is the agent's own account of one; ``agent`` is the program or its API
failing for good. A bad line (``input``) is none of them.
"""

from typing import TYPE_CHECKING

from agentpipe.event import JSON, encode
from agentpipe.parse.adapter import Draft, Whole
from agentpipe.parse.vocabulary.content import capped_value, cut

if TYPE_CHECKING:
    from agentpipe.parse.options import ParseOptions  # which knows the adapters
    from agentpipe.payload import Rank  # a name for mypy alone: its import is paid at start-up

__all__ = ["bounded", "error", "log", "raw"]

#: Shorter data hold no image that is worth a look.
_SMALL_BYTES = 1024


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


def bounded(draft: Draft, options: "ParseOptions") -> Draft:
    """A ``raw`` that fits into an event: what is long is cut, images and files are named, and the whole goes beside."""
    payload = {**draft.payload}
    if "data" in payload:
        whole = encode(payload["data"]).decode()
        shown = capped_value(payload["data"], options.max_content) if len(whole) > _SMALL_BYTES else payload["data"]
        if shown == payload["data"]:
            return draft
        payload["data"], media_type = shown, "application/json"
    else:
        whole = payload.get("text", "")
        payload["text"], _, missing = cut(whole, options.max_content)
        if not missing:
            return draft
        media_type = "text/plain"
    return Draft(draft.type, payload, draft.at, draft.parent_id, (*draft.whole, Whole(media_type, whole)))
