"""Reading the log that lies in one SQLite file, next to the one who writes it.

The rule this module keeps: a question is answered from what is committed, on a connection of its own, and reads whole
blocks (``blocks.py``) instead of single events. Between two queries the writer may evict something: an answer then
says that it is gone, as it says of anything that went before.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from agentpipe.blocks import BLOCK_BYTES
from agentpipe.event import peek_lines
from agentpipe.history import SLICE_BYTES, Filter, OfRun, Page, Slice, fitting
from agentpipe.io.sqlite.blocks import present, read_lines
from agentpipe.io.sqlite.file import connect, problem

__all__ = ["SqliteReader"]

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
        rows = self._rows("SELECT first, lines FROM block ORDER BY first LIMIT 1", ())
        if not rows:
            return self.head
        first, data = rows[0]
        return int(first) - 1 + len(data) - len(data.lstrip(b"\n"))

    @property
    def head(self) -> int:
        """The offset of the newest entry."""
        return int(self._value(_HEAD))

    def since(self, offset: int, limit: int, limit_bytes: int) -> Page:
        """The entries after *offset*; see `Log`."""
        head = self.head  # before looking: what comes meanwhile is not to be taken for gone
        lines: list[bytes] = []
        size = 0
        start = offset
        for first, found in self._blocks_from(offset + 1):
            before = max(0, offset + 1 - first)
            if not lines:
                before = next((index for index in range(before, len(found)) if found[index]), len(found))
                start = first + before - 1
            elif first != start + len(lines) + 1:
                break  # what lies between is gone: the next page says so
            lines += found[before:]
            size += sum(map(len, found))
            if len(lines) >= limit or size >= limit_bytes:
                break
        if not lines:
            return Page(max(offset, head), [])
        lines = lines[:limit]
        return Page(start, lines[: fitting(lines, limit_bytes)])

    def find(self, event_id: str) -> bytes | None:
        """The line of the event with this id, or None."""
        for first in self._candidates(event_id):
            for _, lines in self._blocks_from(first, limit=1):
                for event in present(lines)[1]:
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
            indexes, events = present(found)
            for place in pick(events):
                offset = first + indexes[place]
                if offset <= after:
                    continue
                lines.append(events[place].line)
                offsets.append(offset)
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
        if not count:
            return self.head
        place = self.head + 1
        while rows := self._rows(_BLOCKS_BEFORE, (place,), QUERY_BYTES):
            for place, held, crc, data in rows:
                lines = read_lines(self.path, place, held, crc, data)
                found = [index for index, line in enumerate(lines) if line]
                if not filter.everything:
                    found = [found[index] for index in filter.pick(peek_lines([lines[index] for index in found])[0])]
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
        for (first,) in self._rows("SELECT first FROM alias WHERE event_id = ? AND first > 0", (event_id,)):
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
            for first, count, crc, data in rows:
                yield first, read_lines(self.path, first, count, crc, data)
            place = rows[-1][0] + 1

    def _blocks_from(self, offset: int, limit: int = -1) -> Iterator[tuple[int, list[bytes]]]:
        """Blocks from the one that holds *offset* on: the offset of the first entry, and the lines."""
        place = self._value("SELECT first FROM block WHERE first <= ? ORDER BY first DESC LIMIT 1", (offset,))
        place = offset if place is None else place
        ahead = 1  # blocks of single events are small: read more of them at once as it goes on
        while limit and (rows := self._rows(_BLOCKS_FROM, (place, ahead), QUERY_BYTES)):
            for first, count, crc, data in rows:
                if first + count > offset:
                    yield first, read_lines(self.path, first, count, crc, data)
                place = first + count
            ahead = min(2 * ahead, 32)
            limit -= 1

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
                raise problem(self.path, error) from error


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
_BLOCKS_OF_RUN = """SELECT block.first, count, crc, lines FROM part JOIN block USING (first)
                    WHERE run = ? AND first >= ? ORDER BY first LIMIT 32"""
_BLOCKS_FROM = "SELECT first, count, crc, lines FROM block WHERE first >= ? ORDER BY first LIMIT ?"
_BLOCKS_BEFORE = "SELECT first, count, crc, lines FROM block WHERE first < ? ORDER BY first DESC LIMIT 8"

#: The last block may have been evicted: then the head was noted.
_HEAD = """SELECT max(coalesce((SELECT first + count - 1 FROM block ORDER BY first DESC LIMIT 1), 0),
                      coalesce((SELECT value FROM meta WHERE name = 'head'), 0))"""
