"""What ``agentpipe serve`` can be told; apart from the server, so that its help needs none of it."""

import dataclasses

from agentpipe.errors import OptionError
from agentpipe.quantity import duration, size
from agentpipe.stage import option

__all__ = ["ServeOptions"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What the hub can be told."""

    host: str = option("127.0.0.1", "Address to listen on.")
    port: int = option(8765, "Port to listen on; 0 takes any and prints it.", minimum=0, maximum=65535)
    store: str | None = option(
        None,
        "Keep the log in this file, in `memory` alone, or in a Redis that several hubs share."
        "  [default: hub.db in $XDG_STATE_HOME/agentpipe]",
        metavar="FILE|memory|redis://…",
    )
    retain: str = option(
        "30d,1GiB",
        "Keep the store within this age, size or number (`7d`, `1GiB`, `1000000ev`): old runs go, but for their end.",
    )
    sync: str = option("normal", "Survive a crash of the process, or of the machine.", choices=("normal", "always"))
    window: int = option(16 << 20, "Keep this much of the newest events in memory.", unit="size", minimum=64 << 10)
    token_file: str | None = option(None, "Read the token here; made when absent.", unit="path")
    open: bool = option(False, "Open the page in a browser.")
    exit_on_eof: bool = option(False, "End when standard input ends and everything is stored.")
    heartbeat: float = option(20.0, "Time between heartbeats.", unit="duration", minimum=0.05, maximum=29.0)
    allow_host: tuple[str, ...] = option((), "Further Host names to answer to.", unit="names")
    allow_origin: tuple[str, ...] = option((), "Further Origins whose pages may connect.", unit="names")
    ready_file: str | None = option(None, "Write the URL here once the hub listens.", unit="path")

    @property
    def limits(self) -> tuple[float, int, int]:
        """What ``--retain`` says: age in seconds, size in bytes, number of events; 0 where there is no limit. Each
        part of it, between commas, is one of these. Raises OptionError.
        """
        age_s, size_bytes, events = 0.0, 0, 0
        for part in filter(None, (part.strip() for part in self.retain.split(","))):
            try:
                if part.endswith("ev"):
                    events = int(part[:-2])
                elif part.endswith("B"):
                    size_bytes = size(part)
                else:
                    age_s = duration(part)
            except ValueError:
                raise OptionError("--retain", f"{part!r} is no age (7d), size (1GiB) or number (1000000ev)") from None
        return age_s, size_bytes, events
