"""Progress: percent from the plan, and a time only when there is something to guess from."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe.payload import ProgressUpdate
from agentpipe.progress import Declared, Plan, Step, StepStatus, Turns, went_back


def steps(*statuses: StepStatus) -> list[Step]:
    return [Step(f"item {number}", status, f"doing {number}") for number, status in enumerate(statuses, 1)]


def test_percent_is_items_done_of_items_planned() -> None:
    plan = Plan()
    assert plan.change(steps("completed", "in_progress", "pending", "pending"), 3.0)
    update = plan.payload(3.0)
    assert (update["percent"], update["done"], update["total"]) == (25.0, 1, 4)
    assert update["current"] == "doing 2"
    assert update["elapsed_s"] == 3.0
    assert [item["status"] for item in update["items"]] == ["completed", "in_progress", "pending", "pending"]


def test_the_same_plan_again_changes_nothing() -> None:
    plan = Plan()
    assert plan.change(steps("pending"), 0.0)
    assert not plan.change(steps("pending"), 9.0)


def test_a_plan_in_progress_is_active() -> None:
    plan = Plan()
    assert not plan.active
    plan.change(steps("in_progress"), 0.0)
    assert plan.active
    plan.change(steps("completed"), 1.0)
    assert not plan.active


def test_no_time_is_guessed_from_one_finished_item() -> None:
    plan = Plan()
    plan.change(steps("in_progress", "pending", "pending"), 0.0)
    plan.change(steps("completed", "in_progress", "pending"), 10.0)
    assert "eta_s" not in plan.payload(11.0)


def test_time_and_range_come_from_finished_items() -> None:
    plan = Plan()
    plan.change(steps("in_progress", "pending", "pending", "pending"), 0.0)
    plan.change(steps("completed", "in_progress", "pending", "pending"), 10.0)
    plan.change(steps("completed", "completed", "in_progress", "pending"), 30.0)
    update = plan.payload(30.0)
    assert update["eta_s"] == 30.0  # two items of 15 s
    assert update["eta_range_s"] == [20.0, 40.0]
    later = plan.payload(35.0)
    assert later["eta_s"] == 25.0
    assert later["eta_range_s"] == [15.0, 35.0]


def test_no_time_is_guessed_while_an_item_takes_far_longer_than_any_before() -> None:
    plan = Plan()
    plan.change(steps("in_progress", "pending", "pending"), 0.0)
    plan.change(steps("completed", "in_progress", "pending"), 1.0)
    plan.change(steps("completed", "completed", "in_progress"), 2.0)
    assert "eta_s" in plan.payload(2.5)
    assert "eta_s" not in plan.payload(60.0)


def test_items_that_took_no_time_are_no_measure() -> None:
    plan = Plan()
    plan.change(steps("pending", "pending", "pending"), 5.0)
    plan.change(steps("completed", "completed", "pending"), 5.0)
    assert "eta_s" not in plan.payload(5.0)


def test_nothing_remains_when_everything_is_done() -> None:
    plan = Plan()
    plan.change(steps("in_progress", "in_progress"), 0.0)
    plan.change(steps("completed", "completed"), 4.0)
    update = plan.payload(4.0)
    assert update["percent"] == 100.0
    assert "eta_s" not in update
    assert "current" not in update


def test_percent_goes_back_only_with_a_plan_that_shows_why() -> None:
    plan = Plan()
    plan.change(steps("completed", "pending"), 1.0)
    before = plan.payload(1.0)
    plan.change(steps("completed", "pending", "pending", "pending"), 2.0)
    after = plan.payload(2.0)
    assert (before["percent"], after["percent"]) == (50.0, 25.0)
    assert (before["total"], after["total"]) == (2, 4)
    assert len(after["items"]) == 4


def test_cancelled_items_are_shown_and_not_counted() -> None:
    plan = Plan()
    plan.change(steps("completed", "cancelled"), 1.0)
    update = plan.payload(1.0)
    assert (update["percent"], update["total"], len(update["items"])) == (100.0, 1, 2)


def test_an_empty_plan_divides_by_nothing() -> None:
    plan = Plan()
    plan.change(steps("pending"), 0.0)
    plan.change([], 1.0)
    assert plan.payload(1.0)["percent"] == 0.0


def test_the_share_declared_is_done_of_total() -> None:
    declared = Declared()
    assert not declared.active
    assert declared.change(3, 12, "Compiling", 2.0)
    assert declared.payload(2.0) == {
        "percent": 25.0, "done": 3, "total": 12, "elapsed_s": 2.0, "basis": "declared", "current": "Compiling",
    }  # fmt: skip
    assert declared.active
    assert not declared.change(3, 12, "Compiling", 9.0)
    assert declared.change(12, 12, "", 9.0)
    assert not declared.active


def test_time_of_what_is_declared_comes_from_how_fast_it_moved() -> None:
    declared = Declared()
    declared.change(0, 10, "", 0.0)
    declared.change(2, 10, "", 4.0)
    assert "eta_s" not in declared.payload(4.0), "one step is no measure"
    declared.change(4, 10, "", 12.0)
    update = declared.payload(12.0)
    assert update["eta_s"] == 18.0  # 3 s each
    assert update["eta_range_s"] == [12.0, 24.0]  # 2 s, 4 s
    assert "eta_s" in declared.payload(12.0 + 23.0), "a step of two may take long"
    assert "eta_s" not in declared.payload(12.0 + 25.0), "it is stuck"


def test_what_is_declared_anew_is_measured_anew() -> None:
    declared = Declared()
    for done in range(4):
        declared.change(done, 10, "", float(done))
    assert "eta_s" in declared.payload(3.0)
    declared.change(1, 10, "again", 4.0)
    assert "eta_s" not in declared.payload(4.0)


def test_turns_are_over_when_the_next_begins_and_may_be_fewer_than_the_limit() -> None:
    turns = Turns(4)
    assert turns.begin(1.0)
    assert turns.payload(1.0) == {
        "percent": 0.0, "done": 0, "total": 4, "elapsed_s": 1.0, "basis": "turns", "current": "turn 1 of at most 4",
    }  # fmt: skip
    turns.begin(3.0)
    turns.begin(7.0)
    update = turns.payload(7.0)
    assert (update["percent"], update["eta_s"]) == (50.0, 6.0)
    assert update["eta_range_s"] == [0.0, 8.0]
    turns.begin(8.0)
    assert not turns.begin(9.0), "beyond the limit there is no turn"


REASONS = [
    (("completed", "pending"), ("completed", "pending", "pending"), "the plan grew from 2 to 3 items"),
    (("completed", "completed"), ("completed", "pending"), "finished items are open again: 1 of 2 after 2"),
    (("completed", "completed"), (), "the plan was emptied"),
    (("completed",), ("pending", "pending"), "the plan has changed: 0 of 2 items are done, 1 of 1 were"),
    (("completed", "pending"), ("completed", "completed", "pending"), ""),
    (("completed", "pending"), ("completed", "cancelled"), ""),
]


@pytest.mark.parametrize(("before", "after", "reason"), REASONS)
def test_a_plan_that_goes_back_says_why(
    before: tuple[StepStatus, ...], after: tuple[StepStatus, ...], reason: str
) -> None:
    plan = Plan()
    plan.change(steps(*before), 0.0)
    told = plan.payload(0.0)
    plan.change(steps(*after), 1.0)
    assert went_back(told, plan.payload(1.0)) == reason


def test_another_basis_that_tells_less_says_so() -> None:
    plan, declared = Plan(), Declared()
    declared.change(9, 10, "", 0.0)
    plan.change(steps("pending"), 0.0)
    assert went_back(declared.payload(0.0), plan.payload(0.0)) == ("the plan tells it now, what is declared did before")


STATUS: st.SearchStrategy[StepStatus] = st.sampled_from(("pending", "in_progress", "completed", "cancelled"))
CHANGES = st.lists(st.tuples(st.lists(STATUS, max_size=6), st.floats(0, 1e4), st.floats(0, 1e4)), max_size=20)


def holds(update: ProgressUpdate) -> None:
    assert 0 <= update["percent"] <= 100
    if "eta_s" in update:
        low, high = update["eta_range_s"]
        assert 0 <= low <= update["eta_s"] <= high


@given(CHANGES)
def test_whatever_a_plan_does_its_percent_is_one_and_its_range_holds_its_time(changes: list[Any]) -> None:
    plan, now = Plan(), 0.0
    for statuses, step_s, later_s in changes:
        now += step_s
        before = plan.payload(now)
        plan.change(steps(*statuses), now)
        update = plan.payload(now)
        holds(update)
        assert bool(went_back(before, update)) == (update["percent"] < before["percent"])
        holds(plan.payload(now + later_s))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(50, 60), st.floats(0, 1e4), st.floats(0, 1e4)), max_size=20))
def test_whatever_is_declared_its_percent_is_one_and_its_range_holds_its_time(changes: list[Any]) -> None:
    declared, now = Declared(), 0.0
    for done, total, step_s, later_s in changes:
        now += step_s
        before = declared.payload(now)
        declared.change(done, total, "", now)
        update = declared.payload(now)
        holds(update)
        assert bool(went_back(before, update)) == (update["percent"] < before["percent"])
        holds(declared.payload(now + later_s))


@given(st.integers(1, 20), st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)), max_size=30))
def test_turns_never_go_back_and_their_range_holds_their_time(limit: int, times: list[tuple[float, float]]) -> None:
    turns, now, percent = Turns(limit), 0.0, 0.0
    for step_s, later_s in times:
        now += step_s
        turns.begin(now)
        update = turns.payload(now + later_s)
        holds(update)
        assert update["percent"] >= percent
        percent = update["percent"]
