"""The log in one SQLite file.

The rule this module keeps: **what `append` returned from is there after a SIGKILL**, with its offset, under the same
epoch, and never twice. Lines, the runs' last numbers and the ids seen go into one transaction.

Entries are stored as *blocks*: the lines of what was committed together, joined by newlines. One row a block instead
of one an event, because every statement lets go of the interpreter and has to win it back from the event loop (up to
5 ms each when it is busy), and because the lines are read back as blocks anyway. ``part`` says which runs a block
holds and between which numbers, so that a run's pages and a single event are found without looking through the rest.

One object belongs to one thread at a time; a `SqliteReader` is a second connection that sees every commit.
"""

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple

from agentpipe.errors import OutputError
from agentpipe.event import Event, encode
from agentpipe.history import fitting
from agentpipe.io.sqlite_reader import BLOCK_BYTES, BLOCK_EVENTS, SqliteReader, connect
from agentpipe.store import Commit, Standing, StoreConflict

__all__ = ["Retention", "SqliteLog"]

#: Grows with each change of the tables below.
SCHEMA_VERSION = 2

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE block (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, at REAL NOT NULL, size INTEGER NOT NULL,
                    lines BLOB NOT NULL);
CREATE TABLE run (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, last INTEGER NOT NULL, rest TEXT);
CREATE TABLE part (run INTEGER NOT NULL, first INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL,
                   PRIMARY KEY (run, first)) WITHOUT ROWID;
CREATE INDEX part_first ON part (first);
CREATE TABLE alias (event_id TEXT PRIMARY KEY, first INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX alias_first ON alias (first);
"""

_UPGRADES = {1: "ALTER TABLE run ADD COLUMN rest TEXT;"}


class Retention(NamedTuple):
    """How much is kept; 0 means no limit. Age in seconds, size in bytes of lines."""

    age_s: float = 0.0
    size_bytes: int = 0
    events: int = 0


UNLIMITED = Retention()


class _Block(NamedTuple):
    """Consecutive entries of one transaction; ``first`` is the offset of the first one."""

    first: int
    events: Sequence[Event]


class SqliteLog(SqliteReader):
    """The writing half; one process at a time. Raises OutputError when the file cannot be opened or written.

    *sync* ``always`` makes a commit survive a power cut as well, at the price of one flush of the disk each.
    """

    def __init__(self, path: str, *, retention: Retention = UNLIMITED, sync: str = "normal") -> None:
        self._lock_file = _locked(path)
        try:
            self._prepare(path, sync)
            super().__init__(path)
        except sqlite3.Error as error:
            raise OutputError(path, str(error)) from error
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if sync == 'always' else 'NORMAL'}")
        # given
        self._retention = retention
        # changing
        self._next = self.head + 1
        self._runs: dict[str, int] = dict(self._rows("SELECT run_id, id FROM run", ()))
        self._size, self._count = self._rows("SELECT coalesce(sum(size), 0), coalesce(sum(count), 0) FROM block", ())[0]

    def standings(self, runs: Collection[str] | None = None) -> dict[str, Standing]:
        """The standing of *runs*, or of all; see `Store`."""
        if runs is None:
            rows = self._rows("SELECT run_id, last, rest FROM run", ())
        else:
            rows = self._rows(_STANDINGS, (encode(sorted(runs)),))
        return {run_id: Standing.of(last, (rest or "").encode()) for run_id, last, rest in rows}

    def ids(self, limit: int) -> list[str]:
        """The newest ids that are not ``run_id:sequence``, oldest first."""
        rows = self._rows("SELECT event_id FROM alias ORDER BY first DESC LIMIT ?", (limit,))
        return [row[0] for row in reversed(rows)]

    def append(self, commit: Commit, at: float) -> int:
        """Store *commit* in one transaction; see `Store`."""
        events = commit.events
        if not events:
            return self._next - 1
        blocks = list(_blocks(events, self._next))
        runs, parts = self._parts(blocks, commit.after)
        rows = [_row(block, at) for block in blocks]
        aliases = [(event_id, block.first) for block in blocks for event_id in _aliases(block.events)]
        with self._lock, self._transaction() as connection:
            self._check(connection, commit)
            connection.executemany("INSERT INTO block VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute(_PUT_RUNS, (encode(runs),))
            connection.execute(_PUT_PARTS, (encode(parts),))
            if aliases:
                connection.execute(_PUT_ALIASES, (encode(aliases),))
        self._runs.update((run_id, number) for number, run_id, _, _ in runs)
        self._next += len(events)
        self._size += sum(row[3] for row in rows)
        self._count += len(events)
        return self._next - 1

    def retain(self, now: float) -> bool:
        """Drop what is over the limits, oldest first; see `Store`."""
        last = self._last_over(now)
        if last:
            with self._lock, self._transaction() as connection:
                gone = connection.execute(
                    "SELECT sum(size), sum(count) FROM block WHERE first <= ?", (last,)
                ).fetchone()
                for table in ("block", "part", "alias"):
                    connection.execute(f"DELETE FROM {table} WHERE first <= ?", (last,))  # noqa: S608 - our own names
                self._note(connection, head=self._next - 1)
            self._size -= gone[0]
            self._count -= gone[1]
        return False

    def save_state(self, offset: int, state: bytes) -> None:
        """Keep a state that the entries up to *offset* were reduced to."""
        with self._lock, self._transaction() as connection:
            self._note(connection, state=state, state_offset=offset)

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
                with self._transaction() as connection:
                    self._note(connection, clean=1, head=self._next - 1)
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                self._connection.close()
                os.close(self._lock_file)

    def _prepare(self, path: str, sync: str) -> None:
        """Make the tables of a new file; give an old one a new epoch when its last commits may be lost."""
        connection = connect(path)
        boot = _boot_id()
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, *_UPGRADES, SCHEMA_VERSION):
                raise OutputError(path, f"made by another version of agentpipe (schema {version})")
            if version != SCHEMA_VERSION:
                change = _TABLES if version == 0 else _UPGRADES[version]
                connection.executescript(f"BEGIN; {change} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            found = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('epoch', 'boot', 'clean')"))
            # After a power cut the file may lack commits that readers have seen: their offsets would be given out anew.
            doubtful = sync != "always" and not found.get("clean") and found.get("boot") != boot
            epoch = secrets.token_hex(8) if "epoch" not in found or doubtful else found["epoch"]
            connection.execute("BEGIN")
            self._note(connection, epoch=epoch, boot=boot, clean=0)
            connection.execute("COMMIT")
        finally:
            connection.close()

    def _check(self, connection: sqlite3.Connection, commit: Commit) -> None:
        """Within the transaction: whether what the door went by is what is stored. Raises StoreConflict."""
        beliefs = [(self._runs[run_id], last) for run_id, last in commit.before.items() if run_id in self._runs]
        believed_new = any(last for run_id, last in commit.before.items() if run_id not in self._runs)
        wrong = believed_new or (beliefs and connection.execute(_OTHERWISE, (encode(beliefs),)).fetchone())
        known: list[str] = []
        if commit.ids:
            known = [row[0] for row in connection.execute(_KNOWN_IDS, (encode(commit.ids),))]
        if wrong or known:
            rows = connection.execute(_STANDINGS, (encode(list(commit.before)),)).fetchall()
            found = {run_id: Standing.of(last, (rest or "").encode()) for run_id, last, rest in rows}
            raise StoreConflict({run_id: found.get(run_id, Standing()) for run_id in commit.before}, known)

    def _parts(
        self, blocks: Iterable[_Block], after: Mapping[str, Standing]
    ) -> tuple[list[tuple[int, str, int, str | None]], list[tuple[int, int, int, int]]]:
        """The rows of ``run`` and ``part`` that *blocks* bring."""
        parts: list[tuple[int, int, int, int]] = []
        numbers: dict[str, int] = {}
        unused = len(self._runs)  # runs are never deleted: their numbers have no holes
        for block in blocks:
            ranges = _ranges(block.events)
            for run_id, (low, high) in ranges.items():
                number = numbers.get(run_id) or self._runs.get(run_id)
                if number is None:
                    number = unused = unused + 1
                numbers[run_id] = number
                parts.append((number, block.first, low, high))
        runs = []
        for run_id, number in numbers.items():
            standing = after[run_id]
            runs.append((number, run_id, standing.last, standing.rest().decode() or None))
        return runs, parts

    def _last_over(self, now: float) -> int:
        """The first offset of the last block that has to go; 0 when none has."""
        age_s, size_bytes, count = self._retention
        size_over = self._size - size_bytes if size_bytes else 0
        count_over = self._count - count if count else 0
        before = now - age_s if age_s else 0.0
        last = place = 0
        query = "SELECT first, count, size, at FROM block WHERE first > ? ORDER BY first LIMIT 200"
        while rows := self._rows(query, (place,)):
            for place, held, size, at in rows:
                if size_over <= 0 and count_over <= 0 and at >= before:
                    return last
                last = place
                size_over -= size
                count_over -= held
        return last

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._connection, self.path)

    @staticmethod
    def _note(connection: sqlite3.Connection, **values: str | int | bytes) -> None:
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK; SQLite's errors become OutputError."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise OutputError(self._path, str(error)) from error
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        problem = error
        if error is None:
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error as failed:
                problem = failed
        if problem is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as failed:
                problem = failed
        if isinstance(problem, sqlite3.Error):
            raise OutputError(self._path, str(problem)) from problem


_STANDINGS = "SELECT run_id, last, rest FROM run WHERE run_id IN (SELECT value FROM json_each(?))"
_OTHERWISE = """SELECT 1 FROM json_each(?) JOIN run ON run.id = json_extract(value, '$[0]')
    WHERE last != json_extract(value, '$[1]') LIMIT 1"""
_KNOWN_IDS = "SELECT event_id FROM alias WHERE event_id IN (SELECT value FROM json_each(?))"
_PUT_RUNS = """INSERT INTO run (id, run_id, last, rest)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]') FROM json_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET last = excluded.last, rest = excluded.rest"""
_PUT_PARTS = """INSERT INTO part SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),
    json_extract(value, '$[2]'), json_extract(value, '$[3]') FROM json_each(?)"""
_PUT_ALIASES = """INSERT OR IGNORE INTO alias
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"""


def _blocks(events: Sequence[Event], first: int) -> Iterator[_Block]:
    """Divide what is committed together; an event larger than a block is one alone."""
    start = 0
    while start < len(events):
        lines = [event.line for event in events[start : start + BLOCK_EVENTS]]
        end = start + fitting(lines, BLOCK_BYTES)
        yield _Block(first + start, events[start:end])
        start = end


def _ranges(events: Sequence[Event]) -> dict[str, tuple[int, int]]:
    """The lowest and highest number of each run among *events*.

    A gap does not count: it may be of any number, is found by its id, and would hide that the others rise from block
    to block. Events of a run mostly come together: the dictionaries are touched only where the run
    changes.
    """
    ranges: dict[str, tuple[int, int]] = {}
    run_id = None
    low = high = 0
    gaps: list[Event] = []
    for event in events:
        if event.type == "gap":
            gaps.append(event)
            continue
        number = event.sequence or 0
        if event.run_id != run_id:
            if run_id is not None:
                ranges[run_id] = (low, high)
            run_id = event.run_id
            low, high = ranges.get(run_id, (number, number))
        if number > high:
            high = number
        elif number < low:
            low = number
    if run_id is not None:
        ranges[run_id] = (low, high)
    for event in gaps:
        number = event.sequence or 0
        ranges.setdefault(event.run_id, (number, number - 1))  # holds no number
    return ranges


def _row(block: _Block, at: float) -> tuple[int, int, float, int, bytes]:
    lines = b"\n".join([event.line for event in block.events])
    return block.first, len(block.events), at, len(lines), lines


def _aliases(events: Iterable[Event]) -> list[str]:
    """The ids that do not say where their event is, and those of all gaps, which are told apart by nothing else."""
    return [
        event.identity
        for event in events
        if event.type == "gap" or (event.event_id is not None and event.event_id != f"{event.run_id}:{event.sequence}")
    ]


def _locked(path: str) -> int:
    """A lock on the store for as long as this process lives: two writers would give out the same offsets."""
    try:
        fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise OutputError(path, "another agentpipe serve uses this store") from None
    return fd


def _boot_id() -> str:
    """What tells one start of the machine from the next; empty where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
