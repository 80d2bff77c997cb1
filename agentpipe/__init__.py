"""agentpipe: see what a coding agent does while it does it. The public names, nothing else.

They are imported when first asked for, because every process of a pipe passes through this file.
"""

from typing import TYPE_CHECKING, Any

from agentpipe.version import __version__

if TYPE_CHECKING:
    from agentpipe.event import Event

__all__ = ["Event", "__version__"]


def __getattr__(name: str) -> Any:
    """The public names that are not here yet."""
    if name != "Event":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agentpipe.event import Event

    return Event
