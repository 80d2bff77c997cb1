"""The stage contract: a chain is its stages one after the other, and every event is accounted for."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentpipe.event import Event
from agentpipe.stage import BaseStage, Chain, Counts, Demand, Map, Stage, StageSpec, option, will_let_go
from tests.doubles import Batch, Delay, Echo, Elastic, First, Ticker, Timeline, numbered, play, sequences

Make = Callable[[], Stage]


def odd(event: Event) -> Event | None:
    return event if (event.sequence or 0) % 2 else None


MAKERS: dict[str, Make] = {
    "pass": BaseStage,
    "odd": lambda: Map(odd),
    "delay": lambda: Delay(3.0),
    "delay-none": lambda: Delay(0.0),
    "delay-holding": lambda: Delay(2.5, most=2),
    "elastic": lambda: Elastic(chunk=2),
    "elastic-holding": lambda: Elastic(chunk=1, most=3),
    "batch": lambda: Batch(3),
    "first": lambda: First(5),
    "echo": Echo,
    "ticker": Ticker,
}
NAMES = st.sampled_from(sorted(MAKERS))


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    now, sequence, timeline = 0.0, 0, []
    for pause, size in draw(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 3.0, 10.0]), st.integers(1, 4)), max_size=8)):
        now += pause
        timeline.append((now, [numbered(sequence + place + 1) for place in range(size)]))
        sequence += size
    return timeline


def holds(counts: Counts) -> bool:
    return counts.read == counts.passed + sum(counts.dropped.values()) + counts.merged + counts.left


class Watched(BaseStage):
    """Checks of the stage inside, at every step, that the driver keeps the contract and the stage its identity."""

    def __init__(self, inner: Stage) -> None:
        super().__init__()
        self.inner, self.finished = inner, False
        self.counts = inner.counts

    @property
    def demand(self) -> Demand:
        return self.inner.demand

    @property
    def deadline(self) -> float | None:
        return self.inner.deadline

    @property
    def elastic(self) -> bool:
        return self.inner.elastic

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        assert not self.finished
        assert events
        return self.checked(self.inner.feed(events, now))

    def wake(self, now: float) -> Sequence[Event]:
        assert not self.finished
        assert self.deadline is not None
        assert self.deadline <= now
        return self.checked(self.inner.wake(now))

    def finish(self, now: float) -> Sequence[Event]:
        assert not self.finished
        self.finished = True
        return self.checked(self.inner.finish(now))

    def checked(self, out: Sequence[Event]) -> Sequence[Event]:
        assert holds(self.counts)
        return out


@given(st.lists(NAMES, min_size=1, max_size=4), timelines())
@example(["elastic", "pass", "delay-holding"], [(0.0, [numbered(n) for n in range(1, 9)])])
@example(["batch", "ticker"], [(0.0, [numbered(1)])])
@example(["delay", "first", "echo"], [(0.0, [numbered(n) for n in range(1, 9)])])
def test_a_chain_is_its_stages_one_after_the_other(names: list[str], timeline: Timeline) -> None:
    stages = [Watched(MAKERS[name]()) for name in names]
    chain = Chain(*stages)
    found = play(chain, timeline)
    one_by_one = timeline
    for name in names:
        one_by_one = play(MAKERS[name](), one_by_one)
    assert sequences(found) == sequences(one_by_one)
    assert all(stage.finished for stage in stages)
    counts = chain.counts
    made_inside = sum(stage.counts.added for stage in stages[:-1])
    assert counts.left == 0
    assert counts.read + made_inside == counts.passed + sum(counts.dropped.values()) + counts.merged


@given(
    st.sampled_from(["pass", "odd", "delay", "delay-none", "echo", "ticker"]),
    st.sampled_from(["pass", "delay", "odd"]),
    timelines(),
)
def test_a_chain_lets_go_at_the_moments_at_which_its_stages_would(first: str, second: str, timeline: Timeline) -> None:
    """Only for stages that neither hold nor keep anything for the end, for which the moments are settled."""
    found = play(Chain(MAKERS[first](), MAKERS[second]()), timeline)
    expected = play(MAKERS[second](), play(MAKERS[first](), timeline))
    moments = [
        {event.sequence: at for at, events in line for event in events if event.sequence != 999999}
        for line in (found, expected)
    ]
    assert moments[0] == moments[1]


@given(NAMES, NAMES, NAMES, timelines())
def test_chains_of_chains_are_chains(first: str, second: str, third: str, timeline: Timeline) -> None:
    flat = play(Chain(MAKERS[first](), MAKERS[second](), MAKERS[third]()), timeline)
    left = play(Chain(Chain(MAKERS[first](), MAKERS[second]()), MAKERS[third]()), timeline)
    assert sequences(left) == sequences(flat)


def test_a_hold_reaches_back_to_the_elastic_stage_through_stages_that_pass_on() -> None:
    slow = Delay(1.0, most=3)
    chain = Chain(Elastic(chunk=1), BaseStage(), Map(lambda event: event), slow)
    play(chain, [(0.0, [numbered(n) for n in range(1, 200)])])
    assert slow.highest <= 4
    assert slow.counts.passed == 199


def test_a_hold_before_the_elastic_stage_reaches_the_source_and_one_behind_it_does_not() -> None:
    full = Delay(1.0, most=0)
    assert Chain(full, Elastic()).demand is Demand.HOLD
    assert Chain(Elastic(), full).demand is Demand.MORE
    assert Chain(BaseStage(), full, Elastic()).demand is Demand.HOLD
    assert Chain(First(0), full).demand is Demand.DONE


def test_a_chain_is_elastic_when_its_last_stage_is() -> None:
    assert Chain(BaseStage(), Elastic()).elastic
    assert not Chain(Elastic(), BaseStage()).elastic


def test_only_a_stage_with_events_and_a_deadline_is_waited_for() -> None:
    held = Batch(9)
    held.feed([numbered(1)], 0.0)
    assert not will_let_go(held)
    assert not will_let_go(Ticker())
    assert not will_let_go(Chain(held, Ticker()))
    due = Delay(1.0)
    due.feed([numbered(1)], 0.0)
    assert will_let_go(Chain(held, Chain(due, Ticker())))


def test_what_is_handed_to_a_stage_that_is_done_counts_as_dropped() -> None:
    chain = Chain(Delay(1.0), First(1))
    play(chain, [(0.0, [numbered(1)]), (0.5, [numbered(2), numbered(3)])])
    assert chain.counts.dropped == {"done": 2}
    assert chain.report()["in"] == 3


def test_an_untouched_event_is_passed_on_as_the_same_object() -> None:
    event = numbered(1)
    assert Chain(BaseStage(), Map(odd)).feed([event], 0.0)[0] is event


def test_map_counts_what_it_filters() -> None:
    stage = Map(odd)
    assert sequences([(0.0, list(stage.feed([numbered(n) for n in range(1, 6)], 0.0)))]) == [1, 3, 5]
    assert stage.report() == {"in": 5, "out": 3, "dropped": {"filtered": 2}, "merged": 0, "left": 0, "added": 0}


def test_a_chain_reports_each_of_its_stages() -> None:
    chain = Chain(BaseStage(), Map(odd))
    chain.feed([numbered(1), numbered(2)], 0.0)
    report = chain.report()
    assert (report["in"], report["out"], report["dropped"]) == (2, 1, {"filtered": 1})
    assert [stage["out"] for stage in report["stages"]] == [2, 1]


def test_an_empty_chain_makes_no_sense() -> None:
    with pytest.raises(ValueError):
        Chain()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    size: int = option(3, "How many at a time.", minimum=1)
    mode: str = option("a", "Which way.", choices=["a", "b"])


SPEC = StageSpec("batch", "Let go of several at once.", Settings, lambda options: Batch(options.size))


def test_a_stage_is_built_from_plain_values() -> None:
    built = SPEC.from_mapping({"size": 5})
    assert isinstance(built, Batch)
    assert built.size == 5
    with pytest.raises(TypeError):
        SPEC.from_mapping({"sise": 5})


def test_an_option_states_everything_about_itself() -> None:
    size, mode = dataclasses.fields(Settings)
    assert (size.default, size.metadata["help"], size.metadata["minimum"]) == (3, "How many at a time.", 1)
    assert (mode.metadata["choices"], mode.metadata["metavar"]) == (("a", "b"), "a|b")
