"""The outbox: what it keeps on a store that may fail, in which order, and that nothing is ever unaccounted for."""

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentpipe.errors import OutputError
from agentpipe.event import make, peek
from agentpipe.inflight import Window
from agentpipe.outbox import BLOCK_BYTES, RETRY_S, Block, Found, Outbox

LIMIT = 64 * 1024
WINDOW = 8 * 1024


class Disk:
    """What outlives a process: the file of a `MemoryStore`."""

    def __init__(self):
        self.blocks: dict[int, Block] = {}
        self.newest = 0
        self.generation = 0
        self.writable = self.readable = True

    @property
    def lines(self):
        return [line for block in self.blocks.values() for line in block.lines.splitlines()]


class MemoryStore:
    """A `agentpipe.outbox.Store` on *disk*, which fails when the disk does."""

    name = "events.outbox"
    publisher = "0123456789abcdef"

    def __init__(self, disk):
        self.disk = disk
        disk.generation += 1
        self.generation = disk.generation
        self.first_name = disk.generation << 40
        self.count = sum(block.count for block in disk.blocks.values())
        self.lasting = True

    @property
    def size_bytes(self):
        return sum(len(block.lines) for block in self.disk.blocks.values())

    def append(self, blocks, done):
        self.write()
        self.drop(done)
        for block in blocks:
            self.disk.newest += 1
            self.disk.blocks[self.disk.newest] = block
        return self.disk.newest

    def read(self, after, mark_bytes):
        if not self.disk.readable:
            raise OutputError(self.name, "cannot be read")
        found = [(number, block) for number, block in self.disk.blocks.items() if number > after]
        taken, size = [], 0
        for number, block in found:
            if taken and size + len(block.lines) > mark_bytes:
                break
            taken.append((number, block))
            size += len(block.lines)
        if not taken:
            return None
        blocks = [block for _, block in taken]
        return Found(taken[-1][0], sum(b.count for b in blocks), b"".join(b.lines for b in blocks))

    def forget(self, done):
        self.write()
        self.drop(done)

    def keep_generation(self, generation):
        self.write()
        self.disk.generation = max(self.disk.generation, generation)

    def write(self):
        if not self.disk.writable:
            raise OutputError(self.name, "no space left on device")

    def drop(self, done):
        for number in [number for number in self.disk.blocks if number <= done]:
            del self.disk.blocks[number]


def opened(disk, *, window=WINDOW, limit=LIMIT, notes=None, reserve=1000):
    store = MemoryStore(disk)
    warn = notes.append if notes is not None else lambda text: None
    outbox = Outbox(store, window, limit_bytes=limit, warn=warn, batch_bytes=2048, reserve=reserve)
    outbox.tend(0.0)
    return outbox


def event(sequence, kind="agent_output", run="r", text="x"):
    return make(kind, {"text": text}, run_id=run, agent_id="a", sequence=sequence, at="2026-11-20T07:00:00.000Z")


def events(first, last, **more):
    return [event(n, **more) for n in range(first, last + 1)]


def taken(outbox):
    """Send all that waits; the lines."""
    lines = []
    while (frame := outbox.next_frame(0.0)) is not None:
        lines += frame
    return lines


def delivered(outbox, now=0.0):
    """Send and settle until nothing is left; the lines."""
    lines = []
    while outbox.held:
        some = taken(outbox)
        outbox.settle(outbox._settled_on_link + len(some))
        now += RETRY_S
        outbox.tend(now)
        lines += some
        assert some, "it went on for ever"
    return lines


def numbers(lines, run="r"):
    found = map(json.loads, lines)
    return [line["sequence"] for line in found if line["run_id"] == run and line["type"] != "gap"]


def identity_holds(outbox):
    return outbox.read + outbox.added == outbox.settled + outbox.dropped + outbox.held


def test_an_event_is_in_the_file_before_it_can_be_sent_and_until_it_is_acknowledged():
    disk = Disk()
    outbox = opened(disk)
    outbox.offer(events(1, 3), 0.0)
    assert numbers(disk.lines) == [1, 2, 3]
    assert numbers(taken(outbox)) == [1, 2, 3]
    assert numbers(disk.lines) == [1, 2, 3]
    outbox.settle(3)
    outbox.finish(0.0)
    assert disk.lines == []


def test_one_offer_is_one_block():
    disk = Disk()
    outbox = opened(disk)
    outbox.offer(events(1, 30), 0.0)
    assert [block.count for block in disk.blocks.values()] == [30]


def test_a_large_offer_is_several_blocks_and_comes_out_in_order():
    disk = Disk()
    outbox = opened(disk, window=8 << 20, limit=64 << 20)
    outbox.offer(events(1, 40, text="x" * 40_000), 0.0)
    assert len(disk.blocks) > 2
    assert max(len(block.lines) for block in disk.blocks.values()) <= 2 * BLOCK_BYTES
    assert numbers(delivered(outbox)) == list(range(1, 41))


def test_memory_holds_the_beginning_and_the_file_the_rest():
    disk = Disk()
    outbox = opened(disk, limit=1 << 20)
    for n in range(1, 501):
        outbox.offer([event(n)], 0.0)
    assert len(disk.lines) == outbox.held == 500
    assert outbox._bytes < WINDOW
    lines = []
    while outbox.held:
        some = taken(outbox)
        outbox.settle(outbox._settled_on_link + len(some))
        outbox.tend(0.0)
        assert outbox._bytes < WINDOW
        lines += some
    assert numbers(lines) == list(range(1, 501))


def test_the_next_process_sends_first_what_the_one_before_left():
    disk = Disk()
    opened(disk).offer(events(1, 100), 0.0)  # and then it is killed
    outbox = opened(disk)
    outbox.offer(events(101, 110), 0.0)
    assert (outbox.resumed, outbox.read, outbox.held) == (100, 110, 110)
    assert numbers(delivered(outbox)) == list(range(1, 111))
    assert identity_holds(outbox)


def test_acknowledged_blocks_leave_with_the_next_commit():
    disk = Disk()
    outbox = opened(disk)
    outbox.offer(events(1, 5), 0.0)
    outbox.offer(events(6, 9), 0.0)
    taken(outbox)
    outbox.settle(7)
    outbox.tend(0.0)
    assert numbers(disk.lines) == list(range(1, 10)), "no commit for so little"
    outbox.offer(events(10, 10), 0.0)
    assert numbers(disk.lines) == list(range(6, 11)), "whole blocks only"


def test_many_acknowledged_blocks_leave_at_once():
    disk = Disk()
    outbox = opened(disk, window=1 << 20)
    outbox.offer(events(1, 100), 0.0)
    outbox.settle(len(taken(outbox)))
    outbox.tend(0.0)
    assert disk.lines == []


def test_a_full_file_takes_nothing_more_until_dropping_declares_what_is_gone():
    disk = Disk()
    outbox = opened(disk)
    number = 0
    while not outbox.full:
        number += 1
        outbox.offer([event(number)], 0.0)
    assert sum(len(line) + 1 for line in disk.lines) >= LIMIT
    outbox.offer(events(number + 1, number + 50), 0.0, dropping=True)
    outbox.offer([event(number + 51, "run_completed")], 0.0, dropping=True)
    assert outbox.dropped == 50
    lines = [json.loads(line) for line in disk.lines]
    assert [line["type"] for line in lines[-2:]] == ["gap", "run_completed"]
    assert lines[-2]["payload"]["ranges"] == [[number + 1, number + 50]]
    assert identity_holds(outbox)


def test_what_is_kept_while_dropping_is_one_commit():
    disk = Disk()
    outbox = opened(disk, reserve=50_000)
    number = 0
    while not outbox.full:
        number += 1
        outbox.offer([event(number)], 0.0)
    before = len(disk.blocks)
    outbox.offer([event(number + n, "error") for n in range(1, 21)], 0.0, dropping=True)
    assert (outbox.dropped, len(disk.blocks)) == (0, before + 1)


def test_a_file_that_cannot_be_written_is_told_once_and_events_go_on_behind_what_is_in_it():
    disk, notes = Disk(), []
    outbox = opened(disk, notes=notes)
    outbox.offer(events(1, 10), 0.0)
    disk.writable = False
    outbox.offer(events(11, 15), 1.0)
    outbox.offer(events(16, 20), 3.0)
    outbox.tend(5.0)
    assert len(notes) == 1
    assert "events.outbox: no space left on device" in notes[0]
    assert numbers(disk.lines) == list(range(1, 11))
    assert (outbox.held, outbox.kept) == (20, 10)
    disk.writable = True
    outbox.tend(outbox.deadline)
    assert numbers(disk.lines) == list(range(1, 21))
    assert len(notes) == 2
    assert outbox.kept == 20
    assert numbers(delivered(outbox, 9.0)) == list(range(1, 21))


def test_a_file_that_fails_is_not_asked_with_every_event():
    disk = Disk()
    outbox = opened(disk)
    disk.writable = False
    outbox.offer(events(1, 1), 0.0)
    disk.writable = True
    outbox.offer(events(2, 2), RETRY_S / 2)
    outbox.tend(RETRY_S / 2)
    assert disk.lines == []
    assert outbox.deadline == RETRY_S
    outbox.tend(RETRY_S)
    assert numbers(disk.lines) == [1, 2]
    assert outbox.deadline is None


def test_while_the_file_fails_memory_is_bounded_by_the_window_and_then_events_are_dropped():
    disk = Disk()
    outbox = opened(disk)
    disk.writable = False
    number = 0
    while not outbox.full:
        number += 1
        outbox.offer([event(number)], 0.0)
    assert outbox._loose_bytes == pytest.approx(WINDOW / 2, abs=500)
    outbox.offer(events(number + 1, number + 30), 0.0, dropping=True)
    assert outbox.dropped == 30
    assert numbers(delivered(outbox)) == list(range(1, number + 1))
    assert identity_holds(outbox)


def test_what_was_sent_while_the_file_failed_is_not_written_afterwards():
    disk = Disk()
    outbox = opened(disk)
    disk.writable = False
    outbox.offer(events(1, 5), 0.0)
    outbox.offer(events(6, 9), 0.0)
    taken(outbox)
    outbox.settle(6)
    disk.writable = True
    outbox.tend(RETRY_S)
    assert numbers(disk.lines) == [6, 7, 8, 9]
    outbox.settle(9)
    outbox.finish(RETRY_S)
    assert disk.lines == []


def test_what_memory_took_while_the_file_failed_comes_out_once_and_in_order():
    disk = Disk()
    outbox = opened(disk)
    disk.writable = False
    number = 0
    while not outbox.full:
        number += 1
        outbox.offer([event(number)], 0.0)
    outbox.offer(events(number + 1, number + 30), 0.0)
    assert outbox._in_tail > 0, "some in front, some behind"
    disk.writable = True
    outbox.tend(RETRY_S)
    outbox.offer(events(number + 31, number + 40), RETRY_S)
    assert numbers(delivered(outbox, RETRY_S)) == list(range(1, number + 41))


def test_what_memory_took_waits_for_what_the_file_holds():
    disk = Disk()
    outbox = opened(disk, limit=1 << 20)
    for n in range(1, 101):
        outbox.offer([event(n)], 0.0)
    disk.writable = False
    outbox.offer(events(101, 105), 0.0)
    assert numbers(delivered(outbox)) == list(range(1, 106))


def test_a_file_that_works_again_takes_first_what_memory_holds():
    disk = Disk()
    outbox = opened(disk)
    disk.writable = False
    outbox.offer(events(1, 5), 0.0)
    disk.writable = True
    outbox.next_generation()
    outbox.offer(events(6, 9), 0.0)
    outbox.tend(RETRY_S)
    assert numbers(disk.lines) == list(range(1, 10))


def test_a_file_that_cannot_be_read_stops_nothing_but_what_is_in_it():
    disk, notes = Disk(), []
    opened(disk).offer(events(1, 10), 0.0)
    disk.readable = False
    outbox = opened(disk, notes=notes)
    outbox.offer(events(11, 12), 0.0)
    assert taken(outbox) == []
    assert len(notes) == 1
    disk.readable = True
    outbox.tend(RETRY_S)
    assert "can be read again" in notes[1]
    assert numbers(delivered(outbox, RETRY_S)) == list(range(1, 13))


def test_damaged_events_are_told_and_counted_and_stop_no_others():
    disk, notes = Disk(), []
    before = opened(disk)
    for first in (1, 11, 21, 31):
        before.offer(events(first, first + 9), 0.0)
    disk.blocks[1] = Block(10, disk.blocks[1].lines.replace(b'"type"', b'\x00type"', 1))
    disk.blocks[2] = Block(10, b"\xff" * 500)
    disk.blocks[3] = Block(10, disk.blocks[3].lines.replace(b',"', b",\n", 1))
    outbox = opened(disk, notes=notes)
    assert numbers(delivered(outbox)) == [*range(2, 11), *range(22, 41)]
    assert all("damaged" in note for note in notes)
    assert outbox.dropped == 12
    assert identity_holds(outbox)
    outbox.finish(0.0)
    assert disk.lines == []


def test_blocks_that_are_gone_are_told_and_counted():
    disk, notes = Disk(), []
    opened(disk).offer(events(1, 10), 0.0)
    outbox = Outbox(MemoryStore(disk), WINDOW, limit_bytes=LIMIT, warn=notes.append)
    disk.blocks.clear()
    outbox.tend(0.0)
    assert (outbox.held, outbox.dropped) == (0, 10)
    assert "damaged" in notes[0]


def test_events_without_number_and_id_get_one_that_no_other_process_gives():
    disk = Disk()
    bare = peek(b' {"type":"t","run_id":"r","payload":{"n":1.50}}')
    first = opened(disk)
    first.offer([bare, bare], 0.0)
    first.offer([peek(b'{"type":"t","run_id":"r","event_id":"own"}'), event(7)], 0.0)
    second = opened(disk)
    second.offer([bare], 0.0)
    lines = disk.lines
    ids = [json.loads(line)["event_id"] for line in lines]
    assert len(set(ids)) == 5
    assert all(one.startswith("0123456789abcdef-") for one in [*ids[:2], ids[4]])
    assert lines[0].endswith(b',"type":"t","run_id":"r","payload":{"n":1.50}}')
    assert lines[2:4] == [b'{"type":"t","run_id":"r","event_id":"own"}', event(7).line]
    assert json.loads(lines[0]) == {"event_id": ids[0], "type": "t", "run_id": "r", "payload": {"n": 1.5}}


def test_an_empty_object_gets_an_id_too():
    window = Window(10_000, publisher="p" * 16)
    window.offer([peek(b"{}")], 0.0)
    assert json.loads(window.next_frame(0.0)[0]) == {"event_id": "p" * 16 + "-1"}


def test_a_gap_of_events_without_numbers_is_settled_like_any_other():
    window = Window(1000, publisher="p" * 16)
    window.offer([peek(b'{"type":"t","run_id":"r","x":"%s"}' % (b"x" * 2000))], 0.0)
    window.offer([peek(b'{"type":"t","run_id":"r"}')], 0.0, dropping=True)
    window.declare(0.0)
    window.settle(len(taken(window)))
    assert (window.held, window.undelivered, window._own_gaps) == (0, 1, set())


def test_a_generation_is_kept_before_it_is_used_and_rises_across_processes():
    disk = Disk()
    one = opened(disk)
    used = [one.next_generation(), one.next_generation()]
    assert disk.generation == used[-1]
    used.append(opened(disk).next_generation())
    assert used == sorted(set(used))


def test_a_generation_that_cannot_be_kept_is_not_used_so_that_the_next_process_is_not_below_it():
    disk = Disk()
    outbox = opened(disk)
    disk.writable = False
    used = [outbox.next_generation(), outbox.next_generation()]
    disk.writable = True
    outbox.tend(RETRY_S)
    used.append(outbox.next_generation())
    assert used[0] == used[1] < used[2] < opened(disk).next_generation()


def test_what_is_in_a_file_that_was_removed_is_not_kept():
    outbox = opened(Disk())
    outbox.offer(events(1, 3), 0.0)
    assert outbox.kept == 3
    outbox._store.lasting = False
    assert (outbox.kept, outbox.held, outbox.undelivered) == (0, 3, 3)


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens in whatever order, the hub has every number once and in order, or a gap that declares it; but
    for what was in memory alone when a process was killed while its disk failed.
    """

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.disk = Disk()
        self.next = {"p": 1, "q": 1}
        self.lost = set()  # known to be in no file when a process was killed
        self.sent = []
        self.settled = 0
        self.stored = []
        self.lasts = {"p": 0, "q": 0}
        self.gone = set()
        self.open()

    def open(self):
        self.outbox = opened(self.disk, window=2000, limit=8000)
        self.outbox.tend(self.now)
        self.sent, self.settled = [], 0

    @rule(run=st.sampled_from("pq"), count=st.integers(1, 8), kind=st.sampled_from(["agent_output", "error"]))
    def offer(self, run, count, kind):
        first = self.next[run]
        self.next[run] += count
        self.outbox.offer(events(first, first + count - 1, kind=kind, run=run), self.now, dropping=self.outbox.full)

    @rule()
    def send(self):
        self.sent += self.outbox.next_frame(self.now) or []

    @precondition(lambda self: self.sent)
    @rule(share=st.floats(0, 1))
    def acknowledge(self, share):
        count = round(len(self.sent) * share)
        self.settled += count
        self.store(self.sent[:count])
        del self.sent[:count]
        assert self.outbox.settle(self.settled) == count

    @rule(share=st.floats(0, 1))
    def lose_the_connection(self, share):
        self.store(self.sent[: round(len(self.sent) * share)])  # stored, and the acknowledgement lost
        self.outbox.rewind()
        self.sent, self.settled = [], 0

    @rule()
    def connect(self):
        self.outbox.next_generation()

    @rule(seconds=st.sampled_from([0.0, 0.4, 1.5]))
    def tend(self, seconds):
        self.now += seconds
        self.outbox.tend(self.now)

    @rule()
    def kill(self):
        self.store(self.sent[: len(self.sent) // 2])
        here = {name for line in self.disk.lines for name in named(line)} | self.gone | set(self.stored) | self.lost
        lost = {(run, n) for run, last in self.next.items() for n in range(1, last)} - here
        assert not lost or self.outbox._failing or self.outbox.undeclared
        self.lost |= lost
        self.open()

    @rule(writable=st.booleans(), readable=st.booleans())
    def fail(self, writable, readable):
        self.disk.writable, self.disk.readable = writable, readable

    def store(self, lines):
        """As a hub does: what is at or below a run's last number is known, a gap is always told."""
        for line in lines:
            found = json.loads(line)
            if found["type"] == "gap":
                self.gone |= named(line)
            elif found["sequence"] > self.lasts[found["run_id"]]:
                self.lasts[found["run_id"]] = found["sequence"]
                self.stored.append((found["run_id"], found["sequence"]))

    @invariant()
    def accounted(self):
        outbox = self.outbox
        assert identity_holds(outbox)
        assert outbox.in_flight == len(self.sent)
        assert outbox.kept <= outbox.held
        if not outbox._failing:
            assert outbox.kept == outbox.held
        loose = {line for piece in outbox._loose for line in piece.lines}
        assert set(self.sent) <= set(self.disk.lines) | loose, "sent, and not in the file"

    @invariant()
    def bounded(self):
        assert self.outbox._bytes <= 1000 + 2000  # half of the window, and one read or block more
        assert self.outbox._loose_bytes <= 1000 + 1000 + 2 * 2000  # and the reserve, and gaps

    def teardown(self):
        self.disk.writable = self.disk.readable = True
        self.now += 10
        self.outbox.declare(self.now)
        self.outbox.rewind()
        self.outbox.tend(self.now)
        self.store(delivered(self.outbox, self.now))
        self.outbox.finish(self.now + 100)
        assert self.disk.lines == []
        expected = {(run, n) for run, last in self.next.items() for n in range(1, last)}
        assert len(self.stored) == len(set(self.stored))
        assert set(self.stored) | self.gone | self.lost >= expected, expected - set(self.stored)
        assert not set(self.stored) & self.gone, "declared as gone, and there"


def named(line):
    """The numbers that a line tells of."""
    found = json.loads(line)
    spans = found["payload"]["ranges"] if found["type"] == "gap" else [[found["sequence"]] * 2]
    return {(found["run_id"], n) for first, last in spans for n in range(first, last + 1)}


AnyHistory.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestAnyHistory = AnyHistory.TestCase
