"""What the convention tests know of each command: how it is called where it has something to do."""

import functools
import importlib
from typing import NamedTuple

from agentpipe.catalog import COMMANDS

EVENT = b'{"type":"t","run_id":"r","agent_id":"a","sequence":%d,"timestamp":"2026-11-20T07:00:00.000Z","payload":{}}\n'


class Call(NamedTuple):
    """``args`` make the command read stdin; ``output`` says what its stdout is when it is fed events."""

    args: tuple[str, ...]
    output: str = "events"


#: The commands that read a stream on stdin and write one to stdout.
FILTERS = {
    "buffer": Call(()),
    "parse": Call(("--format", "plain"), output="made"),
    "replay": Call(("--speed", "max", "-")),
    "throttle": Call(("--rate", "none")),
}
#: Filters that read any line; to the others a line that is no event is malformed.
ANY_LINE = {"parse", "replay"}

#: The stages proper: made of the catalog, with the options that every filter has.
STAGE_COMMANDS = ("buffer", "parse", "throttle")

#: Every command, called without what it cannot do without (an argument, an input).
NEEDS = {"publish": "URL", "replay": "FILE", "run": "CMD", "subscribe": "URL"}


@functools.cache
def landed(name: str) -> bool:
    """Whether the command can be imported."""
    return importlib.util.find_spec(COMMANDS[name].place.partition(":")[0]) is not None
