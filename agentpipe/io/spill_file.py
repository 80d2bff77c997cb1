"""The spill file of ``buffer``: an SQLite database of blocks of lines, first in, first out.

The rules this module keeps: what was written is safe from ``kill -9`` when the call returns (write-ahead log,
``synchronous=NORMAL``: a power cut may cost the last commits, never the file); one process at a time; a block is
removed only when `settle` says that it was taken.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from agentpipe.buffer.spilling import Block
from agentpipe.errors import OutputError
from agentpipe.io.private_file import create_private

__all__ = ["SpillFile"]

#: "agps": tells a spill file from any other database.
APPLICATION_ID = 0x61677073

#: Blocks are up to 256 KiB; larger pages than SQLite's 4 KiB mean fewer of them, smaller ones cheaper single events.
PAGE_BYTES = 8192

#: The log is folded into the file every so many pages (16 MiB): each time costs an fsync.
CHECKPOINT_PAGES = 2048

#: Rows asked for at once when events were spilled one by one.
ROWS = 500


class SpillFile:
    """A `agentpipe.buffer.spilling.Store` in the file *path*, which is made (mode 0600) when it is not there.

    Raises OutputError when another process has it, when it is no spill file, or when it cannot be read or written.
    """

    def __init__(self, path: str) -> None:
        # given
        self.name = path
        # changing
        self._taken = 0  # rows up to this id were taken
        self._newest = 0
        self.count = 0
        with self._reported():
            create_private(path)
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def append(self, blocks: Sequence[Block], *, behind: int = 0) -> None:
        """Add *blocks* as the newest; see `agentpipe.buffer.spilling.Store`."""
        first = self._newest + 1 + (0 if self.count else behind)
        self._insert(first, blocks)
        self._newest = first + len(blocks) - 1

    def prepend(self, blocks: Sequence[Block]) -> None:
        """Add *blocks* before those that were not taken."""
        if not self.count:
            self.append(blocks)
            return
        with self._reported():
            oldest: int = self._database.execute("SELECT min(id) FROM block WHERE id > ?", (self._taken,)).fetchone()[0]
        if oldest - len(blocks) <= self._taken:
            raise ValueError("no room was left for these blocks")
        self._insert(oldest - len(blocks), blocks)

    def take(self, mark_bytes: int) -> Block | None:
        """The oldest blocks that were not taken, as one, until they make *mark_bytes*; None when there are none."""
        lines: list[bytes] = []
        size = count = 0
        with self._reported():
            rows = self._database.execute(
                "SELECT id, events, lines FROM block WHERE id > ? ORDER BY id LIMIT ?", (self._taken, ROWS)
            )
            for number, events, some in rows:
                if lines and size + len(some) > mark_bytes:
                    break
                self._taken = number
                lines.append(some)
                size += len(some)
                count += events
            rows.close()
        self.count -= count
        return Block(b"".join(lines), count) if lines else None

    def skip(self) -> None:
        """Take the oldest block that was not taken without reading it."""
        with self._reported():
            found = self._database.execute(
                "SELECT id, events FROM block WHERE id > ? ORDER BY id LIMIT 1", (self._taken,)
            ).fetchone()
        if found is not None:
            self._taken = found[0]
            self.count -= found[1]

    def settle(self) -> None:
        """Remove what was taken."""
        with self._reported():
            self._database.execute("DELETE FROM block WHERE id <= ?", (self._taken,))

    def close(self) -> None:
        """Close the file; when nothing is left in it its space is given back."""
        with self._reported():
            try:
                if not self._database.execute("SELECT count(*) FROM block").fetchone()[0]:
                    self._database.execute("VACUUM")
            finally:
                self._database.close()

    def _prepare(self) -> None:
        run = self._database.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        if run("PRAGMA page_count").fetchone()[0]:
            found = run("PRAGMA application_id").fetchone()[0]
            if found != APPLICATION_ID:
                raise OutputError(self.name, "is a database, but no spill file")
        run(f"PRAGMA page_size = {PAGE_BYTES}")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        run("BEGIN EXCLUSIVE")
        run(f"PRAGMA application_id = {APPLICATION_ID}")
        run("CREATE TABLE IF NOT EXISTS block (id INTEGER PRIMARY KEY, events INTEGER NOT NULL, lines BLOB NOT NULL)")
        run("COMMIT")
        self.count, self._newest, oldest = run(
            "SELECT coalesce(sum(events), 0), coalesce(max(id), 0), coalesce(min(id), 1) FROM block"
        ).fetchone()
        self._taken = oldest - 1

    def _insert(self, first: int, blocks: Sequence[Block]) -> None:
        rows = [(first + index, block.count, block.lines) for index, block in enumerate(blocks)]
        with self._reported():
            self._database.execute("BEGIN")
            try:
                self._database.executemany("INSERT INTO block VALUES (?, ?, ?)", rows)
                self._database.execute("COMMIT")
            except sqlite3.Error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        self.count += sum(block.count for block in blocks)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn what the database or the system says into an OutputError that names the file."""
        try:
            yield
        except sqlite3.Error as error:
            raise OutputError(self.name, _explained(error)) from error
        except OSError as error:
            raise OutputError(self.name, error.strerror or str(error)) from error


def _explained(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "in use by another process"
    if code == sqlite3.SQLITE_NOTADB:
        return "is not a spill file"
    return str(error)
