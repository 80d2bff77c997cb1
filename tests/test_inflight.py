"""The window of a publisher: order, bounds, what is declared, and that nothing is ever unaccounted for."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentpipe.event import EXEMPT_TYPES, make
from agentpipe.inflight import OVERHEAD, Window


def event(sequence, kind="agent_output", run="r", text="x", covers=None):
    return make(
        kind, {"text": text}, run_id=run, agent_id="a", sequence=sequence, at="2026-11-20T07:00:00.000Z", covers=covers
    )


def drained(window):
    """Send and settle all that waits; the lines in order."""
    lines = []
    while (frame := window.next_frame(0.0)) is not None:
        lines += frame
    window.settle(window._settled_on_link + window.in_flight)
    return lines


def identity_holds(window):
    return window.read + window.added == window.settled + window.dropped + window.held


def test_events_come_out_in_order_and_are_the_same_bytes():
    window = Window(1 << 20)
    events = [event(n) for n in range(1, 100)]
    window.offer(events[:1], 0.0)
    window.offer(events[1:50], 0.0)
    window.offer(events[50:], 0.0)
    assert drained(window) == [e.line for e in events]
    assert (window.held, window.settled) == (0, 99)


def test_a_frame_has_at_most_the_batch():
    window = Window(1 << 20, batch=20)
    window.offer([event(n) for n in range(1, 46)], 0.0)
    assert [len(window.next_frame(0.0) or []) for _ in range(4)] == [20, 20, 5, 0]


def test_small_batches_that_had_to_wait_share_a_frame():
    window = Window(1 << 20, batch=20)
    for n in range(1, 26):
        window.offer([event(n)], 0.0)
    assert [len(window.next_frame(0.0) or []) for _ in range(2)] == [20, 5]


def test_a_frame_has_at_most_what_the_hub_takes_when_that_is_less():
    window = Window(1 << 20, batch=20, batch_bytes=64 * 1024)
    window.max_line = 1000
    events = [event(n, text="x" * 300) for n in range(1, 46)]
    window.offer(events, 0.0)
    frames = []
    while (frame := window.next_frame(0.0)) is not None:
        frames.append(sum(map(len, frame)) + len(frame))
    assert max(frames) <= 1000
    assert len(frames) > 9
    assert window.dropped == 0


@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=60), split=st.integers(1, 60))
def test_a_frame_has_at_most_its_bytes_and_a_larger_event_goes_alone(sizes, split):
    window = Window(1 << 20, batch=20, batch_bytes=2048)
    events = [event(n, text="x" * size) for n, size in enumerate(sizes, 1)]
    window.offer(events[:split], 0.0)
    window.offer(events[split:], 0.0)
    lines = []
    while (frame := window.next_frame(0.0)) is not None:
        assert len(frame) == 1 or sum(len(line) + 1 for line in frame) <= 2048
        lines += frame
    assert lines == [e.line for e in events]


def test_what_is_not_settled_is_sent_again_in_its_place():
    window = Window(1 << 20, batch=3)
    events = [event(n) for n in range(1, 11)]
    window.offer(events, 0.0)
    assert window.next_frame(0.0) is not None
    assert window.next_frame(0.0) is not None
    window.settle(4)  # in the middle of the second frame
    window.rewind()
    assert window.resent == 2
    assert drained(window) == [e.line for e in events[4:]]
    assert identity_holds(window)


def test_acknowledgements_count_anew_on_every_connection():
    window = Window(1 << 20, batch=2)
    window.offer([event(n) for n in range(1, 7)], 0.0)
    window.next_frame(0.0)
    assert window.settle(2) == 2
    window.rewind()
    window.next_frame(0.0)
    assert window.settle(1) == 1
    assert window.settle(1) == 0
    assert window.held == 3


def test_an_acknowledgement_of_more_than_was_sent_is_refused_and_changes_nothing():
    window = Window(1 << 20, batch=2)
    window.offer([event(n) for n in range(1, 7)], 0.0)
    window.next_frame(0.0)
    with pytest.raises(ValueError, match="3 events acknowledged, 2 sent"):
        window.settle(3)
    assert (window.held, window.in_flight, window.settled) == (6, 2, 0)


def full_window(size=20_000):
    window = Window(size)
    number = 0
    while not window.full:
        number += 1
        window.offer([event(number)], 0.0)
    return window, number


def test_when_dropping_new_events_make_room_for_nobody_and_are_declared_before_the_end_of_their_run():
    window, kept = full_window()
    window.offer([event(n) for n in range(kept + 1, kept + 101)], 0.0, dropping=True)
    window.offer([event(kept + 101, "run_completed")], 0.0, dropping=True)
    assert window.undelivered == kept + 101
    lines = [json.loads(line) for line in drained(window)]
    assert [line["sequence"] for line in lines[:kept]] == list(range(1, kept + 1))
    gap, end = lines[kept:]
    assert end["type"] == "run_completed"
    assert gap["type"] == "gap"
    assert gap["payload"]["ranges"] == [[kept + 1, kept + 100]]
    assert (gap["payload"]["count"], gap["payload"]["reason"]) == (100, "buffer")
    assert gap["event_id"] == f"r:gap:{kept + 1}-{kept + 100}"
    assert window.ending is not None
    assert window.ending.type == "run_completed"
    assert window.undelivered == 100
    assert identity_holds(window)


def test_every_run_has_its_own_gap():
    window, kept = full_window()
    window.offer([event(n, run=run) for n in range(1, 4) for run in ("p", "q")], 0.0, dropping=True)
    window.declare(0.0)
    gaps = [json.loads(line) for line in drained(window)[kept:]]
    assert [(g["run_id"], g["payload"]["ranges"]) for g in gaps] == [("p", [[1, 3]]), ("q", [[1, 3]])]


def test_a_dropped_merge_is_declared_with_all_it_covers():
    window, _ = full_window()
    window.offer([event(9, run="m", covers=[(3, 8)])], 0.0, dropping=True)
    window.declare(0.0)
    gap = json.loads(drained(window)[-1])
    assert (gap["payload"]["ranges"], gap["payload"]["count"]) == ([[3, 9]], 7)


def test_exempt_events_use_the_reserve_and_only_the_reserve():
    window = Window(20_000, reserve=3_000)
    number = 0
    while not window.full:
        number += 1
        window.offer([event(number)], 0.0)
    window.offer([event(number + n, "error") for n in range(1, 101)], 0.0, dropping=True)
    kept = window.held - number
    assert 5 < kept < 20, "some were kept, and not all"
    assert window.dropped == 100 - kept
    assert identity_holds(window)


def test_the_event_whose_content_was_taken_is_taken_too():
    window = Window(20_000, reserve=5_000)
    window.offer([event(1), event(2, "content", text="x" * 30_000)], 0.0)
    window.offer([event(3, "agent_tool_result"), event(4)], 0.0, dropping=True)
    lines = [json.loads(line) for line in drained(window)]
    assert [line["sequence"] for line in lines] == [1, 2]  # over the reserve as well
    window.offer([event(5, text="x" * 17_000), event(6, "content", text="x" * 3_000)], 0.0)
    window.offer([event(7, "content"), event(8, "agent_tool_result"), event(9)], 0.0, dropping=True)
    kept = [json.loads(line) for line in drained(window)]
    assert [line["sequence"] for line in kept if line["type"] != "gap"] == [5, 6, 8]
    window.declare(0.0)
    assert identity_holds(window)


def test_nothing_is_dropped_unless_the_driver_says_so():
    window, kept = full_window()
    window.offer([event(n) for n in range(kept + 1, kept + 501)], 0.0)
    assert (window.dropped, window.held) == (0, kept + 500)


def test_after_dropping_half_of_the_window_must_be_free_again():
    window, kept = full_window()
    window.offer([event(kept + 1)], 0.0, dropping=True)
    window.next_frame(0.0)
    window.settle(1)
    assert window.full
    while window.full:
        if window.in_flight == 0:
            assert window.next_frame(0.0) is not None
        window.settle(window._settled_on_link + 1)
    assert window.held == pytest.approx(kept / 2, abs=2)
    window.offer([event(kept + 2)], 0.0)
    assert [json.loads(line)["type"] for line in drained(window)[-2:]] == ["gap", "agent_output"]


def test_an_empty_window_takes_an_event_larger_than_itself():
    window = Window(1000)
    window.offer([event(1, text="x" * 5000)], 0.0, dropping=True)
    assert len(drained(window)) == 1


def test_a_line_over_the_hubs_limit_becomes_a_gap_in_its_place():
    window = Window(1 << 20)
    window.max_line = 1000
    window.offer([event(1), event(2, text="x" * 5000), event(3, "run_completed")], 0.0)
    lines = [json.loads(line) for line in drained(window)]
    assert [line["type"] for line in lines] == ["agent_output", "gap", "run_completed"]
    assert lines[1]["payload"] == {"ranges": [[2, 2]], "count": 1, "reason": "oversize", "types": {"agent_output": 1}}
    assert (window.dropped, window.held) == (1, 0)
    assert identity_holds(window)


def test_the_window_is_empty_in_bytes_when_it_is_empty():
    window, kept = full_window()
    window.offer([event(kept + 1)], 0.0, dropping=True)
    window.max_line = 100
    drained(window)
    window.declare(0.0)
    drained(window)
    assert (window.held, window._bytes) == (0, 0)


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens in whatever order: the hub's view has every number exactly once, kept or declared, in order."""

    def __init__(self):
        super().__init__()
        self.window = Window(4000, batch=3, batch_bytes=600, reserve=1000)
        self.next = {"p": 1, "q": 1}
        self.sent = []  # in flight on this connection, as the window gave it
        self.settled = 0
        self.stored = []

    @rule(
        run=st.sampled_from("pq"),
        count=st.integers(1, 8),
        kind=st.sampled_from(["agent_output", "error"]),
        dropping=st.booleans(),
    )
    def offer(self, run, count, kind, dropping):
        first = self.next[run]
        self.next[run] += count
        self.window.offer([event(n, kind, run) for n in range(first, first + count)], 0.0, dropping=dropping)

    @rule()
    def send(self):
        self.sent += self.window.next_frame(0.0) or []

    @precondition(lambda self: self.sent)
    @rule(share=st.floats(0, 1))
    def acknowledge(self, share):
        count = round(len(self.sent) * share)
        self.settled += count
        self.stored += self.sent[:count]
        del self.sent[:count]
        assert self.window.settle(self.settled) == count

    @rule()
    def lose_the_connection(self):
        self.window.rewind()
        self.sent, self.settled = [], 0

    @invariant()
    def accounted(self):
        assert identity_holds(self.window)
        assert self.window.in_flight == len(self.sent)

    def teardown(self):
        self.window.declare(0.0)
        self.window.rewind()
        while (frame := self.window.next_frame(0.0)) is not None:
            self.stored += frame
        for run, following in self.next.items():
            lines = [found for found in map(json.loads, self.stored) if found["run_id"] == run]
            kept = [found["sequence"] for found in lines if found["type"] != "gap"]
            gone = [
                n
                for found in lines
                if found["type"] == "gap"
                for first, last in found["payload"]["ranges"]
                for n in range(first, last + 1)
            ]
            assert kept == sorted(kept)
            assert sorted(kept + gone) == list(range(1, following))


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyHistory = AnyHistory.TestCase


def test_what_an_event_costs_is_counted_beside_its_bytes():
    window = Window(100_000, max_events=1 << 30)
    while not window.full:
        window.offer([event(1)], 0.0)
    assert window.held == pytest.approx(100_000 / (len(event(1).line) + OVERHEAD), abs=1)
    assert "gap" in EXEMPT_TYPES
