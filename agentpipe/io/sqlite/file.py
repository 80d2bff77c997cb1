"""The SQLite file of a hub's log: opened, made, brought up to date, looked after.

The rules this module keeps: **one process writes to it**, which the lock file says; a file that is damaged or not ours
is refused and left as it is; and an **epoch** stands for commits that are all there, so that a file that may have lost
some gets a new one.
"""

import contextlib
import fcntl
import os
import secrets
import sqlite3
from types import TracebackType

from agentpipe.errors import OutputError
from agentpipe.io.private_file import create_private

__all__ = ["Transaction", "connect", "is_damage", "locked", "note", "prepare", "problem"]

#: Grows with each change of the tables below.
SCHEMA_VERSION = 3

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE block (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, at REAL NOT NULL, size INTEGER NOT NULL,
                    lines BLOB NOT NULL, crc INTEGER);
CREATE TABLE run (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, last INTEGER NOT NULL, rest TEXT,
                  size INTEGER NOT NULL DEFAULT 0, count INTEGER NOT NULL DEFAULT 0);
CREATE TABLE part (run INTEGER NOT NULL, first INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL,
                   PRIMARY KEY (run, first)) WITHOUT ROWID;
CREATE INDEX part_first ON part (first);
CREATE TABLE alias (event_id TEXT PRIMARY KEY, first INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX alias_first ON alias (first);
CREATE TABLE remnant (run INTEGER PRIMARY KEY, gap INTEGER NOT NULL, terminal INTEGER NOT NULL, size INTEGER NOT NULL);
"""

#: What a run takes is not known of an older file: it is taken to be the average, because it only says how many runs go
#: at once.
_UPGRADES = {
    1: "ALTER TABLE run ADD COLUMN rest TEXT;",
    2: """
ALTER TABLE block ADD COLUMN crc INTEGER;
ALTER TABLE run ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN count INTEGER NOT NULL DEFAULT 0;
CREATE TABLE remnant (run INTEGER PRIMARY KEY, gap INTEGER NOT NULL, terminal INTEGER NOT NULL, size INTEGER NOT NULL);
UPDATE run SET count = coalesce((SELECT sum(max(high - low + 1, 1)) FROM part WHERE part.run = run.id), 0);
UPDATE run SET size = count * coalesce((SELECT sum(size) / max(1, sum(count)) FROM block), 0);
""",
}

#: How long a commit waits for another program that writes to the file. Long enough for somebody who looks at it with a
#: shell of SQLite; short enough that publishers hear of it before they would take the link for dead.
BUSY_TIMEOUT_S = 2.0

#: What is left of SQLite's own log on the disk after it was folded into the file. It grows beyond while a reader of
#: another program keeps an old state of the file.
LEFT_BYTES = 16 << 20

#: An older file is rewritten, so that it can shrink, when that takes no more than about a second.
REWRITTEN_BYTES = 64 << 20

_DAMAGED = "the file is damaged ({}). Nothing was changed: move it aside with its -wal file, and a new one is made"


def connect(path: str) -> sqlite3.Connection:
    """A connection to the store, made for its owner alone. Raises OutputError."""
    connection = None
    try:
        create_private(path)  # the events are nobody else's business
        new = not os.path.getsize(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
        if new:  # in a file that is there it would be written anew each time
            connection.execute("PRAGMA page_size = 8192")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {LEFT_BYTES}")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise problem(path, error) from error
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    return connection


def problem(path: str, error: sqlite3.Error) -> OutputError:
    """SQLite's *error* in words that say what to do."""
    text = str(error)
    if is_damage(error):
        return OutputError(path, _DAMAGED.format(text))
    if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return OutputError(path, f"another program keeps the file locked ({text})")
    return OutputError(path, text)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether *error* says that something else is in the file than what was written."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def locked(path: str) -> int:
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


def prepare(path: str, sync: str, lock: int) -> None:
    """Make the tables of a new file, or bring an old one up to date; give it a new epoch when its last commits may be
    lost. *lock* is what `locked` gave. Raises OutputError for a file that is damaged or of another program.
    """
    made_before = os.fstat(lock).st_size > 0
    if made_before and os.path.exists(path) and not os.path.getsize(path):
        raise OutputError(path, _DAMAGED.format("it is empty, but was not"))
    connection = connect(path)
    try:
        found = _upgraded(path, connection)
        _make_it_shrink(path, connection)
        boot = _boot_id()
        # After a power cut the file may lack commits that readers have seen: their offsets would be given out anew.
        doubtful = sync != "always" and not found.get("clean") and found.get("boot") != boot
        epoch = secrets.token_hex(8) if "epoch" not in found or doubtful else str(found["epoch"])
        with Transaction(connection, path):
            note(connection, epoch=epoch, boot=boot, clean=0)
        if not made_before:
            os.write(lock, b"there is a store\n")  # so that one that is empty later is known to be damaged
    except sqlite3.Error as error:
        raise problem(path, error) from error
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    finally:
        with contextlib.suppress(sqlite3.Error):  # what is wrong was said already
            connection.close()


def note(connection: sqlite3.Connection, **values: str | float | bytes) -> None:
    """Keep *values* under their names; within a transaction."""
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())


class Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK; SQLite's errors become OutputError."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise problem(self._path, error) from error
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = error
        if error is None:
            failed = _failure(self._connection, "COMMIT")
        if failed is not None and self._connection.in_transaction:
            failed = _failure(self._connection, "ROLLBACK") or failed
        if isinstance(failed, sqlite3.Error):
            raise problem(self._path, failed) from failed


def _failure(connection: sqlite3.Connection, command: str) -> sqlite3.Error | None:
    try:
        connection.execute(command)
    except sqlite3.Error as error:
        return error
    return None


def _upgraded(path: str, connection: sqlite3.Connection) -> dict[str, object]:
    """Give the file the tables of today; what it says of its last use: ``epoch``, ``boot``, ``clean``."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise OutputError(path, "this is another program's database")
    if version not in (0, *_UPGRADES, SCHEMA_VERSION):
        raise OutputError(path, f"made by another version of agentpipe (schema {version})")
    found: dict[str, object] = {}
    if version:
        found = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('epoch', 'boot', 'clean')"))
        _check(path, connection, clean=bool(found.get("clean")))
    if version != SCHEMA_VERSION:
        change = _TABLES if version == 0 else " ".join(_UPGRADES[each] for each in range(version, SCHEMA_VERSION))
        connection.executescript(f"BEGIN IMMEDIATE; {change} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    return found


def _check(path: str, connection: sqlite3.Connection, *, clean: bool) -> None:
    """Refuse a file that is not whole: always one that was cut short; one that was not closed is read through."""
    pages, page_size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    folded = not os.path.exists(f"{path}-wal") or not os.path.getsize(f"{path}-wal")
    if folded and os.path.getsize(path) < pages * page_size:
        raise OutputError(path, _DAMAGED.format("it is shorter than it says"))
    if not clean:
        said = " ".join(row[0] for row in connection.execute("PRAGMA quick_check(1)"))
        if said != "ok":
            raise OutputError(path, _DAMAGED.format(" ".join(said.split())[:200]))


def _make_it_shrink(path: str, connection: sqlite3.Connection) -> None:
    """Rewrite a small file of before, so that free pages can be given back one by one; a large one uses them anew."""
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] == 0 and os.path.getsize(path) < REWRITTEN_BYTES:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")


def _boot_id() -> str:
    """What tells one start of the machine from the next; empty where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
