"""The outbox as a file: what is committed, who may have it, how much of it is in use."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentpipe.errors import OutputError
from agentpipe.io.outbox_file import OutboxFile
from agentpipe.io.spill_file import SpillFile
from agentpipe.outbox import Block
from tests.io.hubs import PATIENCE_S


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "events.outbox")


def block(number: int, size: int = 1) -> Block:
    return Block(1, b"%d %s\n" % (number, b"x" * size))


def numbers(file: OutboxFile) -> list[int]:
    found: list[int] = []
    after = 0
    while (some := file.read(after, 1)) is not None:
        after = some.number
        found += [int(line.split()[0]) for line in some.lines.splitlines()]
    return found


def test_blocks_are_numbered_without_a_hole_and_read_in_order(path: str) -> None:
    file = OutboxFile(path)
    assert file.append([block(1), block(2)], 0) == 2
    assert file.append([block(3)], 0) == 3
    assert numbers(file) == [1, 2, 3]
    found = file.read(1, 1000)
    assert found is not None
    assert (found.number, found.count, found.lines) == (3, 2, b"2 x\n3 x\n")
    assert file.read(3, 1000) is None
    file.close()


def test_a_block_that_is_done_leaves_with_the_next_one(path: str) -> None:
    file = OutboxFile(path)
    file.append([block(1), block(2)], 0)
    file.append([block(3)], 1)
    assert numbers(file) == [2, 3]
    file.forget(2)
    assert numbers(file) == [3]
    file.close()


def test_numbers_go_on_when_the_file_was_empty(path: str) -> None:
    file = OutboxFile(path)
    file.append([block(1)], 0)
    file.forget(1)
    assert file.append([block(2)], 1) == 2
    file.close()


def test_what_is_in_it_is_there_for_the_next_process_and_so_is_who_it_is(path: str) -> None:
    file = OutboxFile(path)
    file.append([Block(3, b"1 x\n2 x\n3 x\n")], 0)
    file.keep_generation(7)
    file.close()
    again = OutboxFile(path)
    assert again.count == 3
    assert again.publisher == file.publisher
    assert 16 <= len(again.publisher) <= 64
    assert again.generation == 8
    again.close()
    third = OutboxFile(path)
    assert third.generation == 9
    third.close()


def test_an_outbox_is_for_this_account_alone(path: str) -> None:
    file = OutboxFile(path)
    file.append([block(1)], 0)
    folder = Path(path).parent
    assert {stat.S_IMODE(os.stat(folder / name).st_mode) for name in os.listdir(folder)} == {0o600}
    file.close()


def test_a_second_process_is_refused_at_once_and_the_first_goes_on(path: str) -> None:
    file = OutboxFile(path)
    code = f"from agentpipe.io.outbox_file import OutboxFile\nOutboxFile({path!r})"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    assert f"{path}: in use by another process" in other.stderr
    file.append([block(1)], 0)
    assert numbers(file) == [1]
    file.close()


def test_a_file_that_is_something_else_is_left_alone(path: str, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database\n" * 1000)
    with pytest.raises(OutputError, match=r"notes\.txt: is no outbox"):
        OutboxFile(str(text))
    assert text.read_text() == "not a database\n" * 1000
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE block (x)")
    database.close()
    with pytest.raises(OutputError, match=r"other\.db: is a database, but no outbox"):
        OutboxFile(str(other))
    SpillFile(path).close()
    with pytest.raises(OutputError, match="no outbox"):
        OutboxFile(path)
    with pytest.raises(OutputError, match="a-folder"):
        OutboxFile(str(tmp_path / "no" / "a-folder" / "x"))


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_refused_and_nothing_is_made_beside_it(device: str) -> None:
    with pytest.raises(OutputError, match=f"{device}: Is no regular file"):
        OutboxFile(device)
    assert not [name for name in os.listdir("/dev") if name.startswith(Path(device).name + "-")]


def test_a_directory_and_a_pipe_are_refused(path: str, tmp_path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(OutputError, match="Is no regular file"):
        OutboxFile(path)
    with pytest.raises(OutputError, match="Is a directory"):
        OutboxFile(str(tmp_path))


def test_a_link_to_a_file_that_is_not_there_makes_it_for_this_account_alone(path: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    os.symlink(target, path)
    file = OutboxFile(path)
    file.append([block(1)], 0)
    file.close()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    again = OutboxFile(str(target))
    assert again.count == 1
    again.close()


def test_a_name_that_sqlite_would_keep_in_memory_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = OutboxFile(":memory:")
    file.append([block(1)], 0)
    file.close()
    again = OutboxFile(":memory:")
    assert again.count == 1
    again.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_removed_takes_nothing_more_and_says_why(path: str, replaced: bool) -> None:
    file = OutboxFile(path)
    file.append([block(1)], 0)
    assert file.lasting
    os.unlink(path)
    if replaced:
        Path(path).touch()
    assert not file.lasting
    with pytest.raises(OutputError, match="was removed or replaced while it was in use"):
        file.append([block(2)], 0)
    assert numbers(file) == [1]
    file.close()


def test_a_copy_numbers_what_has_no_number_elsewhere(path: str, tmp_path: Path) -> None:
    OutboxFile(path).close()
    copy = shutil.copy(path, tmp_path / "copy")
    one, other = OutboxFile(path), OutboxFile(str(copy))
    assert one.publisher == other.publisher
    assert one.first_name != other.first_name
    one.close()
    other.close()


def test_the_size_is_what_is_in_use(path: str) -> None:
    file = OutboxFile(path)
    empty = file.size_bytes
    for n in range(1, 21):
        file.append([block(n, 100_000)], 0)
    full = file.size_bytes
    assert 2_000_000 < full - empty < 2_400_000
    file.forget(20)
    assert file.size_bytes < empty + 50_000
    for n in range(20):
        file.append([block(n, 100_000)], 0)
    assert file.size_bytes == pytest.approx(full, rel=0.05), "freed room is used again"
    file.close()


def test_an_empty_outbox_gives_its_space_back_at_the_end(path: str) -> None:
    file = OutboxFile(path)
    for n in range(20):
        file.append([block(n, 100_000)], 0)
    file.forget(20)
    file.close()
    assert os.path.getsize(path) < 100_000
    assert os.listdir(os.path.dirname(path)) == ["events.outbox"]


def test_a_full_disk_is_reported_and_nothing_was_changed(path: str) -> None:
    file = OutboxFile(path)
    file.append([block(1), block(2)], 0)
    file._file._database.execute("PRAGMA max_page_count = 10")  # what the disk has room for
    with pytest.raises(OutputError, match=r"events\.outbox: database or disk is full"):
        file.append([block(3, 200_000)], 1)
    assert numbers(file) == [1, 2]
    file._file._database.execute("PRAGMA max_page_count = 1000000")
    assert file.append([block(3, 200_000)], 1) == 3
    assert numbers(file) == [2, 3]
    file.close()


def test_always_flushes_the_disk_with_every_commit(path: str) -> None:
    for always, level in ((False, 1), (True, 2)):
        file = OutboxFile(path, always=always)
        assert file._file._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert file._file._database.execute("PRAGMA synchronous").fetchone() == (level,)  # NORMAL, FULL
        file.close()


@pytest.mark.parametrize("always", [False, True])
def test_a_killed_process_loses_nothing_that_append_returned_from(path: str, always: bool) -> None:
    """kill -9 in the middle of appends and removals, again and again, on the same file."""
    code = """if True:
        import sys
        from agentpipe.io.outbox_file import OutboxFile
        from agentpipe.outbox import Block
        file = OutboxFile(sys.argv[1], always=sys.argv[2] == "True")
        done = file.append([Block(1, b"0 0\\n")], 0) - 1
        n = file.generation * 1_000_000
        while True:
            n += 1
            number = file.append([Block(1, b"%d %s\\n" % (n, b"x" * 3000))], done)
            print(n, done, flush=True)
            done = number - 50
    """
    kept: list[int] = []
    for round_ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, path, str(always)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(120 + 37 * round_)]
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
        process.stdout.close()
        process.wait()
        last = int(said[-1].split()[0]) if said[-1].endswith(b"\n") else int(said[-2].split()[0])
        file = OutboxFile(path)
        after, kept = 0, []
        while (some := file.read(after, 1)) is not None:
            after = some.number
            kept += [int(line.split()[0]) for line in some.lines.splitlines()]
        file.close()
        own = [n for n in kept if n > file.generation * 1_000_000 - 1_000_000 and n]
        assert own == list(range(own[0], own[-1] + 1)), "no hole"
        assert own[-1] in (last, last + 1)
        assert own[-1] - own[0] >= 45
