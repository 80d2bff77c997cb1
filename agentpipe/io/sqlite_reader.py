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
from agentpipe.history import SLICE_BYTES, Filter, Page, Slice, fitting
from agentpipe.io.private_file import create_private

__all__ = ["BLOCK_BYTES", "BLOCK_EVENTS", "SqliteReader", "connect"]

#: A block holds at most this much, so that reading one event does not read megabytes.
BLOCK_EVENTS = 500
BLOCK_BYTES = 256 * 1024


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

    def of_run(self, run_id: str, after: int, limit: int, types: frozenset[str]) -> Slice:
        """The entries of one run; see `Log`."""
        wanted = Filter(runs=frozenset({run_id}), types=types)
        head = self.head
        lines: list[bytes] = []
        offsets: list[int] = []
        room = SLICE_BYTES
        for first, found in self._blocks_of_run(run_id, after):
            events, _ = peek_lines(found)
            for index in wanted.pick(events):
                if first + index <= after:
                    continue
                lines.append(events[index].line)
                offsets.append(first + index)
                room -= len(lines[-1])
                if len(lines) == limit or room <= 0:
                    return Slice(lines, offsets, offsets[-1])
        return Slice(lines, offsets, max(head, after))

    def before_last(self, filter: Filter, count: int) -> int:  # noqa: A002 - the protocol's word
        """The offset after which the last *count* matching entries lie; see `Log`."""
        if filter.everything or not count:
            return max(self.oldest, self.head - count)
        place = self.head + 1
        query = "SELECT first, lines FROM block WHERE first < ? ORDER BY first DESC LIMIT 8"
        while rows := self._rows(query, (place,)):
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
            query = (
                "SELECT first FROM part WHERE run = (SELECT id FROM run WHERE run_id = ?) AND low <= ? AND high >= ?"
            )
            for (first,) in self._rows(query, (run_id, int(number), int(number))):
                yield first

    def _blocks_of_run(self, run_id: str, after: int) -> Iterator[tuple[int, list[bytes]]]:
        """The blocks that hold entries of a run after the offset *after*."""
        query = """SELECT block.first, block.lines FROM part JOIN block USING (first)
                   WHERE run = (SELECT id FROM run WHERE run_id = ?) AND first > ? ORDER BY first LIMIT 8"""
        place = after - BLOCK_EVENTS  # the block that holds *after* itself may hold later ones too
        while rows := self._rows(query, (run_id, place)):
            for place, lines in rows:
                yield place, lines.split(b"\n")

    def _blocks_from(self, offset: int, limit: int = -1) -> Iterator[tuple[int, list[bytes]]]:
        """Blocks from the one that holds *offset* on: the offset of the first entry, and the lines."""
        place = self._value("SELECT first FROM block WHERE first <= ? ORDER BY first DESC LIMIT 1", (offset,))
        place = offset if place is None else place
        query = "SELECT first, count, lines FROM block WHERE first >= ? ORDER BY first LIMIT ?"
        ahead = 1  # blocks of single events are small: read more of them at once as it goes on
        while limit and (rows := self._rows(query, (place, ahead))):
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

    def _rows(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise OutputError(self.path, str(error)) from error


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
