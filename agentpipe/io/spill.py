"""Opening what ``buffer --spill`` needs of the world.

The rule this module keeps: however the stage ends, what it still holds is in its file when the file is closed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from agentpipe.buffer import BufferOptions, build
from agentpipe.stage import Stage

__all__ = ["opened"]


@contextmanager
def opened(options: BufferOptions) -> Iterator[Stage]:
    """The stage for *options*, with its spill file open where it has one. Raises OptionError and OutputError."""
    if options.spill is None:
        yield build(options)
        return
    from agentpipe.io.spill_file import SpillFile  # SQLite costs 5 ms of start-up, which only this setting pays
    from agentpipe.spilling import Spill

    store = SpillFile(options.spill)
    try:
        stage = build(options, store)
        assert isinstance(stage, Spill)
        try:
            yield stage
        finally:
            stage.keep()
    finally:
        store.close()
