"""Opening what ``buffer --spill`` needs of the world.

The rule this module keeps: however the stage ends, what it still holds is in its file when the file is closed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from agentpipe.buffer import BufferOptions, build
from agentpipe.buffer.spilling import Spill
from agentpipe.errors import OutputError
from agentpipe.stage import Stage

__all__ = ["opened"]


@contextmanager
def opened(options: BufferOptions) -> Iterator[Stage]:
    """The stage for *options*, with its spill file open where it has one. Raises OptionError and OutputError."""
    if options.spill is None:
        yield build(options)
        return
    from agentpipe.io.spill_file import SpillFile  # SQLite costs 5 ms of start-up, which only this setting pays

    store = SpillFile(options.spill)
    try:
        stage = build(options, store)
        assert isinstance(stage, Spill)
        try:
            yield stage
        finally:
            _keep(stage)
    finally:
        store.close()


def _keep(stage: Spill) -> None:
    """Have *stage* write down what memory holds; where that fails the error says how much is lost."""
    in_memory = stage.held
    try:
        stage.keep()
    except OutputError as error:
        raise OutputError(error.target, f"{error.problem}; {in_memory} events that memory held are lost") from error
