"""The log in one file: what `append` returned from is there afterwards, with its offset, and never twice."""

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentpipe.blocks import BLOCK_BYTES, BLOCK_EVENTS
from agentpipe.errors import OutputError
from agentpipe.event import Event, encode, gap, peek
from agentpipe.history import OfRun
from agentpipe.io.sqlite.log import SqliteLog
from agentpipe.io.sqlite.reader import SqliteReader
from agentpipe.missing import Account
from agentpipe.store import Commit, Sender, Standing
from tests.commits import append, lasts


def made(run: str, number: int, size: int = 0, **more: object) -> Event:
    return peek(encode({"type": "x", "run_id": run, "sequence": number, "pad": "x" * size, **more}))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "hub.db")


@pytest.fixture
def log(path: str) -> Iterator[SqliteLog]:
    made_log = SqliteLog(path)
    yield made_log
    made_log.close()


def everything(log: SqliteReader) -> list[bytes]:
    lines: list[bytes] = []
    offset = 0
    while (page := log.since(offset, 300, 100_000)).lines:
        lines += page.lines
        offset = page.next
    return lines


def test_what_was_appended_is_there_after_a_restart_under_the_same_epoch(path: str):
    first = SqliteLog(path)
    events = [made("a", number) for number in range(1, 4)]
    assert append(first, events, 1.0) == 3
    first.close()
    again = SqliteLog(path)
    assert (again.epoch, again.oldest, again.head) == (first.epoch, 0, 3)
    assert everything(again) == [event.line for event in events]
    assert append(again, [made("a", 4)], 2.0) == 4
    assert lasts(again) == {"a": 4}
    again.close()


def test_it_survives_the_death_of_its_process(path: str):
    script = f"""
import sys
from agentpipe.event import encode, peek
from agentpipe.io.sqlite.log import SqliteLog
from agentpipe.missing import Account
from agentpipe.store import Commit, Sender, Standing, StoreConflict
from tests.commits import append
log = SqliteLog({path!r})
number = 0
while True:
    number += 1
    append(log, [peek(encode({{"type": "x", "run_id": "r", "sequence": number}}))], 1.0)
    print(number, log.epoch, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(50):
        number, epoch = process.stdout.readline().split()
    process.send_signal(signal.SIGKILL)
    said = process.stdout.read().split("\n")
    process.stdout.close()
    process.wait(20)
    last = max([int(number), *(int(line.split()[0]) for line in said if line.count(" ") == 1 and line.endswith(epoch))])
    log = SqliteLog(path)
    assert log.epoch == epoch
    assert log.head >= last >= 50
    assert [peek(line).sequence for line in everything(log)] == list(range(1, log.head + 1))
    assert lasts(log) == {"r": log.head}
    log.close()


def test_a_file_of_another_boot_that_was_not_closed_gets_a_new_epoch(path: str):
    """After a power cut commits that readers saw may be missing: their offsets would be given out anew."""
    log = SqliteLog(path)
    append(log, [made("a", 1)], 1.0)
    epoch = log.epoch
    with sqlite3.connect(path) as other:
        other.execute("UPDATE meta SET value = 'an earlier boot' WHERE name = 'boot'")
    other.close()
    os.close(log._lock_file)
    log._connection.close()
    again = SqliteLog(path)
    assert again.epoch != epoch
    assert again.head == 1
    again.close()
    clean = SqliteLog(path)
    assert clean.epoch == again.epoch
    clean.close()


def test_nobody_else_can_read_it(log: SqliteLog, path: str):
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_store_is_served_by_one_process(log: SqliteLog, path: str):
    with pytest.raises(OutputError, match="another agentpipe serve"):
        SqliteLog(path)


@pytest.mark.parametrize("content", [b"this is no database, but long enough to look like one " * 40])
def test_a_file_that_is_no_store_is_an_error_of_one_line(path: str, content: bytes):
    Path(path).write_bytes(content)
    with pytest.raises(OutputError, match="not a database"):
        SqliteLog(path)


def test_a_path_that_cannot_be_is_an_error_of_one_line(tmp_path: Path):
    with pytest.raises(OutputError, match="No such file"):
        SqliteLog(str(tmp_path / "none" / "hub.db"))


def test_a_store_of_another_version_is_left_alone(path: str):
    SqliteLog(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(OutputError, match="another version"):
        SqliteLog(path)


def test_a_database_of_another_program_is_left_alone(path: str):
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(OutputError, match="another program's"):
        SqliteLog(path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_an_event_is_found_in_few_looks_among_200_000(path: str):
    log = SqliteLog(path)
    events = [made(f"r{number % 2}", number // 2 + 1) for number in range(2000)]
    for event in events:
        append(log, [event], 1.0)  # the worst case: a block each
    looks: list[str] = []
    log._connection.set_trace_callback(looks.append)
    assert log.find("r1:777") == events[1553].line
    assert len(looks) < 30
    log._connection.set_trace_callback(None)
    log.close()


def test_a_query_brings_a_bounded_number_of_bytes(log: SqliteLog):
    for number in range(1, 65):
        append(log, [made("a", number)], 1.0)
    for number in range(65, 97):
        append(log, [made("a", number, BLOCK_BYTES)], 1.0)
    rows = log._rows("SELECT first, lines FROM block ORDER BY first", (), 2 * BLOCK_BYTES)
    assert len(rows) == 66
    assert len(everything(log)) == 96
    assert log.of_run(OfRun("a"), 70, 3).offsets == [71, 72, 73]


def test_big_batches_become_several_blocks(log: SqliteLog):
    append(log, [made("a", number) for number in range(1, 2 * BLOCK_EVENTS + 2)], 1.0)
    append(log, [made("b", 1, 2 * BLOCK_BYTES), made("b", 2)], 1.0)
    assert [row[0] for row in log._rows("SELECT count FROM block ORDER BY first", ())] == [500, 500, 1, 1, 1]
    assert len(everything(log)) == log.head == 2 * BLOCK_EVENTS + 3


def test_events_with_ids_of_their_own_are_found_and_remembered(log: SqliteLog):
    declared = gap([(3, 4)], "throttle", run_id="a", agent_id="", at="2026-11-20T07:00:00.000Z")
    own = made("a", 7, event_id="hook:1")
    append(log, [made("a", 5), declared, own], 1.0)
    assert log.find("a:gap:3-4") == declared.line
    assert log.find("hook:1") == own.line
    assert log.find("a:7") is None
    assert log.find("nobody:7") is None
    assert lasts(log) == {"a": 7}  # the gap's number is not the run's
    assert set(log.ids(10)) == {"a:gap:3-4", "hook:1"}


def test_a_failed_append_leaves_nothing_behind(log: SqliteLog):
    append(log, [made("a", 1)], 1.0)
    log._connection.execute("CREATE TEMP TRIGGER refuse BEFORE INSERT ON part BEGIN SELECT raise(ABORT, 'full'); END")
    with pytest.raises(OutputError, match="full"):
        append(log, [made("a", 2), made("b", 1)], 1.0)
    log._connection.execute("DROP TRIGGER refuse")
    assert (log.head, lasts(log)) == (1, {"a": 1})
    assert append(log, [made("a", 2)], 1.0) == 2
    assert [peek(line).sequence for line in everything(log)] == [1, 2]


def test_a_state_is_kept_with_its_offset(log: SqliteLog):
    assert log.state() == (0, b"")
    log.save_state(7, b"\x00state")
    log.save_state(9, b"later")
    assert log.state() == (9, b"later")


def test_a_reader_sees_what_is_committed_from_another_connection(log: SqliteLog, path: str):
    reader = SqliteReader(path)
    append(log, [made("a", 1)], 1.0)
    assert (reader.head, reader.find("a:1")) == (1, made("a", 1).line)
    reader.close()


def test_a_power_cut_is_guarded_against_on_request(path: str):
    log = SqliteLog(path, sync="always")
    assert log._rows("PRAGMA synchronous", ()) == [(2,)]
    log.close()


def test_a_second_look_at_the_file_leaves_the_log_whole(tmp_path: Path) -> None:
    """Another process that opens and closes the database must find our locks, else it takes the WAL away with it."""
    path = tmp_path / "hub.db"
    log = SqliteLog(str(path))
    reader = SqliteReader(str(path))  # the hub's second connection
    try:
        look = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM sqlite_master'); c.close()"
        )
        subprocess.run([sys.executable, "-c", look, str(path)], check=True, timeout=60)
        assert path.with_name("hub.db-wal").exists()
    finally:
        reader.close()
        log.close()


def test_a_standing_is_there_after_a_restart(path: str):
    standing = Standing(9, Account(1.5, "a", "w", ((2, 4),), ()), Sender("p" * 16, 3))
    first = SqliteLog(path)
    first.append(Commit([made("r", 1), made("r", 9)], {"r": Standing()}, {"r": standing}, ()), 1.0)
    first.close()
    again = SqliteLog(path)
    assert again.standings() == again.standings({"r", "other"}) == {"r": standing}
    again.close()


def test_a_store_of_the_version_before_is_taken_over(path: str):
    first = SqliteLog(path)
    append(first, [made("a", 1), made("a", 2)])
    first.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(
            """ALTER TABLE run DROP COLUMN rest; ALTER TABLE run DROP COLUMN size; ALTER TABLE run DROP COLUMN count;
            ALTER TABLE block DROP COLUMN crc; DROP TABLE remnant; PRAGMA user_version = 1;"""
        )
    again = SqliteLog(path)
    assert lasts(again) == {"a": 2}
    assert append(again, [made("a", 3)]) == 3
    again.close()
