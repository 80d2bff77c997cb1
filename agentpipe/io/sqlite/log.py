"""The log in one SQLite file.

The rule this module keeps: **what `append` returned from is there after a SIGKILL**, with its offset, under the same
epoch, and never twice. Lines, the runs' last numbers and the ids seen go into one transaction.

Entries are stored as *blocks* (``sqlite/blocks.py``): the lines of what was committed together. One row a block instead
of one an event, because every statement lets go of the interpreter and has to win it back from the event loop (up to
5 ms each when it is busy), and because the lines are read back as blocks anyway. ``part`` says which runs a block
holds and between which numbers, so that a run's pages and a single event are found without looking through the rest.

One object belongs to one thread at a time; a `SqliteReader` is a second connection that sees every commit.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping

from agentpipe.blocks import Block, aliases, divided
from agentpipe.errors import OutputError
from agentpipe.event import encode, timestamp
from agentpipe.io.sqlite.blocks import joined, parts_of
from agentpipe.io.sqlite.file import Transaction, is_damage, locked, note, prepare, problem
from agentpipe.io.sqlite.holdings import Held, Holdings
from agentpipe.io.sqlite.reader import SqliteReader
from agentpipe.io.sqlite.retention import UNLIMITED, Age, Retainer, Retention
from agentpipe.store import Commit, Standing, StoreConflict

__all__ = ["SqliteLog"]

#: Entries that are of so much later than now are worth a word.
AHEAD_S = 60.0

#: A row of ``run``.
_RunRow = tuple[int, str, int, str | None, int, int]


class SqliteLog(SqliteReader):
    """The writing half; one process at a time. Raises OutputError when the file cannot be opened or written.

    *sync* ``always`` makes a commit survive a power cut as well, at the price of one flush of the disk each. *say* gets
    a line when the entries turn out to be of later than now, and when nothing can be dropped because of damage.
    """

    def __init__(
        self,
        path: str,
        *,
        retention: Retention = UNLIMITED,
        sync: str = "normal",
        say: Callable[[str], object] | None = None,
    ) -> None:
        self._say = say
        self._lock_file = locked(path)
        try:
            prepare(path, sync, self._lock_file)
            super().__init__(path)
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if sync == 'always' else 'NORMAL'}")
            newest, believed = self._connection.execute(_TIMES).fetchone()
            # changing
            self._holdings = Holdings(self._connection)
            self._next = self.head + 1
        except sqlite3.Error as error:
            self._let_go()
            raise problem(path, error) from error
        except OutputError:
            self._let_go()
            raise
        self.newest_at: float = newest or 0.0  # Unix seconds; 0 when there was never anything
        self._doubted = bool(believed)  # the newest entries are of a time that is not believed
        self._age = Age(believed or self.newest_at)
        self._retainer = Retainer(self._connection, path, self._holdings, retention, self._age)
        self._spoiled = False  # what has to go cannot go, because the file is damaged
        self._ahead = False  # it was said that the newest entry is of later than now

    def standings(self, runs: Collection[str] | None = None) -> dict[str, Standing]:
        """The standing of *runs*, or of all; see `Store`."""
        if runs is None:
            rows = self._rows("SELECT run_id, last, rest FROM run", ())
        else:
            rows = self._rows(_STANDINGS, (encode(sorted(runs)),))
        return {run_id: Standing.of(last, (rest or "").encode()) for run_id, last, rest in rows}

    def ids(self, limit: int) -> list[str]:
        """The newest ids that are not ``run_id:sequence``, oldest first."""
        return [row[0] for row in reversed(self._rows(_IDS, (limit,)))]

    def append(self, commit: Commit, at: float) -> int:
        """Store *commit* in one transaction; see `Store`."""
        events = commit.events
        if not events:
            return self._next - 1
        self._age.at(at)
        at = max(at, self.newest_at)  # a clock that was set back is no reason to be out of order
        believed = self._age.doubts(at)
        blocks = list(divided(events, self._next))
        runs, parts, held = self._parts(blocks, commit.after)
        rows = [_row(block, at) for block in blocks]
        ids = [(event_id, block.first) for block in blocks for event_id in aliases(block.events)]
        with self._lock, Transaction(self._connection, self.path) as connection:
            self._check(connection, commit)
            if bool(believed) != self._doubted:
                note(connection, believed=believed)
            connection.executemany("INSERT INTO block VALUES (?, ?, ?, ?, ?, ?)", rows)
            connection.execute(_PUT_RUNS, (encode(runs),))
            connection.execute(_PUT_PARTS, (encode(parts),))
            if ids:
                connection.execute(_PUT_ALIASES, (encode(ids),))
        for number, run_id, *_ in runs:
            self._holdings.added(run_id, number, held[run_id])
        self._next += len(events)
        self.newest_at, self._doubted = at, bool(believed)
        return self._next - 1

    def retain(self, now: float) -> bool:
        """Drop what is over the limits, oldest first; see `Store`."""
        self._look_at_clock(now)
        if self._spoiled:
            return False
        cause: BaseException | None
        with self._lock:
            try:
                return self._retainer.step(now, self._next - 1)
            except sqlite3.Error as error:
                failed, cause = problem(self.path, error), error
            except OutputError as error:
                failed, cause = error, error.__cause__
        if not isinstance(cause, sqlite3.Error) or not is_damage(cause):
            raise failed from cause
        self._spoiled = True  # what can be read and written goes on; to try again would only harm more
        if self._say is not None:
            self._say(f"{failed}; nothing is dropped any more")
        return False

    def save_state(self, offset: int, state: bytes) -> None:
        """Keep a state that the entries up to *offset* were reduced to."""
        with self._lock, Transaction(self._connection, self.path) as connection:
            note(connection, state=state, state_offset=offset)

    def state(self) -> tuple[int, bytes]:
        """What `save_state` kept; ``(0, b"")`` when there is nothing."""
        found = dict(self._rows("SELECT name, value FROM meta WHERE name LIKE 'state%'", ()))
        return (int(found["state_offset"]), bytes(found["state"])) if "state" in found else (0, b"")

    def reader(self) -> SqliteReader:
        """The reading half, on a connection of its own."""
        return SqliteReader(self.path)

    def close(self) -> None:
        """Leave the file clean and let go of it."""
        with self._lock:
            try:
                with Transaction(self._connection, self.path) as connection:
                    note(connection, clean=1, head=self._next - 1)
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                raise problem(self.path, error) from error
            finally:
                self._let_go()

    def _let_go(self) -> None:
        with contextlib.suppress(AttributeError, sqlite3.Error):  # not opened yet, or beyond help
            self._connection.close()
        os.close(self._lock_file)

    def _look_at_clock(self, now: float) -> None:
        ahead = self.newest_at > now + AHEAD_S
        if ahead and not self._ahead and self._say is not None:
            newest, shown = timestamp(self.newest_at), timestamp(now)
            self._say(
                f"{self.path}: the newest entry is of {newest}, but the clock says {shown}: until then new entries"
                " count as just as new, and nothing is dropped for its age"
            )
        self._ahead = ahead

    def _check(self, connection: sqlite3.Connection, commit: Commit) -> None:
        """Within the transaction: whether what the door went by is what is stored. Raises StoreConflict."""
        numbers = self._holdings.numbers
        before = commit.before.items()
        beliefs = [(numbers[run_id], each.last, _rest(each)) for run_id, each in before if run_id in numbers]
        known_to_us = any(each != Standing() for run_id, each in before if run_id not in numbers)
        wrong = known_to_us or (beliefs and connection.execute(_OTHERWISE, (encode(beliefs),)).fetchone())
        known: list[str] = []
        if commit.ids:
            known = [row[0] for row in connection.execute(_KNOWN_IDS, (encode(commit.ids),))]
        if wrong or known:
            rows = connection.execute(_STANDINGS, (encode(list(commit.before)),)).fetchall()
            found = {run_id: Standing.of(last, (rest or "").encode()) for run_id, last, rest in rows}
            raise StoreConflict({run_id: found.get(run_id, Standing()) for run_id in commit.before}, known)

    def _parts(
        self, blocks: Iterable[Block], after: Mapping[str, Standing]
    ) -> tuple[list[_RunRow], list[tuple[int, int, int, int]], dict[str, Held]]:
        """The rows of ``run`` and ``part`` that *blocks* bring, and what they bring of each run."""
        known = self._holdings.numbers
        parts: list[tuple[int, int, int, int]] = []
        numbers: dict[str, int] = {}
        held: dict[str, Held] = {}
        unused = len(known)  # runs are never deleted: their numbers have no holes
        for block in blocks:
            for run_id, (low, high, entries, size) in parts_of(block.events).items():
                number = numbers.get(run_id) or known.get(run_id)
                if number is None:
                    number = unused = unused + 1
                numbers[run_id] = number
                parts.append((number, block.first, low, high))
                before = held.get(run_id, Held())
                held[run_id] = Held(before.entries + entries, before.size_bytes + size)
        runs: list[_RunRow] = []
        for run_id, number in numbers.items():
            standing = after[run_id]
            runs.append((number, run_id, standing.last, _rest(standing), *held[run_id]))
        return runs, parts, held


_TIMES = """SELECT (SELECT at FROM block ORDER BY first DESC LIMIT 1),
    (SELECT value FROM meta WHERE name = 'believed')"""

#: The ids of events that are gone have the place of their block below zero.
_IDS = """SELECT event_id FROM (
    SELECT * FROM (SELECT event_id, first FROM alias WHERE first > 0 ORDER BY first DESC LIMIT ?1)
    UNION ALL SELECT * FROM (SELECT event_id, -first FROM alias WHERE first < 0 ORDER BY first LIMIT ?1))
    ORDER BY first DESC LIMIT ?1"""
_STANDINGS = "SELECT run_id, last, rest FROM run WHERE run_id IN (SELECT value FROM json_each(?))"
_OTHERWISE = """SELECT 1 FROM json_each(?) JOIN run ON run.id = json_extract(value, '$[0]')
    WHERE last != json_extract(value, '$[1]') OR rest IS NOT json_extract(value, '$[2]') LIMIT 1"""
_KNOWN_IDS = "SELECT event_id FROM alias WHERE event_id IN (SELECT value FROM json_each(?))"
_PUT_RUNS = """INSERT INTO run (id, run_id, last, rest, count, size)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]') FROM json_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET last = excluded.last, rest = excluded.rest,
    count = count + excluded.count, size = size + excluded.size"""
_PUT_PARTS = """INSERT INTO part SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),
    json_extract(value, '$[2]'), json_extract(value, '$[3]') FROM json_each(?)"""
_PUT_ALIASES = """INSERT OR IGNORE INTO alias
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"""


def _rest(standing: Standing) -> str | None:
    return standing.rest().decode() or None


def _row(block: Block, at: float) -> tuple[int, int, float, int, bytes, int]:
    lines = [event.line for event in block.events]
    size, data, crc = joined(lines)
    return block.first, len(lines), at, size, data, crc
