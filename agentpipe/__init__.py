"""agentpipe: see what a coding agent does while it does it. The public names, nothing else."""

from agentpipe.event import Event
from agentpipe.version import __version__

__all__ = ["Event", "__version__"]
