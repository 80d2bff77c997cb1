"""When a line happened, who speaks in it and how long it is: what every draft made of it shares."""

import msgspec

from agentpipe.parse.adapter import Clock, Moment

__all__ = ["Stamp", "stamped"]


class Stamp(msgspec.Struct, gc=False):
    """*at* is the RFC 3339 timestamp that the line's events get, *own* whether the source itself told it; *read* is
    the driver's time in seconds; *size* is in bytes; *scope* is the tool-use id of the call that started the sub-agent
    that speaks (the event's ``parent_id``), None for the main agent.
    """

    at: str
    own: bool
    read: float
    size: int
    scope: str | None = None


def stamped(own: str | None, clock: Clock, moment: Moment, size: int, scope: str | None = None) -> Stamp:
    """The stamp of a line of *size* bytes that says *own* about its time: a timestamp of the schema, or None."""
    return Stamp(clock.at(own, moment), own is not None, moment.now, size, scope)
