"""How far a run has come: percent, what is being done, and when it may be ready.

The rule this module keeps: nothing is claimed that the plan does not show. Percent is items done of items planned; it
goes back only when the plan itself grew or was taken up again, which ``items`` and ``total`` of the same event show. A
time is guessed only from at least two finished items, with the range that the fastest and the slowest of them give,
and not at all while the current item takes far longer than any before.

Pure: times are arguments, in seconds since the run started.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from agentpipe.payload import ProgressUpdate  # a name for mypy alone: its import is paid at start-up

__all__ = ["Plan", "Step", "StepStatus"]

StepStatus: TypeAlias = Literal["pending", "in_progress", "completed", "cancelled"]

#: Beyond this many times the slowest item so far the past says nothing about the present one.
_STUCK = 3.0

#: Items told in one event: a plan longer than that is no plan for people; the numbers still count all.
_MOST_ITEMS = 200


class Step(msgspec.Struct, frozen=True, gc=False):
    """One item of a plan; ``doing`` is how it reads while it is in progress ("Reading the README")."""

    text: str
    status: StepStatus
    doing: str = ""


class Plan:
    """The plan of one run or sub-agent, and when its items were finished."""

    def __init__(self) -> None:
        self._steps: tuple[Step, ...] = ()
        self._done = 0
        self._total = 0  # without what was cancelled
        self._current: Step | None = None  # the first one in progress
        self._begun_s: float | None = None  # when the plan was made
        self._finished_s = 0.0  # when the last item was finished
        self._pace = _Pace()

    @property
    def active(self) -> bool:
        """Whether something is in progress."""
        return self._current is not None

    @property
    def steps(self) -> Sequence[Step]:
        """The plan as it stands."""
        return self._steps

    def change(self, steps: Sequence[Step], elapsed_s: float) -> bool:
        """Put *steps* in place of the plan; False when that changes nothing."""
        new = tuple(steps)
        if new == self._steps:
            return False
        if self._begun_s is None:
            self._begun_s = self._finished_s = elapsed_s
        before = self._done
        self._steps = new
        self._count()
        if self._done > before:
            self._pace.add(max(0.0, elapsed_s - self._finished_s), self._done - before)
            self._finished_s = elapsed_s
        return True

    def payload(self, elapsed_s: float) -> "ProgressUpdate":
        """The payload of ``progress_update`` as of *elapsed_s*."""
        done, total = self._done, self._total
        update: ProgressUpdate = {
            "percent": round(100 * done / total, 1) if total else 0.0,
            "done": done,
            "total": total,
            "elapsed_s": round(elapsed_s, 3),
            "basis": "plan",
        }
        if self._current is not None:
            update["current"] = self._current.doing or self._current.text
        if done < total:
            guess = self._pace.guess(total - done, max(0.0, elapsed_s - self._finished_s))
            if guess is not None:
                update["eta_s"], update["eta_range_s"] = guess
        update["items"] = [{"text": step.text, "status": step.status} for step in self._steps[:_MOST_ITEMS]]
        return update

    def _count(self) -> None:
        """Once for each change, because the numbers are asked for again and again."""
        statuses = [step.status for step in self._steps]
        self._done = statuses.count("completed")
        self._total = len(statuses) - statuses.count("cancelled")
        self._current = self._steps[statuses.index("in_progress")] if "in_progress" in statuses else None


class _Pace:
    """How long finished items took: as many as there were, in the memory of four numbers."""

    def __init__(self) -> None:
        self._count = 0
        self._sum_s = 0.0
        self._fast_s = float("inf")
        self._slow_s = 0.0

    def add(self, took_s: float, items: int) -> None:
        """*items* were finished together in *took_s* seconds."""
        each = took_s / items
        for _ in range(items):
            self._sum_s += each
        self._count += items
        self._fast_s = min(self._fast_s, each)
        self._slow_s = max(self._slow_s, each)

    def guess(self, remaining: int, spent_s: float) -> tuple[float, list[float]] | None:
        """Seconds until everything is done, and their range, when the present item has taken *spent_s* so far; None
        when nothing honest can be said.
        """
        if self._count < 2 or not self._sum_s or spent_s > _STUCK * self._slow_s:
            return None
        mean = self._sum_s / self._count
        times = [each * (remaining - 1) + max(0.0, each - spent_s) for each in (self._fast_s, mean, self._slow_s)]
        low, middle, high = (round(time, 1) for time in times)
        return middle, [low, high]
