"""Reading the log that lies in one SQLite file, next to the one who writes it.

The rule this module keeps: a question is answered from what is committed, on a connection of its own, and reads whole
blocks (see ``sqlite_log``) instead of single events.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from agentpipe.errors import OutputError
from agentpipe.event import peek_lines
from agentpipe.history import SLICE_BYTES, Filter, OfRun, Page, Slice, fitting
from agentpipe.io.private_file import create_private

__all__ = ["BLOCK_BYTES", "BLOCK_EVENTS", "SqliteReader", "connect"]

#: A block holds at most this much, so that reading one event does not read megabytes.
BLOCK_EVENTS = 500
BLOCK_BYTES = 256 * 1024

#: What one query brings into memory: four full blocks, or thousands of those that hold a single event. Several clients
#: read at once, each with a query of its own.
QUERY_BYTES = 4 * BLOCK_BYTES


class SqliteReader:
    """The reading half: `Log`'s questions, answered from a connection of its own."""

    def __init__(self, path: str) -> None:
        # given
        self.path = path
        # changing
        self._lock = threading.Lock()  # the questions come from a pool of threads
        self._connection = connect(path)
        self.epoch = str(self._value("SELECT value FROM meta WHERE name = 'epoch'"))

    @property
    def oldest(self) -> int:
        """The offset before the first entry kept."""
        first = self._value("SELECT min(first) FROM block")
        return first - 1 if first is not None else self._head_when_empty()

    @property
    def head(self) -> int:
        """The offset of the newest entry."""
        found = self._value("SELECT first + count - 1 FROM block ORDER BY first DESC LIMIT 1")
        return found if found is not None else self._head_when_empty()

    def since(self, offset: int, limit: int, limit_bytes: int) -> Page:
        """The entries after *offset*; see `Log`."""
        lines: list[bytes] = []
        size = 0
        start = offset
        for first, found in self._blocks_from(offset + 1):
            skipped = max(0, offset + 1 - first)
            if not lines:
                start = first + skipped - 1
            lines += found[skipped:]
            size += sum(map(len, found))
            if len(lines) >= limit or size >= limit_bytes:
                break
        if not lines:
            return Page(max(offset, self.head), [])
        lines = lines[:limit]
        return Page(start, lines[: fitting(lines, limit_bytes)])

    def find(self, event_id: str) -> bytes | None:
        """The line of the event with this id, or None."""
        for first in self._candidates(event_id):
            for _, lines in self._blocks_from(first, limit=1):
                for event in peek_lines(lines)[0]:
                    if event.identity == event_id:
                        return event.line
        return None

    def of_run(self, wanted: OfRun, after: int, limit: int, limit_bytes: int = SLICE_BYTES) -> Slice:
        """The entries of one run; see `Log`."""
        pick = wanted.filter.pick
        head = self.head
        lines: list[bytes] = []
        offsets: list[int] = []
        room = limit_bytes
        for first, found in self._blocks_of_run(wanted.run_id, after):
            events, _ = peek_lines(found)
            for index in pick(events):
                if first + index <= after:
                    continue
                lines.append(events[index].line)
                offsets.append(first + index)
                room -= len(lines[-1])
                if len(lines) == limit or room <= 0:
                    return Slice(lines, offsets, offsets[-1])
        return Slice(lines, offsets, max(head, after))

    def place(self, run_id: str, sequence: int) -> int:
        """Where the numbers of a run from *sequence* on are; see `Log`."""
        run = self._value(_RUN, (run_id,))
        block = self._block_of(run, sequence) or self._value(_PART_REACHING, (run, sequence))
        return block - 1 if block is not None else self.head

    def before_last(self, filter: Filter, count: int) -> int:  # noqa: A002 - the protocol's word
        """The offset after which the last *count* matching entries lie; see `Log`."""
        if filter.everything or not count:
            return max(self.oldest, self.head - count)
        place = self.head + 1
        query = "SELECT first, lines FROM block WHERE first < ? ORDER BY first DESC LIMIT 8"
        while rows := self._rows(query, (place,), QUERY_BYTES):
            for place, lines in rows:
                found = filter.pick(peek_lines(lines.split(b"\n"))[0])
                if len(found) >= count:
                    return int(place) + found[len(found) - count] - 1
                count -= len(found)
        return self.oldest

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def _candidates(self, event_id: str) -> Iterator[int]:
        """The blocks in which an event may be, by its id alone."""
        for (first,) in self._rows("SELECT first FROM alias WHERE event_id = ?", (event_id,)):
            yield first
        run_id, _, number = event_id.rpartition(":")
        if number.isdecimal() and len(number) < 17:
            run = self._value(_RUN, (run_id,))
            block = self._block_of(run, int(number))
            blocks = [(block,)] if block is not None else self._rows(_PARTS_WITH, (run, int(number), int(number)))
            for (first,) in blocks:
                yield first

    def _block_of(self, run: int | None, sequence: int) -> int | None:
        """The block that holds the number *sequence* of a run, by its first offset; None when it is not to be found.

        The numbers of a run rise from block to block, so that it is found by halving: the table needs no further
        index, which each commit would have to write. Only a gap alone in its block may stand out of line, and what
        lies behind it is not found then.
        """
        low, high = self._rows(_PART_ENDS, (run,))[0]
        while low is not None and low <= high:
            middle = (low + high) // 2
            first, least, most = self._rows(_PART_FROM, (run, middle))[0]
            if most < sequence:
                low = first + 1
            elif least > sequence:
                high = middle - 1
            else:
                return int(first)
        return None

    def _blocks_of_run(self, run_id: str, after: int) -> Iterator[tuple[int, list[bytes]]]:
        """The blocks that hold entries of a run after the offset *after*, and the one of *after* itself."""
        run = self._value(_RUN, (run_id,))
        place = self._value(_PART_OF, (run, after + 1)) or 0
        while rows := self._rows(_BLOCKS_OF_RUN, (run, place), QUERY_BYTES):
            for first, lines in rows:
                yield first, lines.split(b"\n")
            place = rows[-1][0] + 1

    def _blocks_from(self, offset: int, limit: int = -1) -> Iterator[tuple[int, list[bytes]]]:
        """Blocks from the one that holds *offset* on: the offset of the first entry, and the lines."""
        place = self._value("SELECT first FROM block WHERE first <= ? ORDER BY first DESC LIMIT 1", (offset,))
        place = offset if place is None else place
        query = "SELECT first, count, lines FROM block WHERE first >= ? ORDER BY first LIMIT ?"
        ahead = 1  # blocks of single events are small: read more of them at once as it goes on
        while limit and (rows := self._rows(query, (place, ahead), QUERY_BYTES)):
            for first, count, lines in rows:
                if first + count > offset:
                    yield first, lines.split(b"\n")
                place = first + count
            ahead = min(2 * ahead, 32)
            limit -= 1

    def _head_when_empty(self) -> int:
        return int(self._value("SELECT value FROM meta WHERE name = 'head'") or 0)

    def _value(self, query: str, values: Sequence[object] = ()) -> Any:
        rows = self._rows(query, values)
        return rows[0][0] if rows else None

    def _rows(self, query: str, values: Sequence[object], limit_bytes: int = 0) -> list[tuple[Any, ...]]:
        """The rows of *query*; with *limit_bytes* the first ones, until the last columns hold that much."""
        with self._lock:
            try:
                cursor = self._connection.execute(query, values)
                return cursor.fetchall() if not limit_bytes else _first(cursor, limit_bytes)
            except sqlite3.Error as error:
                raise OutputError(self.path, str(error)) from error


def _first(cursor: sqlite3.Cursor, limit_bytes: int) -> list[tuple[Any, ...]]:
    """The first rows, until their last columns hold *limit_bytes*."""
    rows: list[tuple[Any, ...]] = []
    for row in cursor:
        rows.append(row)
        limit_bytes -= len(row[-1])
        if limit_bytes <= 0:
            break
    cursor.close()  # an open one would keep SQLite's log from being folded into the file
    return rows


_RUN = "SELECT id FROM run WHERE run_id = ?"
_PART_ENDS = """SELECT (SELECT min(first) FROM part WHERE run = ?1), (SELECT max(first) FROM part WHERE run = ?1)"""
_PART_FROM = "SELECT first, low, high FROM part WHERE run = ? AND first >= ? ORDER BY first LIMIT 1"
_PART_OF = "SELECT max(first) FROM part WHERE run = ? AND first <= ?"
_PART_REACHING = "SELECT first FROM part WHERE run = ? AND high >= ? ORDER BY first LIMIT 1"
_PARTS_WITH = "SELECT first FROM part WHERE run = ? AND low <= ? AND high >= ?"
_BLOCKS_OF_RUN = """SELECT block.first, block.lines FROM part JOIN block USING (first)
                    WHERE run = ? AND first >= ? ORDER BY first LIMIT 32"""


def connect(path: str) -> sqlite3.Connection:
    """A connection to the store, made for its owner alone. Raises OutputError."""
    try:
        create_private(path)  # the events are nobody else's business
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error as error:
        raise OutputError(path, str(error)) from error
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    return connection
