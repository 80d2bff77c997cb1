"""agentpipe: see what a coding agent does while it does it. The public names, nothing else.

They are imported when first asked for, because every process of a pipe passes through this file, and so does a hook,
for which an agent waits: even ``typing`` would cost it as much as Python's own start.
"""

from agentpipe.version import __version__

TYPE_CHECKING = False  # what type checkers take as True whatever it says
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.errors import AgentpipeError, AuthError, HubUnreachable, ProtocolError
    from agentpipe.event import Event
    from agentpipe.following import Gap
    from agentpipe.io.subscription import Subscription

__all__ = [
    "AgentpipeError",
    "AuthError",
    "Event",
    "Gap",
    "HubUnreachable",
    "ProtocolError",
    "Subscription",
    "__version__",
]


#: Where the names are.
_HOMES = {
    "AgentpipeError": "agentpipe.errors",
    "AuthError": "agentpipe.errors",
    "Event": "agentpipe.event",
    "Gap": "agentpipe.following",
    "HubUnreachable": "agentpipe.errors",
    "ProtocolError": "agentpipe.errors",
    "Subscription": "agentpipe.io.subscription",
}


def __getattr__(name: str) -> "Any":
    """The public names that are not here yet."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
