"""What `agentpipe.throttle` promises: the rate over any interval, order, and no number undeclared. Time is given."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentpipe.errors import OptionError
from agentpipe.event import TERMINAL_TYPES, Event, make, timestamp
from agentpipe.holes import ALWAYS_EXEMPT, Holes, numbers, tidied
from agentpipe.merge import MERGED_BYTES, Chunk, merged
from agentpipe.stage import BaseStage, Demand, Stage
from agentpipe.throttle import ThrottleOptions, build
from agentpipe.throttle.gcra import MAX_BUCKETS, Buckets, by

START = 1_790_000_000.0
MODES = ["delay", "coalesce", "drop", "sample"]


def event(sequence: int | None, kind: str = "agent_tool_call", run: str = "r", at: float = START, **payload) -> Event:
    return make(kind, payload, run_id=run, agent_id="a", sequence=sequence, at=timestamp(at))


def chunk(sequence: int, text: str = "x", *, message: str = "m", run: str = "r", final: bool = False) -> Event:
    return event(sequence, "agent_output", run, message_id=message, index=0, text=text, final=final)


def drained(stage: Stage, now: float) -> list[tuple[float, Event]]:
    """Wake *stage* whenever it asks for it until it holds nothing; what came and when."""
    out = []
    while stage.counts.left:
        assert stage.deadline is not None, "something is held and nobody will be woken for it"
        now = max(now, stage.deadline)
        out += [(now, found) for found in stage.wake(now)]
    return out


def declared(events: list[Event]) -> list[int]:
    """Every number that *events* stand for: their own, what they cover, and what their gaps declare."""
    found = []
    for one in events:
        if one.type == "gap":
            found += [n for first, last in one.payload["ranges"] for n in range(first, last + 1)]
        else:
            found += [n for first, last in numbers(one) for n in range(first, last + 1)]
    return found


def balanced(stage: Stage) -> bool:
    c = stage.counts
    return c.read == c.passed + sum(c.dropped.values()) + c.merged + c.left


# --- the rate -----------------------------------------------------------------------------------------------------


def assert_rate(times: list[float], rate: float, burst: float) -> None:
    """Over every interval between two departures: at most burst + rate·t."""
    for i, j in itertools.combinations_with_replacement(range(len(times)), 2):
        t = times[j] - times[i]
        assert j - i + 1 <= burst + rate * (t + 4e-6) + 1e-6, f"{j - i + 1} events in {t} s"


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_over_any_interval_no_more_than_burst_and_rate_pass(mode: str, data: st.DataObject) -> None:
    rate = data.draw(st.sampled_from([0.5, 3.0, 50.0, 1000.0]))
    burst = data.draw(st.sampled_from([None, 1, 7]))
    stage = build(ThrottleOptions(rate=rate, burst=burst, mode=mode))
    now, sequence, times = START, 0, []
    for count, pause in data.draw(st.lists(st.tuples(st.integers(0, 12), st.floats(0, 3 / rate)), max_size=12)):
        now += pause
        batch = []
        for _ in range(count):
            sequence += 1
            batch.append(chunk(sequence) if sequence % 3 else event(sequence))
        out = stage.feed(batch, now)
        times += [now for found in out if found.type not in ALWAYS_EXEMPT]
        if stage.deadline is not None and data.draw(st.booleans()):
            now = max(now, stage.deadline)
            times += [now for found in stage.wake(now) if found.type not in ALWAYS_EXEMPT]
    times += [at for at, found in drained(stage, now) if found.type not in ALWAYS_EXEMPT]
    assert_rate(times, rate, burst or max(1.0, rate * 0.1))


def test_a_burst_of_10000_at_50_a_second_takes_199_9_seconds_and_loses_nothing() -> None:
    stage = build(ThrottleOptions(hold=20_000))
    batch = [event(n) for n in range(1, 10_001)]
    out = [(START, found) for found in stage.feed(batch, START)]
    out += drained(stage, START)
    assert [found.sequence for _, found in out] == list(range(1, 10_001))
    assert len([at for at, _ in out if at == START]) == 5
    assert out[-1][0] - START == pytest.approx((10_000 - 5) / 50, abs=1e-3)


@pytest.mark.parametrize("rate", [1.0, 50.0, 10_000.0])
def test_the_long_run_mean_is_the_rate(rate: float) -> None:
    stage = build(ThrottleOptions(rate=rate, burst=1, hold=100_000))
    stage.feed([event(n) for n in range(1, 5_002)], START)
    last = drained(stage, START)[-1][0]
    assert 5_000 / (last - START) == pytest.approx(rate, rel=0.01)


def test_no_rate_hands_the_same_batch_on() -> None:
    stage = build(ThrottleOptions(rate=0))
    batch = [event(1)]
    assert type(stage) is BaseStage
    assert stage.feed(batch, START) is batch


def test_a_burst_below_one_is_refused() -> None:
    with pytest.raises(OptionError, match="--burst"):
        build(ThrottleOptions(burst=0))


# --- delay --------------------------------------------------------------------------------------------------------


def test_delay_demands_hold_when_enough_is_held_and_more_when_it_went() -> None:
    stage = build(ThrottleOptions(rate=1, burst=1, hold=2))
    stage.feed([event(n) for n in (1, 2)], START)
    assert stage.demand is Demand.MORE
    stage.feed([event(3)], START)
    assert stage.demand is Demand.HOLD
    stage.wake(START + 1)
    assert stage.demand is Demand.MORE


def test_delay_demands_hold_when_large_events_are_held() -> None:
    stage = build(ThrottleOptions(rate=1, burst=1))
    stage.feed([event(n, text="x" * 3_000_000) for n in (1, 2, 3)], START)
    assert stage.demand is Demand.HOLD


def test_an_exempt_event_takes_its_place_behind_held_events_of_its_run_and_costs_no_token() -> None:
    stage = build(ThrottleOptions(rate=1, burst=1))
    out = stage.feed([event(1), event(2), event(3, "error"), event(4, "run_completed")], START)
    assert [found.sequence for found in out] == [1]
    assert [found.sequence for found in stage.wake(START + 1)] == [2, 3, 4]
    assert stage.counts.left == 0


def test_an_exempt_event_does_not_wait_for_other_runs() -> None:
    stage = build(ThrottleOptions(rate=1, burst=1))
    out = stage.feed([event(1), event(2), event(1, "error", run="other")], START)
    assert [(found.run_id, found.sequence) for found in out] == [("r", 1), ("other", 1)]


def test_tokens_go_to_runs_in_order_of_arrival() -> None:
    stage = build(ThrottleOptions(rate=1, burst=1))
    stage.feed([event(1, run="a"), event(2, run="a"), event(1, run="b"), event(3, run="a"), event(2, run="b")], START)
    order = [(found.run_id, found.sequence) for _, found in drained(stage, START)]
    assert order == [("a", 2), ("b", 1), ("a", 3), ("b", 2)]


def test_who_comes_when_a_token_is_there_does_not_overtake_who_waits_for_it() -> None:
    stage = build(ThrottleOptions(rate=1, burst=1))
    stage.feed([event(1, run="a"), event(2, run="a")], START)
    out = stage.feed([event(1, run="b")], START + 1)
    assert [(found.run_id, found.sequence) for found in out] == [("a", 2)]


def test_finish_hands_on_what_is_held_in_order() -> None:
    stage = build(ThrottleOptions(rate=1, burst=1))
    stage.feed([event(1), event(2, run="b"), event(3), event(4, "run_failed")], START)
    assert [found.sequence for found in stage.finish(START)] == [2, 3, 4]
    assert stage.counts.left == 0
    assert balanced(stage)


def test_untouched_events_keep_their_bytes() -> None:
    for mode in MODES:
        stage = build(ThrottleOptions(rate=100, burst=2, mode=mode, debounce=0))
        batch = [event(1), event(2)]
        assert [found.line for found in stage.feed(batch, START)] == [found.line for found in batch]


# --- buckets ------------------------------------------------------------------------------------------------------


def test_each_key_has_its_own_bucket_and_a_missing_one_shares() -> None:
    stage = build(ThrottleOptions(rate=1, burst=1, by="payload.tool.name", mode="drop"))
    batch = [
        event(1, tool={"name": "Read"}), event(2, tool={"name": "Write"}), event(3, tool={"name": "Read"}),
        event(4), event(5, tool={}), event(6, tool="x"),
    ]  # fmt: skip
    assert [found.sequence for found in stage.feed(batch, START)] == [1, 2, 4]


@pytest.mark.parametrize("field", ["run_id", "agent_id", "type", "work_id"])
def test_a_head_field_is_a_key(field: str) -> None:
    one = Event("t", "r", "a", "w")
    assert by(field)(one) == {"run_id": "r", "agent_id": "a", "type": "t", "work_id": "w"}[field]
    assert by(field)(Event()) is None


def test_order_within_a_run_is_kept_across_buckets() -> None:
    stage = build(ThrottleOptions(rate=1, burst=1, by="type"))
    out = stage.feed([event(1), event(2), event(3, "file_changed")], START)
    assert [found.sequence for found in out] == [1], "3 has a token but stands behind 2"
    assert [found.sequence for found in stage.wake(START + 1)] == [2, 3]


def test_the_table_of_buckets_is_bounded_and_forgets_only_those_that_have_rested() -> None:
    buckets = Buckets(1.0, 1, by("run_id"))
    for n in range(MAX_BUCKETS):
        assert buckets.find(event(1, run=f"run{n}"), START).take(START)
    overflow = buckets.find(event(1, run="one more"), START)
    assert overflow is buckets.find(event(1, run="and another"), START), "while all are busy, new keys share one"
    assert len(buckets) == MAX_BUCKETS + 1
    assert buckets.find(event(1, run="run7"), START).take(START) is False, "a busy bucket was not forgotten"
    own = buckets.find(event(1, run="later"), START + 2)
    assert own is not overflow
    assert len(buckets) == 1


def test_a_bucket_that_somebody_waits_for_is_not_forgotten() -> None:
    buckets = Buckets(1000.0, 1, by("run_id"))
    waited = buckets.find(event(1, run="waited"), START)
    waited.users = 1
    for n in range(MAX_BUCKETS):
        buckets.find(event(1, run=f"run{n}"), START)
    buckets.find(event(1, run="new"), START + 5)
    assert buckets.find(event(1, run="waited"), START + 5) is waited


def test_by_event_time_an_old_log_at_full_speed_is_not_one_burst() -> None:
    stage = build(ThrottleOptions(rate=10, burst=1, clock="event"))
    old = [event(n, at=1_000_000_000 + n / 10) for n in range(1, 101)]
    assert len(stage.feed(old, START)) == 100


def test_by_event_time_a_burst_in_the_log_is_limited_and_let_go_as_the_log_goes_on() -> None:
    stage = build(ThrottleOptions(rate=10, burst=1, clock="event"))
    out = stage.feed([event(n, at=1_000_000_000) for n in (1, 2, 3)], START)
    assert [found.sequence for found in out] == [1]
    out = stage.feed([event(4, at=1_000_000_060)], START)
    assert [found.sequence for found in out] == [2], "one token was saved up, and time stands at the newest event"
    assert [found.sequence for _, found in drained(stage, START)] == [3, 4]


def test_by_event_time_a_silent_stream_goes_on_at_the_pace_of_the_wall() -> None:
    stage = build(ThrottleOptions(rate=10, burst=1, clock="event"))
    stage.feed([event(n, at=1_000_000_000) for n in (1, 2)], START)
    assert stage.deadline == pytest.approx(START + 0.1, abs=1e-5)
    assert stage.wake(START + 0.05) == []
    assert [found.sequence for found in stage.wake(START + 0.1)] == [2]


# --- coalesce -----------------------------------------------------------------------------------------------------


def test_a_texts_first_chunk_goes_at_once_and_the_next_ones_wait_for_company_at_most_the_debounce() -> None:
    stage = build(ThrottleOptions(mode="coalesce"))
    first = chunk(1, "a")
    assert stage.feed([first], START) == [first]
    assert stage.feed([chunk(2, "b")], START + 0.01) == []
    assert stage.feed([chunk(3, "c")], START + 0.05) == []
    assert stage.deadline == pytest.approx(START + 0.1)
    (joined,) = stage.wake(START + 0.1)
    assert joined.payload == {"message_id": "m", "index": 0, "text": "bc", "final": False}
    assert (joined.sequence, joined.event_id, joined.envelope["covers"]) == (3, "r:3", [[2, 2]])
    assert (stage.counts.passed, stage.counts.merged, stage.counts.left) == (2, 1, 0)


def test_after_a_pause_a_chunk_goes_at_once_again() -> None:
    stage = build(ThrottleOptions(mode="coalesce"))
    stage.feed([chunk(1)], START)
    late = chunk(2)
    assert stage.feed([late], START + 0.11) == [late]


def test_a_chunk_of_another_text_goes_at_once() -> None:
    stage = build(ThrottleOptions(mode="coalesce"))
    stage.feed([chunk(1)], START)
    other = chunk(2, message="other")
    assert stage.feed([other], START) == [other]


def test_any_other_event_of_the_run_ends_the_wait() -> None:
    stage = build(ThrottleOptions(mode="coalesce"))
    out = stage.feed([chunk(1, "a"), chunk(2, "b"), chunk(3, "c"), event(4)], START)
    assert [(found.sequence, found.payload.get("text")) for found in out] == [(1, "a"), (3, "bc"), (4, None)]


def test_the_final_text_comes_after_its_chunks() -> None:
    stage = build(ThrottleOptions(mode="coalesce"))
    out = stage.feed([chunk(1, "a"), chunk(2, "b"), chunk(3, "ab", final=True)], START)
    assert [found.sequence for found in out] == [1, 2, 3]


def test_chunks_without_a_token_give_way_to_the_final_text_that_replaces_them() -> None:
    stage = build(ThrottleOptions(mode="coalesce", rate=1, burst=1))
    out = [*stage.feed([chunk(1, "a"), chunk(2, "b"), chunk(3, "c"), chunk(4, "abc", final=True)], START)]
    assert [(found.type, found.sequence) for found in out] == [("agent_output", 1), ("gap", 3)]
    assert out[1].payload == {"ranges": [[2, 3]], "count": 2, "reason": "throttle", "types": {"agent_output": 2}}
    assert [found.sequence for _, found in drained(stage, START)] == [4]
    assert (stage.counts.dropped, stage.counts.added) == ({"throttle": 2}, 1)


def test_an_error_does_not_wait_for_a_chunk_without_token_which_is_declared_before_it() -> None:
    stage = build(ThrottleOptions(mode="coalesce", rate=1, burst=1))
    out = stage.feed([chunk(1, "a"), chunk(2, "b"), event(3, "error")], START)
    assert [(found.type, found.sequence) for found in out] == [("agent_output", 1), ("gap", 2), ("error", 3)]


def test_the_end_of_the_run_waits_for_the_last_chunk() -> None:
    stage = build(ThrottleOptions(mode="coalesce", rate=1, burst=1))
    stage.feed([chunk(1, "a"), chunk(2, "b"), event(3, "run_failed")], START)
    assert [found.sequence for _, found in drained(stage, START)] == [2, 3]


def test_a_dropped_chunk_behind_a_waiting_event_is_declared_in_its_place() -> None:
    stage = build(ThrottleOptions(mode="coalesce", rate=1, burst=1))
    stage.feed([event(1), event(2), chunk(3), chunk(4), chunk(5, "xx", final=True)], START)
    order = [(found.type, found.sequence) for _, found in drained(stage, START)]
    assert order == [("agent_tool_call", 2), ("gap", 4), ("agent_output", 5)]


def test_other_events_wait_in_coalesce_and_are_never_dropped() -> None:
    stage = build(ThrottleOptions(mode="coalesce", rate=1, burst=1))
    batch = [event(1), event(2), event(3, "agent_tool_result"), event(4), event(5, "agent_tool_result")]
    out = [*stage.feed(batch, START), *(found for _, found in drained(stage, START))]
    assert [found.line for found in out] == [found.line for found in batch]


def test_without_a_rate_coalesce_only_debounces() -> None:
    stage = build(ThrottleOptions(mode="coalesce", rate=0))
    calls = [event(n) for n in range(1, 1001)]
    assert stage.feed(calls, START) == calls
    stage.feed([chunk(n) for n in range(1001, 1101)], START)
    (joined,) = stage.wake(START + 0.1)
    assert joined.envelope["covers"] == [[1002, 1099]]


@pytest.mark.parametrize(
    "second",
    [
        chunk(3),  # 2 is missing
        chunk(2, message="other"),
        make("agent_output", {"message_id": "m", "index": 0, "text": "b", "final": False, "role": "user"},
             run_id="r", agent_id="a", sequence=2, at=timestamp(START)),
        make("agent_output", {"message_id": "m", "index": 0, "text": "b", "final": False},
             run_id="r", agent_id="a", sequence=2, at=timestamp(START), parent_id="p"),
        make("agent_thinking", {"message_id": "m", "index": 0, "text": "b", "final": False},
             run_id="r", agent_id="a", sequence=2, at=timestamp(START)),
        chunk(2, "b" * MERGED_BYTES),
    ],
)  # fmt: skip
def test_only_neighbours_that_differ_in_text_alone_are_joined(second: Event) -> None:
    stage = build(ThrottleOptions(mode="coalesce", rate=1, burst=1))
    stage.feed([event(0), chunk(1, "a"), second], START)
    assert [found.line for _, found in drained(stage, START)] == [chunk(1, "a").line, second.line]


def test_joining_joined_chunks_keeps_what_they_covered() -> None:
    def covering(sequence: int, covers: list[tuple[int, int]], text: str) -> Event:
        payload = {"message_id": "m", "index": 0, "text": text, "final": False}
        at = timestamp(START)
        return make("agent_output", payload, run_id="r", agent_id="a", sequence=sequence, at=at, covers=covers)

    parts = [Chunk.read(found) for found in (covering(3, [(1, 2)], "ab"), chunk(4, "c"), covering(7, [(5, 6)], "de"))]
    joined = merged(parts)
    assert (joined.sequence, joined.envelope["covers"], joined.payload["text"]) == (7, [[1, 6]], "abcde")
    assert numbers(joined) == [(1, 7)]


def test_a_character_that_was_split_over_two_chunks_is_whole_again() -> None:
    halves = [b'"\\ud83d"', b'"\\ude00"']
    parts = []
    for n, half in enumerate(halves, 1):
        line = chunk(n, "HALF").line.replace(b'"HALF"', half)
        parts.append(Chunk.read(Event("agent_output", "r", "a", None, n, f"r:{n}", line)))
    assert merged(parts).payload["text"] == "😀"


# --- drop and sample ----------------------------------------------------------------------------------------------


def test_what_is_dropped_is_declared_within_a_second_by_numbers_and_types() -> None:
    stage = build(ThrottleOptions(mode="drop", rate=1, burst=1))
    out = stage.feed([event(1), event(2), event(3, "file_changed"), event(4)], START)
    assert [found.sequence for found in out] == [1]
    assert stage.deadline == START + 1
    (gap,) = stage.wake(START + 1)
    assert (gap.event_id, gap.sequence) == ("r:gap:2-4", 4)
    assert gap.payload["ranges"] == [[2, 4]]
    assert gap.payload["types"] == {"agent_tool_call": 2, "file_changed": 1}
    assert stage.deadline is None


def test_a_gap_comes_before_the_next_exempt_event_of_its_run() -> None:
    stage = build(ThrottleOptions(mode="drop", rate=1, burst=1))
    out = stage.feed([event(1), event(2), event(3, "error"), event(4), event(5, "run_completed")], START)
    assert [(found.type, found.sequence) for found in out] == [
        ("agent_tool_call", 1), ("gap", 2), ("error", 3), ("gap", 4), ("run_completed", 5),
    ]  # fmt: skip


def test_events_without_number_are_counted_but_not_listed() -> None:
    stage = build(ThrottleOptions(mode="drop", rate=1, burst=1))
    stage.feed([event(None), event(None), event(None)], START)
    (gap,) = stage.finish(START)
    assert gap.payload["ranges"] == []
    assert gap.payload["count"] == 2
    assert gap.sequence is None


def test_a_number_after_an_event_without_one_is_listed() -> None:
    holes = Holes("throttle")
    for one in (event(None), event(1), event(2), event(None)):
        holes.add(one, START)
    (gap,) = holes.take_all(START)
    assert (gap.payload["ranges"], gap.payload["count"]) == ([[1, 2]], 4)


def test_dropping_a_joined_chunk_declares_what_it_covered() -> None:
    holes = Holes("throttle")
    payload = {"message_id": "m", "index": 0, "text": "x", "final": False}
    at = timestamp(START)
    holes.add(make("agent_output", payload, run_id="r", agent_id="a", sequence=5, at=at, covers=[(2, 4)]), START)
    (gap,) = holes.take_all(START)
    assert (gap.payload["ranges"], gap.payload["count"]) == ([[2, 5]], 4)


def test_a_gap_with_hundreds_of_ranges_is_sent_before_it_becomes_a_long_line() -> None:
    stage = build(ThrottleOptions(mode="drop", rate=1, burst=1))
    out = stage.feed([event(n) for n in range(1, 4000, 2)], START)
    gaps = [found for found in out if found.type == "gap"]
    assert len(gaps) == 3
    assert max(len(found.line) for found in gaps) < 16_384


def test_further_types_can_be_exempt() -> None:
    stage = build(ThrottleOptions(mode="drop", rate=1, burst=1, exempt=("agent_tool_call",)))
    assert len(stage.feed([event(n) for n in range(1, 100)], START)) == 99


@pytest.mark.parametrize("mode", MODES)
def test_content_passes_with_the_event_it_belongs_to_in_order_and_whole(mode: str) -> None:
    """Parts cost no token, are never merged or dropped; what drops drops neither them nor the call that names them."""
    stage = build(ThrottleOptions(rate=1.0, burst=1, mode=mode))
    parts = [event(number, "content", part=number - 2, parts=3, text="x") for number in (3, 4, 5)]
    named = event(6, whole=[{"ref": "r:3"}])
    fed = [event(1), event(2), *parts, named, event(7), event(8, "content"), event(9, "agent_tool_result"), event(10)]
    out = list(stage.feed(fed, START)) + [found for _, found in drained(stage, START)]
    out += stage.wake(START + 60)
    out += stage.finish(START + 60)
    lines = [found.line for found in out]
    kept = [lines.index(one.line) for one in (*parts, named)]
    assert kept == list(range(kept[0], kept[0] + 4))
    assert [found.sequence for found in out if found.type in ("content", "agent_tool_result")] == [3, 4, 5, 8, 9]
    assert sorted(declared(out)) == list(range(1, 11))
    assert balanced(stage)


def test_what_comes_after_content_and_its_event_is_dropped_again() -> None:
    stage = build(ThrottleOptions(rate=1.0, burst=1, mode="drop"))
    out = list(stage.feed([event(1), event(2, "content"), event(3), event(4), event(1, run="s")], START))
    assert [found.sequence for found in out] == [1, 2, 3]


def test_a_sample_is_spread_evenly_where_drop_keeps_the_head_of_each_burst() -> None:
    def kept(mode: str, seed: int = 0) -> list[int]:
        stage = build(ThrottleOptions(mode=mode, rate=50, burst=25, seed=seed))
        out = []
        for n in range(20_000):  # bursts of 500, one each 0.5 s
            now = START + n // 500 * 0.5 + n % 500 * 1e-5
            out += [found.sequence for found in stage.feed([event(n + 1)], now) if found.type != "gap"]
        return out

    late = [n for n in kept("sample") if (n - 1) % 500 >= 250]
    assert len(late) > 0.3 * len(kept("sample"))
    assert not [n for n in kept("drop") if (n - 1) % 500 >= 250]
    assert kept("sample") == kept("sample")
    assert kept("sample") != kept("sample", seed=1)


def test_below_the_rate_a_sample_keeps_everything() -> None:
    stage = build(ThrottleOptions(mode="sample", rate=50))
    out = [found for n in range(500) for found in stage.feed([event(n + 1)], START + n / 40)]
    assert len(out) == 500


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 8)), max_size=20))
def test_tidied_spans_hold_the_same_numbers_in_order_and_apart(pairs: list[tuple[int, int]]) -> None:
    spans = [(first, first + more) for first, more in pairs]
    joined = tidied(spans)
    inside = {n for first, last in spans for n in range(first, last + 1)}
    assert {n for first, last in joined for n in range(first, last + 1)} == inside
    assert all(right[0] > left[1] + 1 for left, right in itertools.pairwise(joined))


# --- everything at once -------------------------------------------------------------------------------------------

KINDS = ["chunk", "chunk", "chunk", "final", "agent_tool_call", "agent_tool_result", "error", "file_changed", "none"]


class Throttling(RuleBasedStateMachine):
    """Any batches at any times in any mode: the identity at every moment, order, and no number undeclared."""

    @initialize(
        mode=st.sampled_from(MODES),
        rate=st.sampled_from([0.0, 2.0, 50.0]),
        burst=st.sampled_from([None, 1, 3]),
        key=st.sampled_from([None, "run_id", "type", "payload.message_id"]),
        clock=st.sampled_from(["wall", "event"]),
        debounce=st.sampled_from([0.0, 0.1]),
        hold=st.sampled_from([1, 50]),
    )
    def begin(self, mode, rate, burst, key, clock, debounce, hold) -> None:
        self.stage = build(
            ThrottleOptions(mode=mode, rate=rate, burst=burst, by=key, clock=clock, debounce=debounce, hold=hold)
        )
        self.mode, self.now = mode, START
        self.fed: dict[str, list[Event]] = {}
        self.out: list[Event] = []
        self.unnumbered = 0
        self.ended: set[str] = set()

    def take(self, events) -> None:
        self.out += events

    @rule(
        batch=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(KINDS), st.integers(0, 1)), max_size=15),
        pause=st.sampled_from([0.0, 0.001, 0.05, 0.6]),
    )
    def feed(self, batch, pause) -> None:
        self.now += pause
        self.take(self.stage.feed([self.made(*one) for one in batch if one[0] not in self.ended], self.now))

    @rule(run=st.sampled_from("abc"), kind=st.sampled_from(sorted(TERMINAL_TYPES)))
    def end_run(self, run, kind) -> None:
        if run not in self.ended:
            self.ended.add(run)
            self.take(self.stage.feed([self.numbered(run, kind)], self.now))

    @rule()
    def wake(self) -> None:
        if self.stage.deadline is not None:
            self.now = max(self.now, self.stage.deadline)
            self.take(self.stage.wake(self.now))

    def made(self, run, kind, message) -> Event:
        if kind == "none":
            self.unnumbered += 1
            return event(None, run=run, at=self.now)
        if kind in ("chunk", "final"):
            text = {"message_id": f"m{message}", "index": 0, "text": "x", "final": kind == "final"}
            return self.numbered(run, "agent_output", **text)
        return self.numbered(run, kind)

    def numbered(self, run, kind, **payload) -> Event:
        line = self.fed.setdefault(run, [])
        line.append(event(len(line) + 1, kind, run, self.now, **payload))
        return line[-1]

    @invariant()
    def the_counts_balance(self) -> None:
        if not hasattr(self, "stage"):
            return
        assert balanced(self.stage)
        assert self.stage.counts.left >= 0
        assert not self.stage.counts.left or self.stage.deadline is not None
        made = [found for found in self.out if found.type == "gap"]
        assert len(made) == self.stage.counts.added
        assert len(self.out) - len(made) == self.stage.counts.passed

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        if random.Random(len(self.out)).random() < 0.5:
            self.take([found for _, found in drained(self.stage, self.now)])
        self.take(self.stage.finish(self.now + 5))
        assert self.stage.counts.left == 0
        for run, fed in self.fed.items():
            self.check_run(run, fed, [found for found in self.out if found.run_id == run])

    def check_run(self, run, fed, out) -> None:
        assert sorted(declared(out)) == list(range(1, len(fed) + 1)), "no hole, and nothing twice"
        order = [found.sequence for found in out if found.type != "gap" and found.sequence]
        assert order == sorted(order)
        seen = {found.sequence for found in out if found.type != "gap"}
        assert {found.sequence for found in fed if found.type in ALWAYS_EXEMPT} <= seen
        if run in self.ended:
            numbered = [found for found in out if found.sequence]
            assert numbered[-1].type in TERMINAL_TYPES, "the end of a run comes last"
        if self.mode == "delay":
            assert [found.line for found in out if found.sequence] == [found.line for found in fed]


Throttling.TestCase.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
TestThrottling = Throttling.TestCase
