"""What the tables of results say is what was measured: verdicts are computed, tables are made from the JSON."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench import run  # noqa: E402 - the benchmarks are no part of the installed package
from bench.measure import Answer  # noqa: E402


def answer(goals: dict[str, str], better: str = "higher") -> Answer:
    figures = {"ours": 100.0, "theirs": 50.0}
    return Answer("?", "x", better, "ours", figures, dict.fromkeys(figures, (0, 1)), [], goals)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        ("≥ 100", True),
        ("> 100", False),
        ("≤ 100", True),
        ("< 100", False),
        ("≥ 1,000", False),
        ("≤ 1,000", True),
    ],
)
def test_a_goal_about_the_figure(goal: str, met: bool) -> None:
    assert answer({"ours": goal}).verdict("ours") == ("met" if met else "**not met**")


def test_a_goal_about_a_peer_is_about_the_ratio_or_the_difference() -> None:
    assert answer({"theirs": "≥ 2 ×"}).verdict("theirs") == "met"
    assert answer({"theirs": "≥ 2.1 ×"}).verdict("theirs") == "**not met**"
    assert answer({"theirs": "≥ 0.6 ×"}, "lower").verdict("theirs") == "**not met**"
    assert answer({"theirs": "≤ + 50"}, "lower").verdict("theirs") == "met"
    assert answer({"theirs": "≤ + 49"}, "lower").verdict("theirs") == "**not met**"


def test_several_goals_are_judged_each() -> None:
    assert answer({"ours": "≥ 50; ≥ 150"}).verdict("ours") == "met; **not met**"


def test_what_is_no_goal_is_refused() -> None:
    with pytest.raises(ValueError, match="is no goal"):
        answer({"ours": "fast"}).verdict("ours")


def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.RESULTS / "results.json").read_text())
    return found


def test_the_tables_are_made_from_the_results() -> None:
    assert (run.RESULTS / "TABLE.md").read_text().endswith(run.table(results()["answers"]))
    assert run.MARKS[0] + run.shown(results()) + run.MARKS[1] in run.GUIDE.read_text()


def test_the_guide_shows_every_kind_of_figure_that_it_promises() -> None:
    names = list(results()["answers"])
    assert [start for start in run.SHOWN if not any(name.startswith(start) for name in names)] == []


def test_every_question_has_a_file_with_answers() -> None:
    for name in (*run.QUESTIONS, *run.BY_NAME):
        assert importlib.util.find_spec(f"bench.{name}") is not None
    described = (ROOT / "bench" / "README.md").read_text()
    assert [name for name in (*run.QUESTIONS, *run.BY_NAME) if f"`{name}.py`" not in described] == []
