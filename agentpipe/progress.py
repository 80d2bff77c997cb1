"""How far a run has come: percent, what is being done, and when it may be ready.

The rule this module keeps: nothing is claimed that the plan does not show. Percent is items done of items planned; it
goes back only when the plan itself grew or was taken up again, which ``items`` and ``total`` of the same event show. A
time is guessed only from at least two finished items, with the range that the fastest and the slowest of them give,
and not at all while the current item takes far longer than any before.

Pure: times are arguments, in seconds since the run started.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from agentpipe.payload import PlanItem, ProgressUpdate

__all__ = ["Plan", "Step", "StepStatus"]

StepStatus: TypeAlias = Literal["pending", "in_progress", "completed", "cancelled"]

#: Beyond this many times the slowest item so far the past says nothing about the present one.
_STUCK = 3.0

#: Items told in one event: a plan longer than that is no plan for people; the numbers still count all.
_MOST_ITEMS = 200


class Step(NamedTuple):
    """One item of a plan; ``doing`` is how it reads while it is in progress ("Reading the README")."""

    text: str
    status: StepStatus
    doing: str = ""


class Plan:
    """The plan of one run or sub-agent, and when its items were finished."""

    def __init__(self) -> None:
        self._steps: tuple[Step, ...] = ()
        self._begun_s: float | None = None  # when the plan was made
        self._finished_s = 0.0  # when the last item was finished
        self._samples: list[float] = []  # seconds that finished items took

    @property
    def active(self) -> bool:
        """Whether something is in progress."""
        return any(step.status == "in_progress" for step in self._steps)

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
        finished = _done(new) - _done(self._steps)
        if finished > 0:
            each = max(0.0, elapsed_s - self._finished_s) / finished
            self._samples += [each] * finished
            self._finished_s = elapsed_s
        self._steps = new
        return True

    def payload(self, elapsed_s: float) -> ProgressUpdate:
        """The payload of ``progress_update`` as of *elapsed_s*."""
        done, total = _done(self._steps), _planned(self._steps)
        update: ProgressUpdate = {
            "percent": round(100 * done / total, 1) if total else 0.0,
            "done": done,
            "total": total,
            "elapsed_s": round(elapsed_s, 3),
            "basis": "plan",
        }
        current = next((step for step in self._steps if step.status == "in_progress"), None)
        if current is not None:
            update["current"] = current.doing or current.text
        guess = self._guess(total - done, elapsed_s)
        if guess is not None:
            update["eta_s"], update["eta_range_s"] = guess
        shown: list[PlanItem] = [{"text": step.text, "status": step.status} for step in self._steps[:_MOST_ITEMS]]
        update["items"] = shown
        return update

    def _guess(self, remaining: int, elapsed_s: float) -> tuple[float, list[float]] | None:
        """Seconds until everything is done, and their range; None when nothing honest can be said."""
        if not remaining or len(self._samples) < 2 or not sum(self._samples):
            return None
        mean, fast, slow = sum(self._samples) / len(self._samples), min(self._samples), max(self._samples)
        spent = max(0.0, elapsed_s - self._finished_s)
        if spent > _STUCK * slow:
            return None
        times = [each * (remaining - 1) + max(0.0, each - spent) for each in (fast, mean, slow)]
        low, middle, high = (round(time, 1) for time in times)
        return middle, [low, high]


def _done(steps: Sequence[Step]) -> int:
    return sum(step.status == "completed" for step in steps)


def _planned(steps: Sequence[Step]) -> int:
    return sum(step.status != "cancelled" for step in steps)
