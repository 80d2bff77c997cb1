"""The spill file of ``buffer``: blocks of lines, first in, first out.

The rule this module keeps: a block is removed only when `settle` says that it was taken (`agentpipe.io.block_file`
keeps the others: safe from ``kill -9``, one process at a time).
"""

from collections.abc import Sequence

from agentpipe.buffer.spilling import Block
from agentpipe.io.block_file import BlockFile

__all__ = ["SpillFile"]

#: "agps": tells a spill file from any other database.
APPLICATION_ID = 0x61677073


class SpillFile:
    """A `agentpipe.buffer.spilling.Store` in the file *path*, which is made (mode 0600) when it is not there.

    Raises OutputError when another process has it, when it is no spill file, or when it cannot be read or written.
    """

    def __init__(self, path: str) -> None:
        # given
        self.name = path
        self._file = BlockFile(path, APPLICATION_ID, "spill file")
        # changing
        self.count, oldest = self._file.summary()
        self._taken = oldest - 1  # rows up to this number were taken

    def append(self, blocks: Sequence[Block], *, behind: int = 0) -> None:
        """Add *blocks* as the newest; see `agentpipe.buffer.spilling.Store`."""
        self._insert(self._file.newest + 1 + (0 if self.count else behind), blocks)

    def prepend(self, blocks: Sequence[Block]) -> None:
        """Add *blocks* before those that were not taken."""
        oldest = self._file.next(self._taken)
        if oldest is None:
            self.append(blocks)
            return
        first = oldest[0] - len(blocks)
        if first <= self._taken:
            raise ValueError("no room was left for these blocks")
        self._insert(first, blocks)

    def take(self, mark_bytes: int) -> Block | None:
        """The oldest blocks that were not taken, as one, until they make *mark_bytes*; None when there are none."""
        found = self._file.read(self._taken, mark_bytes)
        if found is None:
            return None
        self._taken, count, lines = found
        self.count -= count
        return Block(lines, count)

    def skip(self) -> None:
        """Take the oldest block that was not taken without reading it."""
        found = self._file.next(self._taken)
        if found is not None:
            self._taken = found[0]
            self.count -= found[1]

    def settle(self) -> None:
        """Remove what was taken."""
        self._file.remove(self._taken)

    def close(self) -> None:
        """Close the file; when nothing is left in it its space is given back."""
        self._file.close()

    def _insert(self, first: int, blocks: Sequence[Block]) -> None:
        self._file.insert(first, [(block.count, block.lines) for block in blocks])
        self.count += sum(block.count for block in blocks)
