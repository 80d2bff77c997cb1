"""Blocks of lines in an SQLite database, in order: what the spill file and the outbox stand on.

The rules this module keeps: what was written is safe from ``kill -9`` when the call returns (write-ahead log); one
process at a time; a file that is something else is never written to, nor one that nobody would find again. One block a
row, because a row an event costs more than the event.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from agentpipe.errors import OutputError
from agentpipe.io.private_file import create_private

__all__ = ["BlockFile"]

#: Blocks are up to 256 KiB; larger pages than SQLite's 4 KiB mean fewer of them, smaller ones cheaper single events.
PAGE_BYTES = 8192

#: The log is folded into the file every so many pages (16 MiB): each time costs an fsync.
CHECKPOINT_PAGES = 2048

#: Rows asked for at once when events were written one by one.
ROWS = 500


class BlockFile:
    """The file *path*, which is made (mode 0600) when it is not there; *kind* says what it is, and
    *application_id* tells it from any other database. *always*: a commit survives a power cut as well, for a flush of
    the disk; else a power cut may cost the last ones, never the file. *prepare* runs in the transaction that opens it.

    A block has a number (its place in the order), a count of events, and their lines. ``newest`` is the highest number
    that was used. Raises OutputError when another process has the file, when it is something else, or when it cannot
    be read or written; then nothing was changed.
    """

    def __init__(
        self,
        path: str,
        application_id: int,
        kind: str,
        *,
        always: bool = False,
        prepare: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        # given
        self.name = path
        self._kind = kind
        # changing
        self.newest = 0
        with self.reported():
            create_private(path)
            self._found = self._identity()
            # the whole path, because some names are not files to SQLite: ":memory:" is none
            self._database = sqlite3.connect(os.path.abspath(path), timeout=0, isolation_level=None)
            try:
                self._prepare(application_id, always, prepare)
            except BaseException:
                self._database.close()
                raise

    def insert(self, first: int, rows: Sequence[tuple[int, bytes]], *, done: int = 0) -> None:
        """Add blocks of (count, lines), the first with the number *first*, and remove those up to the number *done*."""
        numbered = [(first + index, *row) for index, row in enumerate(rows)]
        with self.transaction() as database:
            if done:
                database.execute("DELETE FROM block WHERE id <= ?", (done,))
            database.executemany("INSERT INTO block VALUES (?, ?, ?)", numbered)
        self.newest = max(self.newest, first + len(rows) - 1)

    def read(self, after: int, mark_bytes: int) -> tuple[int, int, bytes] | None:
        """The oldest blocks behind the number *after* until they make *mark_bytes*, and at least one: the number of
        the last, how many events, and their lines; None when there is none.
        """
        lines: list[bytes] = []
        size = count = last = 0
        with self.reported():
            rows = self._database.execute(
                "SELECT id, events, lines FROM block WHERE id > ? ORDER BY id LIMIT ?", (after, ROWS)
            )
            for number, events, some in rows:
                if lines and size + len(some) > mark_bytes:
                    break
                last = number
                lines.append(some)
                size += len(some)
                count += events
            rows.close()
        return (last, count, b"".join(lines)) if lines else None

    def next(self, after: int) -> tuple[int, int] | None:
        """The number and the count of the oldest block behind the number *after*."""
        with self.reported():
            found: tuple[int, int] | None = self._database.execute(
                "SELECT id, events FROM block WHERE id > ? ORDER BY id LIMIT 1", (after,)
            ).fetchone()
        return found

    def remove(self, done: int) -> None:
        """Remove the blocks up to the number *done*."""
        with self.transaction() as database:
            database.execute("DELETE FROM block WHERE id <= ?", (done,))

    def summary(self) -> tuple[int, int]:
        """How many events there are, and the number of the oldest block (one more than ``newest`` without any)."""
        with self.reported():
            count, oldest = self._database.execute("SELECT coalesce(sum(events), 0), min(id) FROM block").fetchone()
        return count, oldest or self.newest + 1

    @property
    def size_bytes(self) -> int:
        """How much of the file is in use."""
        with self.reported():
            pages: int = self._database.execute("PRAGMA page_count").fetchone()[0]
            unused: int = self._database.execute("PRAGMA freelist_count").fetchone()[0]
        return (pages - unused) * PAGE_BYTES

    @property
    def lasting(self) -> bool:
        """Whether what is in the file is found again: it was neither removed nor replaced since it was opened."""
        try:
            return self._identity() == self._found
        except OSError:
            return False

    def close(self) -> None:
        """Close the file; when no block is left in it its space is given back."""
        with self.reported():
            try:
                if self._database.execute("SELECT 1 FROM block LIMIT 1").fetchone() is None:
                    with suppress(sqlite3.Error):  # a full disk, say: another end may give it back
                        self._database.execute("VACUUM")
            finally:
                self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One commit: all of it, or OutputError and nothing."""
        with self.reported():
            if not self.lasting:
                raise OutputError(self.name, "was removed or replaced while it was in use")
            self._database.execute("BEGIN")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Turn what the database or the system says into an OutputError that names the file."""
        try:
            yield
        except sqlite3.Error as error:
            raise OutputError(self.name, self._explained(error)) from error
        except OSError as error:
            raise OutputError(self.name, error.strerror or str(error)) from error

    def _identity(self) -> tuple[int, int]:
        found = os.stat(self.name)
        return found.st_dev, found.st_ino

    def _prepare(self, application_id: int, always: bool, prepare: Callable[[sqlite3.Connection], None] | None) -> None:
        run = self._database.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        if run("PRAGMA page_count").fetchone()[0]:
            found = run("PRAGMA application_id").fetchone()[0]
            if found != application_id:
                raise OutputError(self.name, f"is a database, but no {self._kind}")
        run(f"PRAGMA page_size = {PAGE_BYTES}")
        run("PRAGMA journal_mode = WAL")
        run(f"PRAGMA synchronous = {'FULL' if always else 'NORMAL'}")
        run(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        run("BEGIN EXCLUSIVE")
        run(f"PRAGMA application_id = {application_id}")
        run("CREATE TABLE IF NOT EXISTS block (id INTEGER PRIMARY KEY, events INTEGER NOT NULL, lines BLOB NOT NULL)")
        if prepare is not None:
            prepare(self._database)
        run("COMMIT")
        self.newest = run("SELECT coalesce(max(id), 0) FROM block").fetchone()[0]

    def _explained(self, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return "in use by another process"
        if code == sqlite3.SQLITE_NOTADB:
            return f"is no {self._kind}"
        return str(error)
