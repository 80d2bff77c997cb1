"""What `agentpipe.buffer` promises: order, limits, no number undeclared, and that nothing held is ever forgotten."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentpipe.buffer import HAND_ON_BYTES, BufferOptions, build
from agentpipe.buffer.memory import EVENT_BYTES, Memory
from agentpipe.buffer.spilling import Block
from agentpipe.errors import OptionError, OutputError
from agentpipe.event import TERMINAL_TYPES, Event, make, timestamp
from agentpipe.holes import ALWAYS_EXEMPT, numbers
from agentpipe.stage import Demand, Stage

NOW = 1_790_000_000.0


def event(sequence: int | None, kind: str = "agent_tool_call", run: str = "r", size: int = 0) -> Event:
    payload = {"text": "x" * size} if size else {}
    return make(kind, payload, run_id=run, agent_id="a", sequence=sequence, at=timestamp(NOW))


def events(first: int, last: int, **more) -> list[Event]:
    return [event(n, **more) for n in range(first, last + 1)]


def shown(found) -> list[int | str]:
    """Numbers of events; a gap as its ranges."""
    return [one.sequence if one.type != "gap" else str(one.payload["ranges"]) for one in found]


def emptied(stage: Stage) -> list[Event]:
    out = []
    while stage.deadline is not None:
        out += stage.wake(NOW)
    return out


def balanced(stage: Stage) -> bool:
    c = stage.counts
    return c.read == c.passed + sum(c.dropped.values()) + c.merged + c.left


class MemoryStore:
    """A store without a disk, as exact about order and room as the real one."""

    name = "memory"

    def __init__(self) -> None:
        self.rows: dict[int, Block] = {}
        self.taken = 0
        self.newest = 0

    @property
    def count(self) -> int:
        return sum(block.count for row, block in self.rows.items() if row > self.taken)

    def append(self, blocks, *, behind=0) -> None:
        self.newest += 0 if self.count else behind
        for block in blocks:
            self.newest += 1
            self.rows[self.newest] = block

    def prepend(self, blocks) -> None:
        if not self.count:
            self.append(blocks)
            return
        first = min(row for row in self.rows if row > self.taken) - len(blocks)
        assert first > self.taken, "room was left"
        self.rows |= dict(enumerate(blocks, first))

    def take(self, mark_bytes) -> Block | None:
        waiting = sorted(row for row in self.rows if row > self.taken)
        if not waiting:
            return None
        self.taken = waiting[0]
        return self.rows[self.taken]

    def skip(self) -> None:
        self.take(1)

    def settle(self) -> None:
        self.rows = {row: block for row, block in self.rows.items() if row > self.taken}

    def reopened(self) -> "MemoryStore":
        """What the next process finds."""
        found = MemoryStore()
        found.rows, found.newest = dict(self.rows), max(self.rows, default=0)
        return found


# --- block --------------------------------------------------------------------------------------------------------


def test_feeding_only_stores_and_waking_hands_on_the_same_bytes_in_order() -> None:
    stage = build(BufferOptions())
    batch = events(1, 100)
    assert stage.deadline is None
    assert stage.feed(batch, NOW) == ()
    assert stage.elastic
    assert stage.deadline is not None
    assert stage.deadline <= NOW
    assert stage.wake(NOW) == batch
    assert stage.deadline is None
    assert balanced(stage)


def test_one_wake_hands_on_a_bounded_part() -> None:
    stage = build(BufferOptions())
    for n in range(1, 1001):
        stage.feed([event(n, size=1000)], NOW)
    parts = []
    while stage.deadline is not None:
        parts.append(stage.wake(NOW))
    assert [one.sequence for part in parts for one in part] == list(range(1, 1001))
    assert max(sum(len(one.line) for one in part) for part in parts) < HAND_ON_BYTES + 2000
    assert len(parts) >= 4


def test_a_batch_larger_than_that_is_handed_on_in_parts() -> None:
    stage = build(BufferOptions())
    stage.feed(events(1, 2000, size=1000), NOW)
    parts = []
    while stage.deadline is not None:
        parts.append(stage.wake(NOW))
    assert [one.sequence for part in parts for one in part] == list(range(1, 2001))
    assert max(sum(len(one.line) for one in part) for part in parts) <= 2 * HAND_ON_BYTES


def test_a_full_buffer_holds_until_half_of_it_is_free() -> None:
    stage = build(BufferOptions(memory=1024 * 1024))
    n = 0
    while stage.demand is Demand.MORE:
        n += 1
        stage.feed([event(n, size=100_000)], NOW)
    assert n == 11
    seen = []
    while stage.demand is Demand.HOLD:
        seen += stage.wake(NOW)
    assert 5 <= len(seen) <= 8
    assert shown(seen) == list(range(1, len(seen) + 1))


def test_the_number_of_events_is_a_limit_of_its_own() -> None:
    stage = build(BufferOptions(events=10))
    stage.feed(events(1, 9), NOW)
    assert stage.demand is Demand.MORE
    stage.feed(events(10, 10), NOW)
    assert stage.demand is Demand.HOLD


@pytest.mark.parametrize("when_full", ["block", "drop-oldest", "drop-newest", "fail"])
def test_an_event_larger_than_the_whole_limit_passes_when_the_buffer_is_empty(when_full: str) -> None:
    stage = build(BufferOptions(memory=0, when_full=when_full))
    for n in (1, 2, 3):
        assert stage.demand is Demand.MORE
        stage.feed([event(n, size=100_000)], NOW)
        assert shown(stage.wake(NOW)) == [n]


def test_finish_hands_on_everything() -> None:
    stage = build(BufferOptions())
    stage.feed(events(1, 3000, size=500), NOW)
    assert shown(stage.finish(NOW)) == list(range(1, 3001))
    assert stage.counts.left == 0


# --- fail, drop ---------------------------------------------------------------------------------------------------


def test_fail_ends_with_74_when_the_reader_does_not_keep_up() -> None:
    stage = build(BufferOptions(events=10, when_full="fail"))
    stage.feed(events(1, 5), NOW)
    with pytest.raises(OutputError, match="full with 11 events") as caught:
        stage.feed(events(6, 11), NOW)
    assert caught.value.status == 74


def test_drop_oldest_keeps_the_newest_and_declares_the_rest_in_its_place() -> None:
    stage = build(BufferOptions(events=10, when_full="drop-oldest"))
    for n in range(1, 31):
        stage.feed([event(n)], NOW)
        assert stage.demand is Demand.MORE
    out = emptied(stage)
    assert shown(out) == ["[[1, 20]]", *range(21, 31)]
    assert out[0].payload["reason"] == "buffer"
    assert (stage.counts.dropped, stage.counts.added) == ({"buffer": 20}, 1)


def test_drop_oldest_spares_exempt_events_and_declares_around_them() -> None:
    stage = build(BufferOptions(events=4, when_full="drop-oldest"))
    for n in range(1, 9):
        stage.feed([event(n, "error" if n == 3 else "agent_tool_call")], NOW)
    stage.feed([event(9, "run_completed")], NOW)
    assert shown(emptied(stage)) == ["[[1, 2]]", 3, "[[4, 6]]", 7, 8, 9]


def test_drop_oldest_declares_even_when_everything_droppable_went_before_the_end() -> None:
    stage = build(BufferOptions(events=2, when_full="drop-oldest"))
    for one in [*events(1, 5), event(6, "error"), event(7, "run_failed")]:
        stage.feed([one], NOW)
    assert shown(emptied(stage)) == ["[[1, 5]]", 6, 7]


def test_drop_oldest_blocks_when_exempt_events_alone_fill_it_and_only_then() -> None:
    stage = build(BufferOptions(events=4, when_full="drop-oldest"))
    n = 0
    while stage.demand is Demand.MORE:
        n += 1
        assert n < 20
        stage.feed([event(n, "error")], NOW)
    assert stage.counts.dropped == {}
    assert shown(emptied(stage)) == list(range(1, n + 1))
    assert stage.demand is Demand.MORE


def test_drop_oldest_gives_up_a_huge_event_for_a_newer_one() -> None:
    stage = build(BufferOptions(memory=10_000, when_full="drop-oldest"))
    stage.feed([event(1, size=100_000)], NOW)
    stage.feed([event(2)], NOW)
    assert shown(emptied(stage)) == ["[[1, 1]]", 2]


def test_drop_newest_keeps_what_was_there_first_and_declares_the_rest_after_it() -> None:
    stage = build(BufferOptions(events=10, when_full="drop-newest"))
    for n in range(1, 31):
        stage.feed([event(n)], NOW)
    assert shown(emptied(stage)) == [*range(1, 11), "[[11, 30]]"]


def test_drop_newest_drops_until_half_is_free_so_that_gaps_are_few() -> None:
    stage = build(BufferOptions(events=10, when_full="drop-newest", memory=10 * (EVENT_BYTES + 60_000)))
    for one in events(1, 12, size=50_000):
        stage.feed([one], NOW)
    assert shown(stage.wake(NOW)) == [1, 2, 3, 4, 5, 6]
    stage.feed([event(13)], NOW)
    assert shown(emptied(stage)) == [7, 8, 9, 10, "[[11, 12]]", 13]


def test_drop_newest_takes_exempt_events_in_beyond_the_limit_and_then_blocks() -> None:
    stage = build(BufferOptions(events=4, when_full="drop-newest"))
    for one in [*events(1, 6), event(7, "error")]:
        stage.feed([one], NOW)
    assert stage.demand is Demand.MORE
    stage.feed([event(8, "run_completed")], NOW)
    assert stage.demand is Demand.HOLD
    assert shown(emptied(stage)) == [1, 2, 3, 4, "[[5, 6]]", 7, 8]
    assert stage.demand is Demand.MORE


def content(*sequences: int, run: str = "r") -> list[Event]:
    return [event(n, "content", run) for n in sequences]


def test_drop_oldest_drops_the_parts_of_a_content_together_also_those_that_come_later() -> None:
    stage = build(BufferOptions(events=4, when_full="drop-oldest"))
    stage.feed(content(1, 2, 3), NOW)
    stage.feed([event(1, run="q"), event(2, run="q")], NOW)
    assert stage.counts.left == 2, "one had to go, and no part is worth anything without it"
    stage.feed([*content(4), event(5, "agent_tool_result"), *content(6), event(7)], NOW)
    out = emptied(stage)
    assert shown(one for one in out if one.run_id == "r") == ["[[1, 4]]", 5, 6, 7]
    assert shown(one for one in out if one.run_id == "q") == ["[[1, 1]]", 2]
    assert balanced(stage)


def test_drop_oldest_keeps_the_event_whose_parts_it_has_handed_on() -> None:
    stage = build(BufferOptions(events=3, when_full="drop-oldest"))
    stage.feed(content(1, 2), NOW)
    assert shown(stage.wake(NOW)) == [1, 2]
    stage.feed([*content(3), event(4)], NOW)
    stage.feed(events(5, 9), NOW)
    assert shown(emptied(stage)) == ["[[3, 3]]", 4, "[[5, 7]]", 8, 9]


def test_events_that_are_kept_for_their_parts_count_as_exempt_ones_do() -> None:
    stage = build(BufferOptions(events=4, when_full="drop-oldest"))
    stage.feed([one for run in "abcdefgh" for one in content(1, run=run)], NOW)
    assert len(stage.wake(NOW)) == 8
    fed = 0
    for run in "abcdefgh":
        if stage.demand is Demand.MORE:
            stage.feed([event(2, run=run)], NOW)
            fed += 1
    assert stage.demand is Demand.HOLD
    assert shown(emptied(stage)) == [2] * fed


def test_drop_newest_takes_no_part_after_one_that_found_no_room_and_the_event_of_those_it_has() -> None:
    stage = build(BufferOptions(events=4, when_full="drop-newest"))
    stage.feed([event(1)], NOW)
    stage.feed([event(2), *content(3, 4, 5)], NOW)
    assert shown(emptied(stage)) == [1, 2, 3, 4, "[[5, 5]]"]
    stage.feed(content(6), NOW)
    stage.feed([event(7), event(8)], NOW)
    assert shown(emptied(stage)) == ["[[6, 6]]", 7, 8]


def test_drop_newest_keeps_the_event_whose_parts_it_has_taken() -> None:
    stage = build(BufferOptions(events=4, when_full="drop-newest"))
    stage.feed([event(1)], NOW)
    stage.feed([event(2), *content(3, 4), event(5), event(6)], NOW)
    assert shown(emptied(stage)) == [1, 2, 3, 4, 5, "[[6, 6]]"]


def test_a_gap_between_parts_and_their_event_changes_nothing() -> None:
    stage = build(BufferOptions(events=3, when_full="drop-newest"))
    stage.feed([event(1)], NOW)
    stage.feed([event(2), *content(3)], NOW)
    stage.feed([event(4, "gap")], NOW)
    stage.feed([event(5), event(6)], NOW)
    assert [one.sequence for one in emptied(stage)][:5] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("mode", ["drop-oldest", "drop-newest"])
def test_what_was_dropped_last_is_declared_at_the_end_though_nothing_is_held(mode: str) -> None:
    stage = build(BufferOptions(events=1, when_full=mode))
    stage.feed([event(1)], NOW)
    stage.feed(content(2, 3), NOW)
    out = emptied(stage)
    stage.feed(content(4), NOW)
    out += stage.finish(NOW)
    assert stage.deadline is None
    declared = [n for one in out if one.type == "gap" for n in range(*one.payload["ranges"][0])]
    assert balanced(stage)
    assert declared
    assert stage.counts.added == sum(one.type == "gap" for one in out)


# --- spill --------------------------------------------------------------------------------------------------------


def spill(store, memory: int = 2000, **more) -> Stage:
    return build(BufferOptions(spill="memory", memory=memory, **more), store)


def test_once_something_is_on_disk_what_comes_goes_to_disk_until_it_is_drained() -> None:
    store = MemoryStore()
    stage = spill(store)
    stage.feed(events(1, 3), NOW)
    assert store.count == 0
    stage.feed(events(4, 20), NOW)
    assert store.count == 17
    assert shown(stage.wake(NOW)) == [1, 2, 3]
    stage.feed([event(21)], NOW)
    assert store.count == 18, "memory has room, but 4 to 20 come first"
    assert shown(emptied(stage)) == list(range(4, 22))
    stage.feed([event(22)], NOW)
    assert store.count == 0
    assert shown(emptied(stage)) == [22]
    assert store.rows == {}
    assert balanced(stage)


def test_a_block_stays_on_disk_until_the_reader_has_taken_it() -> None:
    store = MemoryStore()
    stage = spill(store, memory=0)
    stage.feed(events(1, 2), NOW)
    stage.feed(events(3, 4), NOW)
    assert shown(stage.wake(NOW)) == [1, 2]
    assert len(store.rows) == 2
    assert shown(stage.wake(NOW)) == [3, 4]
    assert len(store.rows) == 1
    assert stage.counts.left == 0
    assert stage.deadline is not None, "it wants to know that the last block was taken"
    assert stage.wake(NOW) == ()
    assert store.rows == {}
    assert stage.deadline is None


def test_what_is_under_way_from_disk_at_a_forced_end_is_counted_as_kept() -> None:
    """The reader may have it already, and gets it again: it is in the file still."""
    store = MemoryStore()
    stage = spill(store, memory=0)
    stage.feed(events(1, 2), NOW)
    stage.feed(events(3, 5), NOW)
    assert shown(stage.wake(NOW)) == [1, 2]
    stage.finish(NOW)
    assert stage.report()["kept"] == 5
    assert shown(emptied(spill(store.reopened()))) == [1, 2, 3, 4, 5]


def test_a_forced_end_keeps_everything_in_order_for_the_next_start() -> None:
    store = MemoryStore()
    stage = spill(store)
    stage.feed(events(1, 2), NOW)
    stage.wake(NOW)  # 1 and 2 are under way
    stage.feed(events(3, 5), NOW)
    stage.feed(events(6, 20), NOW)
    assert stage.finish(NOW) == ()
    assert balanced(stage)
    assert stage.report()["kept"] == 20
    after = spill(store.reopened())
    assert after.counts.read == after.counts.left == 20
    assert shown(emptied(after)) == list(range(1, 21))
    assert after.report()["resumed"] == 20
    assert balanced(after)


def test_a_normal_end_leaves_nothing() -> None:
    store = MemoryStore()
    stage = spill(store)
    stage.feed(events(1, 50), NOW)
    emptied(stage)
    assert stage.finish(NOW) == ()
    assert store.rows == {}


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(OptionError, match="needs a file"):
        build(BufferOptions(when_full="spill"))
    with pytest.raises(OptionError, match="drop-oldest"):
        build(BufferOptions(spill="f", when_full="drop-oldest"), MemoryStore())


class Spilling(RuleBasedStateMachine):
    """Any interleaving of writing, reading, orderly ends and crashes: first in, first out, nothing spilled is lost."""

    @initialize(memory=st.sampled_from([0, 2000, 20_000]))
    def begin(self, memory) -> None:
        self.memory, self.fed = memory, 0
        self.seen: list[int] = []
        self.store = MemoryStore()
        self.stage = spill(self.store, memory)

    @rule(count=st.integers(1, 30), size=st.sampled_from([0, 500]))
    def feed(self, count, size) -> None:
        self.stage.feed(events(self.fed + 1, self.fed + count, size=size), NOW)
        self.fed += count

    @rule()
    def read(self) -> None:
        if self.stage.deadline is not None:
            self.seen += shown(self.stage.wake(NOW))

    @rule()
    def end_and_start_again(self) -> None:
        self.stage.finish(NOW)
        self.start()

    @rule()
    def crash(self) -> None:
        if self.memory == 0:  # otherwise what is in memory is lost, as documented
            self.start()

    def start(self) -> None:
        self.store = self.store.reopened()
        self.stage = spill(self.store, self.memory)

    @invariant()
    def the_counts_balance(self) -> None:
        if hasattr(self, "stage"):
            assert balanced(self.stage)

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        self.seen += shown(emptied(self.stage))
        first = list(dict.fromkeys(self.seen))
        assert first == list(range(1, self.fed + 1)), "everything came, in order, if repeats are told by their id"
        assert self.store.rows == {}


Spilling.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
TestSpilling = Spilling.TestCase


# --- memory -------------------------------------------------------------------------------------------------------


def test_the_size_of_memory_is_what_it_takes() -> None:
    import tracemalloc

    from agentpipe.event import peek_lines

    lines = [event(n, run="run-" + "x" * 30, size=100).line for n in range(20_000)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    batch, _ = peek_lines([bytes(bytearray(line)) for line in lines])
    memory = Memory()
    memory.put(batch)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.7 * memory.size_bytes < taken < 1.1 * memory.size_bytes


class Dropping(RuleBasedStateMachine):
    """Any batches and reads in the modes that drop and block: the identity, the limits, and no number undeclared."""

    @initialize(
        mode=st.sampled_from(["block", "drop-oldest", "drop-newest"]),
        memory=st.sampled_from([0, 5000, 100_000]),
        limit=st.sampled_from([0, 3, 20]),
    )
    def begin(self, mode, memory, limit) -> None:
        self.stage = build(BufferOptions(memory=memory, events=limit, when_full=mode))
        self.mode, self.limit = mode, limit
        self.fed: dict[str, list[Event]] = {}
        self.out: list[Event] = []
        self.ended: set[str] = set()

    @rule(
        batch=st.lists(
            st.tuples(
                st.sampled_from("ab"),
                st.sampled_from(["x", "content", "content", "error"]),
                st.integers(0, 3),
            ),
            max_size=12,
        )
    )
    def feed(self, batch) -> None:
        if self.stage.demand is Demand.MORE:
            made = [self.made(*one) for one in batch if one[0] not in self.ended]
            assert self.stage.feed([one for one in made if one is not None], NOW) == ()

    @rule(run=st.sampled_from("ab"))
    def end(self, run) -> None:
        if len(self.fed.get(run, ())) > 30:  # a run that ends at once finds nothing full
            self.feed([(run, "end", 0)])

    @rule()
    def wake(self) -> None:
        if self.stage.deadline is not None:
            self.out += self.stage.wake(NOW)

    def made(self, run, kind, size) -> Event | None:
        if run in self.ended:
            return None
        line = self.fed.setdefault(run, [])
        if kind == "end":
            self.ended.add(run)
            kind = "run_completed"
        line.append(event(len(line) + 1, kind, run, size * 1000))
        return line[-1]

    @invariant()
    def the_counts_balance(self) -> None:
        if not hasattr(self, "stage"):
            return
        assert balanced(self.stage)
        gaps = [one for one in self.out if one.type == "gap"]
        assert (len(gaps), len(self.out) - len(gaps)) == (self.stage.counts.added, self.stage.counts.passed)
        assert not self.stage.counts.left or self.stage.deadline is not None
        if self.limit:
            assert self.stage.counts.left <= 1.5 * self.limit + 12, "the limit, what is exempt, and one batch"

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        self.out += emptied(self.stage)
        self.out += self.stage.finish(NOW)
        assert self.stage.demand is Demand.MORE
        for run, fed in self.fed.items():
            self.check_run(run, fed, [one for one in self.out if one.run_id == run])

    def check_run(self, run, fed, out) -> None:
        newest, counted = 0, []
        for one in out:
            spans = one.payload["ranges"] if one.type == "gap" else numbers(one)
            counted += [n for first, last in spans for n in range(first, last + 1)]
            if one.type != "gap":
                assert one.sequence > newest
                newest = one.sequence
        assert counted == sorted(counted), "each gap stands where its events would have been"
        assert counted == list(range(1, len(fed) + 1))
        seen = {one.sequence for one in out if one.type != "gap"}
        assert {one.sequence for one in fed if one.type in ALWAYS_EXEMPT} <= seen
        if run in self.ended:
            assert out[-1].type in TERMINAL_TYPES
        self.check_contents(fed, seen)

    def check_contents(self, fed, seen) -> None:
        """Of the parts before an event the first some are there, or all, and then the event is there too."""
        parts: list[bool] = []
        for one in fed:
            if one.type == "content":
                parts.append(one.sequence in seen)
                continue
            assert parts == sorted(parts, reverse=True), "no part after one that is missing"
            assert not any(parts) or one.sequence in seen
            parts = []


Dropping.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
TestDropping = Dropping.TestCase
