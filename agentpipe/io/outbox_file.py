"""The outbox of ``publish`` as a file: blocks of lines, who the publisher is, and how often it has connected.

The rules this module keeps: every method is one commit (`agentpipe.io.block_file`); the publisher's id is made once
and kept as long as the file; no generation is ever used twice, each start of a process uses one up.
"""

import os
import sqlite3
from collections.abc import Sequence

from agentpipe.io.block_file import BlockFile
from agentpipe.outbox import Block, Found

__all__ = ["OutboxFile"]

#: "agpo": tells an outbox from any other database.
APPLICATION_ID = 0x6167706F


class OutboxFile:
    """A `agentpipe.outbox.Store` in the file *path*, which is made (mode 0600) when it is not there. *always*: a commit
    survives a power cut as well.

    Raises OutputError when another process has it, when it is no outbox, or when it cannot be read or written.
    """

    def __init__(self, path: str, *, always: bool = False) -> None:
        # given
        self.name = path
        self._file = BlockFile(path, APPLICATION_ID, "outbox", always=always, prepare=_prepare)
        with self._file.transaction() as database:
            self.publisher, self.generation = database.execute("SELECT id, generation FROM publisher").fetchone()
        self.count, _ = self._file.summary()
        self.first_name = int.from_bytes(os.urandom(7))
        # changing
        self._size_bytes = self._file.size_bytes

    @property
    def size_bytes(self) -> int:
        """How much of the file is in use."""
        return self._size_bytes

    @property
    def lasting(self) -> bool:
        """Whether the next process finds what is in the file."""
        return self._file.lasting

    def append(self, blocks: Sequence[Block], done: int) -> int:
        """Add *blocks* and remove those that are *done*; see `agentpipe.outbox.Store`."""
        self._file.insert(self._file.newest + 1, [(block.count, block.lines) for block in blocks], done=done)
        self._size_bytes = self._file.size_bytes
        return self._file.newest

    def read(self, after: int, mark_bytes: int) -> Found | None:
        """The next blocks behind the number *after*."""
        found = self._file.read(after, mark_bytes)
        return Found(*found) if found is not None else None

    def forget(self, done: int) -> None:
        """Remove the blocks up to the number *done*."""
        self._file.remove(done)
        self._size_bytes = self._file.size_bytes

    def keep_generation(self, generation: int) -> None:
        """Remember that *generation* is used."""
        with self._file.transaction() as database:
            database.execute("UPDATE publisher SET generation = max(generation, ?)", (generation,))

    def close(self) -> None:
        """Close the file. What is in it stays."""
        self._file.close()


def _prepare(database: sqlite3.Connection) -> None:
    """The publisher of a new file; the next generation of an old one."""
    database.execute("CREATE TABLE IF NOT EXISTS publisher (id TEXT NOT NULL, generation INTEGER NOT NULL)")
    if database.execute("SELECT 1 FROM publisher").fetchone() is None:
        database.execute("INSERT INTO publisher VALUES (?, 0)", (os.urandom(16).hex(),))
    database.execute("UPDATE publisher SET generation = generation + 1")
