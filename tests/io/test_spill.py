"""The spill file: order, room, crashes, one process at a time, clear refusals."""

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agentpipe.buffer import Buffer, BufferOptions
from agentpipe.buffer.spilling import Block, Spill
from agentpipe.errors import OptionError, OutputError, ReaderGone
from agentpipe.event import make, timestamp
from agentpipe.io.spill import opened
from agentpipe.io.spill_file import SpillFile


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "events.spill")


def block(number: int) -> Block:
    return Block(b"%d\n" % number, 1)


def drained(file: SpillFile) -> list[int]:
    out = []
    while (found := file.take(1)) is not None:
        out += [int(line) for line in found.lines.split()]
        file.settle()
    return out


def event(number: int):
    return make("t", {}, run_id="r", agent_id="a", sequence=number, at=timestamp(0))


def test_blocks_come_out_in_the_order_they_went_in_and_leave_nothing(path: str) -> None:
    file = SpillFile(path)
    for n in range(1, 50):
        file.append([block(n)])
    assert file.count == 49
    assert drained(file) == list(range(1, 50))
    assert file.count == 0
    file.close()
    assert os.listdir(os.path.dirname(path)) == ["events.spill"]
    assert os.path.getsize(path) < 50_000


def test_one_take_brings_blocks_up_to_the_mark_and_one_larger_block_alone(path: str) -> None:
    file = SpillFile(path)
    file.append([Block(b"x" * 40, 1), Block(b"y" * 40, 2), Block(b"z" * 40, 3), Block(b"w" * 500, 1)])
    first = file.take(100)
    assert (first.lines, first.count) == (b"x" * 40 + b"y" * 40, 3)
    assert file.take(100).count == 3
    assert len(file.take(100).lines) == 500
    assert file.take(100) is None
    file.close()


def test_what_was_taken_and_not_settled_comes_again_after_a_restart(path: str) -> None:
    file = SpillFile(path)
    file.append([block(n) for n in (1, 2, 3)])
    file.take(1)
    file.settle()
    file.take(1)
    file.close()
    again = SpillFile(path)
    assert again.count == 2
    assert drained(again) == [2, 3]
    again.close()


def test_what_was_in_memory_is_put_before_what_came_later(path: str) -> None:
    file = SpillFile(path)
    file.append([block(1)])
    file.take(1)
    file.append([block(4), block(5)], behind=2)
    file.prepend([block(2), block(3)])
    assert file.count == 4
    assert drained(file) == [2, 3, 4, 5]
    file.close()


def test_putting_before_without_room_is_a_mistake_that_changes_nothing(path: str) -> None:
    file = SpillFile(path)
    file.append([block(2)])
    with pytest.raises(ValueError, match="no room"):
        file.prepend([block(1)])
    assert drained(file) == [2]
    file.close()


def test_a_second_process_on_the_same_file_is_refused(path: str) -> None:
    file = SpillFile(path)
    code = "import sys; from agentpipe.io.spill_file import SpillFile; SpillFile(sys.argv[1])"
    other = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert "OutputError" in other.stderr
    assert "in use by another process" in other.stderr
    with pytest.raises(OutputError, match=r"events\.spill: in use by another process"):
        SpillFile(path)
    file.close()
    SpillFile(path).close()


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("dear diary, " * 1000)
    with pytest.raises(OutputError, match="is no spill file"):
        SpillFile(str(text))
    assert text.read_text() == "dear diary, " * 1000
    other = tmp_path / "other.db"
    database = sqlite3.connect(other)
    database.execute("CREATE TABLE precious (x)")
    database.close()
    before = other.read_bytes()
    with pytest.raises(OutputError, match="no spill file"):
        SpillFile(str(other))
    assert other.read_bytes() == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere/f: No such file or directory") as caught:
        SpillFile(str(tmp_path / "nowhere" / "f"))
    assert caught.value.status == 74


def test_only_the_owner_can_read_it(path: str) -> None:
    file = SpillFile(path)
    file.append([block(1)])
    modes = {
        stat.S_IMODE(os.stat(os.path.join(os.path.dirname(path), name)).st_mode)
        for name in os.listdir(os.path.dirname(path))
    }
    assert modes == {0o600}
    file.close()


def test_a_full_disk_is_reported_and_what_was_there_stays(path: str) -> None:
    file = SpillFile(path)
    file.append([block(1)])
    file._file._database.execute("PRAGMA max_page_count = 10")  # what the disk has room for
    with pytest.raises(OutputError, match=r"events\.spill: database or disk is full"):
        file.append([Block(b"x" * 200_000, 1)])
    assert file.count == 1
    assert drained(file) == [1]
    file.close()


def test_a_damaged_block_is_not_passed_on(path: str) -> None:
    file = SpillFile(path)
    file.append([Block(b"not json\n", 1)])
    stage = Spill(file, 0, 0)
    with pytest.raises(OutputError, match="damaged"):
        stage.wake(0)
    file.close()


def test_without_a_file_the_opener_gives_the_plain_stage_and_needs_no_sqlite() -> None:
    with opened(BufferOptions()) as stage:
        assert type(stage) is Buffer
    code = "import sys\nfrom agentpipe.io.spill import opened\nfrom agentpipe.buffer import BufferOptions\n"
    code += "with opened(BufferOptions()): print('sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_opener_refuses_a_spill_without_file() -> None:
    with pytest.raises(OptionError, match="--spill"), opened(BufferOptions(when_full="spill")):
        pass


def test_however_it_ends_what_was_held_is_in_the_file(path: str) -> None:
    def interrupted() -> None:
        with opened(BufferOptions(spill=path)) as stage:
            stage.feed([event(1), event(2)], 0)
            raise ReaderGone

    with pytest.raises(ReaderGone):
        interrupted()
    with opened(BufferOptions(spill=path)) as stage:
        assert stage.counts.left == 2
        assert [found.sequence for found in stage.wake(0)] == [1, 2]
        stage.wake(0)
    with opened(BufferOptions(spill=path)) as stage:
        assert stage.counts.left == 0


def test_when_even_the_end_cannot_be_written_the_loss_is_told(path: str) -> None:
    def ended_on_a_full_disk() -> None:
        with opened(BufferOptions(spill=path)) as stage:
            stage.feed([make("t", {"text": "x" * 100_000}, run_id="r", agent_id="a", sequence=1, at=timestamp(0))], 0)
            stage._store._file._database.execute("PRAGMA max_page_count = 5")

    with pytest.raises(OutputError, match="database or disk is full; 1 events that memory held are lost"):
        ended_on_a_full_disk()


class Spilled(RuleBasedStateMachine):
    """The real file against a list, closed and opened at any moment."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "f")
        self.file = SpillFile(self.path)
        self.waiting: list[int] = []
        self.under_way: list[int] = []
        self.fed = 0

    @rule(count=st.integers(1, 4))
    def append(self, count) -> None:
        numbers = [self.fed + n for n in range(1, count + 1)]
        self.fed += count
        self.file.append([block(n) for n in numbers])
        self.waiting += numbers

    @rule(mark=st.sampled_from([1, 8]))
    def take(self, mark) -> None:
        self.settle()
        found = self.file.take(mark)
        self.under_way = [int(line) for line in found.lines.split()] if found else []
        assert self.under_way == self.waiting[: len(self.under_way)]
        assert bool(self.under_way) == bool(self.waiting)
        self.waiting = self.waiting[len(self.under_way) :]

    @rule()
    def settle(self) -> None:
        self.file.settle()
        self.under_way = []

    @rule()
    def reopen(self) -> None:
        self.file.close()
        self.file = SpillFile(self.path)
        self.waiting = self.under_way + self.waiting
        self.under_way = []

    @invariant()
    def it_counts(self) -> None:
        assert self.file.count == len(self.waiting)

    def teardown(self) -> None:
        assert drained(self.file) == self.waiting
        self.file.close()
        self.directory.cleanup()


Spilled.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestSpilled = Spilled.TestCase
