"""The log in memory: places never change, and what is gone is said to be gone."""

import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from agentpipe.event import encode, peek
from agentpipe.history import EVERYTHING, Filter, OfRun, Position, fitting
from agentpipe.memory_log import APART, BLOCK_OVERHEAD, LINE_OVERHEAD, MemoryLog


def line(run: str, sequence: int, type_: str = "agent_output", **more: object) -> bytes:
    return encode({"type": type_, "run_id": run, "agent_id": f"agent-{run}", "sequence": sequence, **more})


def log(max_events: int = 1000, max_bytes: int = 1 << 20) -> MemoryLog:
    return MemoryLog("e", max_events=max_events, max_bytes=max_bytes)


def test_append_gives_the_position_after_the_last_line():
    history = log()
    assert history.append([b"{}", b"{}"]) == Position("e", 2)
    assert (history.oldest, history.head) == (0, 2)


def test_a_page_holds_what_was_asked_for_and_says_where_to_go_on():
    history = log()
    history.append([b"%d" % number for number in range(1, 11)])
    page = history.since(3, 4, 1000)
    assert (page.start, page.lines, page.next) == (3, [b"4", b"5", b"6", b"7"], 7)
    assert history.since(10, 4, 1000).lines == []


def test_a_page_keeps_to_its_bytes_but_holds_at_least_one_line():
    history = log()
    history.append([b"x" * 10] * 5)
    assert len(history.since(0, 100, 25).lines) == 2
    assert len(history.since(0, 100, 1).lines) == 1


def test_a_page_of_what_is_gone_starts_later_than_asked():
    history = log(max_events=16)
    for number in range(40):
        history.append([b"%d" % number])
    page = history.since(0, 100, 10_000)
    assert page.start == history.oldest > 0
    assert page.lines == [b"%d" % number for number in range(page.start, 40)]


@given(st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=90), max_size=30), st.data())
def test_the_window_stays_within_its_bounds_and_keeps_the_newest(batches: list[list[int]], data: st.DataObject):
    """Newest lines, blocks of older ones, and what leaves: every page from every place is what was appended."""
    history = log(max_events=200, max_bytes=80_000)
    told: list[bytes] = []
    for sizes in batches:
        lines = [b"%d" % len(told) + b"x" * size for size in sizes]
        told += lines
        history.append(lines)
        kept = history.since(0, 1000, 1 << 30)
        assert list(kept.lines) == told[kept.start :]
        assert history.bytes_kept == cost(history)
        assert len(kept.lines) <= 200
        assert history.bytes_kept <= 80_000 or len(kept.lines) == 1
        start, limit, limit_bytes = (data.draw(st.integers(*ends)) for ends in ((0, len(told)), (1, 250), (1, 50_000)))
        page = history.since(start, limit, limit_bytes)
        assert page.start == max(start, history.oldest)
        assert list(page.lines) == told[page.start : page.next]
        assert len(page.lines) <= limit
        assert len(page.lines) > 0 or page.start == len(told)
        assert sum(map(len, page.lines)) <= limit_bytes or len(page.lines) == 1


def cost(history: MemoryLog) -> int:
    """The memory of what is kept, counted anew."""
    blocks, _, lines = history._kept
    return sum(len(block.data) + BLOCK_OVERHEAD for block in blocks) + sum(len(each) + LINE_OVERHEAD for each in lines)


def test_ten_thousand_events_of_200_bytes_take_two_megabytes():
    """Counted from the objects themselves, not by our own figures."""
    history = MemoryLog("e", max_events=1 << 20, max_bytes=1 << 28)
    for _ in range(500):
        history.append([bytes(200)] * 20)
    blocks, _, lines = history._kept
    size = sum(sys.getsizeof(block) + sys.getsizeof(block.data) + 2 * sys.getsizeof(block.end) for block in blocks)
    size += sys.getsizeof(lines) + sys.getsizeof(blocks) + len(lines) * sys.getsizeof(bytes(200))
    assert size <= 2 << 20
    assert size <= history.bytes_kept <= size * 1.02


def test_an_event_is_found_by_its_id_as_its_bytes():
    history = log()
    lines = [line("a", 1), line("b", 1, event_id="own"), line("a", 2)]
    history.append(lines)
    assert history.find("a:2") == lines[2]
    assert history.find("own") == lines[1]
    assert history.find("a:3") is None


def test_the_events_of_a_run_come_in_pages_with_their_offsets():
    history = log()
    history.append([line("ab"[number % 2], number // 2 + 1) for number in range(10)])
    first = history.of_run(OfRun("b"), 0, 3)
    assert first.offsets == [2, 4, 6]
    assert first.next == 6
    rest = history.of_run(OfRun("b"), first.next, 3)
    assert rest.offsets == [8, 10]
    assert rest.next == 10
    assert history.of_run(OfRun("b", frozenset({"other"})), 0, 3) == ([], [], 10)


def test_the_last_matching_entries_are_counted_from_the_end():
    history = log()
    history.append([line("ab"[number % 2], number // 2 + 1) for number in range(10)])
    only_a = Filter(runs=frozenset({"a"}))
    assert history.before_last(EVERYTHING, 3) == 7
    assert history.before_last(only_a, 2) == 6
    assert history.before_last(only_a, 100) == 0


def test_a_filter_wants_what_every_list_has():
    event = peek(line("r", 1, work_id="w"))
    assert EVERYTHING.matches(event)
    assert Filter(runs=frozenset({"r"}), works=frozenset({"w"}), agents=frozenset({"agent-r"})).matches(event)
    assert not Filter(runs=frozenset({"r"}), works=frozenset({"v"})).matches(event)
    assert not Filter(types=frozenset({"error"})).matches(event)
    assert not Filter(without=frozenset({"agent_output"})).matches(event)
    assert not Filter(agents=frozenset({"x"})).matches(event)


def test_as_many_lines_fit_as_stay_within_the_bytes():
    assert fitting([b"12", b"34", b"56"], 4) == 2
    assert fitting([b"12345"], 4) == 1
    assert fitting([b"1", b"2"], 4) == 2


def test_a_reader_on_another_thread_never_sees_a_page_out_of_place():
    """The HTTP API reads on threads while the loop appends and drops."""
    history = log(max_events=300)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    problems: list[str] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            page = history.since(0, 1000, 1 << 30)
            if list(page.lines) != [b"%d" % number for number in range(page.start, page.next)]:
                problems.append(f"{page.start}: {page.lines[:2]!r}")

    readers = [threading.Thread(target=read) for _ in range(2)]
    try:
        for reader in readers:
            reader.start()
        for number in range(60_000):
            history.append([b"%d" % number])
    finally:
        ended.set()
        for reader in readers:
            reader.join()
        sys.setswitchinterval(interval)
    assert problems == []


def indexed(batches: list[list[bytes]], **bounds: int) -> MemoryLog:
    history = MemoryLog("e", max_events=bounds.get("max_events", 1 << 20), max_bytes=1 << 28, indexed=True)
    for batch in batches:
        history.append_events([peek(each) for each in batch])
    return history


def test_a_number_is_found_without_reading_through_200_000_events():
    """The same question of a log without an index reads all of it: a hundredth of that is little on any machine."""
    lines = [line("ab"[number % 2], number // 2 + 1) for number in range(200_000)]
    batches = [lines[start : start + 20] for start in range(0, len(lines), 20)]
    history = indexed(batches)
    for number in (1, 50_000, 99_999, 100_000):
        assert history.find(f"b:{number}") == lines[2 * number - 1]
        assert 0 <= 2 * number - 1 - history.place("b", number) <= 2 * APART
    assert history.find("b:100001") is None


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 400)), min_size=1, max_size=300), max_size=12),
    st.integers(8, 500),
)
def test_a_place_lies_before_all_later_numbers(batches: list[list[tuple[str, int]]], max_events: int):
    """Numbers rise by steps; where a step would be 1, a gap of any number comes as well."""
    numbers = {"a": 0, "b": 0}
    made: list[list[bytes]] = []
    for batch in batches:
        made.append([])
        for run, step in batch:
            if step == 1:
                made[-1].append(
                    line(run, 1 + numbers[run] // 2, "gap", event_id=f"{run}:gap:{len(made)}-{len(made[-1])}")
                )
            numbers[run] += step
            made[-1].append(line(run, numbers[run]))
    history = indexed(made, max_events=max_events)
    kept = [peek(each) for each in history.since(0, 1 << 20, 1 << 30).lines]
    for offset, event in enumerate(kept, history.oldest + 1):
        assert history.find(event.identity) == event.line
        if event.type != "gap":
            assert history.place(event.run_id, event.sequence or 0) < offset


def test_types_can_be_left_out_of_a_run():
    history = indexed([[line("a", 1), line("a", 2, "content"), line("a", 3), line("b", 1)]])
    assert history.of_run(OfRun("a", without=frozenset({"content"})), 0, 10).offsets == [1, 3]
