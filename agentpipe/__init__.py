"""agentpipe: see what a coding agent does while it does it. The public names, nothing else.

They are imported when first asked for, because every process of a pipe passes through this file, and so does a hook,
for which an agent waits: even ``typing`` would cost it as much as Python's own start.
"""

from agentpipe.version import __version__

TYPE_CHECKING = False  # what type checkers take as True whatever it says
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.event import Event

__all__ = ["Event", "__version__"]


def __getattr__(name: str) -> "Any":
    """The public names that are not here yet."""
    if name != "Event":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agentpipe.event import Event

    return Event
