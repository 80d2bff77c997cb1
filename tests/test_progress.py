"""Progress: percent from the plan, and a time only when there is something to guess from."""

from agentpipe.progress import Plan, Step, StepStatus


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
