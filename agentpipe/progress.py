"""How far a run has come: percent, what is being done, and when it may be ready.

Three things can tell it: the agent's plan (`Plan`), a marker that somebody printed (`Declared`), the number of turns
that the agent may take (`Turns`).

The rules this module keeps: nothing is claimed that these do not show. Percent that goes back says why (`went_back`). A
time is guessed only from at least two finished steps, with the range that the fastest and the slowest of them give, and
not at all while the present one takes far longer than any before.

Pure: times are arguments, in seconds since the run started.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from agentpipe.payload import ProgressUpdate  # a name for mypy alone: its import is paid at start-up

__all__ = ["Declared", "Plan", "Step", "StepStatus", "Turns", "went_back"]

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


class Declared:
    """What markers have told: so many of so many, and a word about it."""

    def __init__(self) -> None:
        self._done = 0.0
        self._total = 0.0
        self._said = ""
        self._steps = 0  # markers by which more was done
        self._last_step = 0.0  # how much the last of them brought
        self._moved_s = 0.0  # when it came
        self._pace = _Pace()

    @property
    def active(self) -> bool:
        """Whether something is told that is not at its end."""
        return self._done < self._total

    def change(self, done: float, total: float, said: str, elapsed_s: float) -> bool:
        """A marker tells *done* of *total* (more than 0); False when it tells nothing new."""
        if (done, total, said) == (self._done, self._total, self._said):
            return False
        if total != self._total or done < self._done:  # counted anew: what was before is no measure
            self._pace, self._steps, self._moved_s = _Pace(), 0, elapsed_s
        elif done > self._done:
            self._last_step = done - self._done
            self._pace.add(max(0.0, elapsed_s - self._moved_s), self._last_step)
            self._steps += 1
            self._moved_s = elapsed_s
        self._done, self._total, self._said = done, total, said
        return True

    def payload(self, elapsed_s: float) -> "ProgressUpdate":
        """The payload of ``progress_update`` as of *elapsed_s*."""
        update: ProgressUpdate = {
            "percent": round(100 * self._done / self._total, 1) if self._total else 0.0,
            "done": int(self._done),
            "total": int(self._total),
            "elapsed_s": round(elapsed_s, 3),
            "basis": "declared",
        }
        if self._said:
            update["current"] = self._said
        if self.active and self._steps >= 2:
            spent_s = max(0.0, elapsed_s - self._moved_s)
            guess = self._pace.guess(self._total - self._done, spent_s, self._last_step)
            if guess is not None:
                update["eta_s"], update["eta_range_s"] = guess
        return update


class Turns:
    """Turns taken of those that the agent may take. It may be ready sooner, so the range of the time begins at 0."""

    def __init__(self, limit: int) -> None:
        # given
        self._limit = limit
        # changing
        self._begun = 0
        self._moved_s = 0.0
        self._pace = _Pace()

    @property
    def active(self) -> bool:
        """Whether a turn is under way."""
        return self._begun > 0

    def begin(self, elapsed_s: float) -> bool:
        """The next turn has begun; False beyond the limit."""
        if self._begun >= self._limit:
            return False
        if self._begun:
            self._pace.add(max(0.0, elapsed_s - self._moved_s), 1)
        self._begun += 1
        self._moved_s = elapsed_s
        return True

    def restart(self) -> None:
        """The agent has answered: what it may take counts anew from the next turn on."""
        self._begun = 0

    def payload(self, elapsed_s: float) -> "ProgressUpdate":
        """The payload of ``progress_update`` as of *elapsed_s*; once a turn has begun."""
        done = max(0, self._begun - 1)
        update: ProgressUpdate = {
            "percent": round(100 * done / self._limit, 1),
            "done": done,
            "total": self._limit,
            "elapsed_s": round(elapsed_s, 3),
            "basis": "turns",
            "current": f"turn {self._begun} of at most {self._limit}",
        }
        guess = self._pace.guess(self._limit - done, max(0.0, elapsed_s - self._moved_s))
        if guess is not None:
            update["eta_s"], (_, latest_s) = guess
            update["eta_range_s"] = [0.0, latest_s]
        return update


_BASES = {"plan": "the plan", "declared": "what is declared", "turns": "the turns"}


def went_back(before: "ProgressUpdate", after: "ProgressUpdate") -> str:
    """Why *after* tells less percent than *before*; the empty string when it does not."""
    if after["percent"] >= before["percent"]:
        return ""
    if before["basis"] != after["basis"]:
        return f"{_BASES[after['basis']]} tells it now, {_BASES[before['basis']]} did before"
    if after["basis"] == "plan":
        return _replanned(before, after)
    counts = f"{after['done']} of {after['total']} after {before['done']} of {before['total']}"
    return f"declared anew: {counts}" if after["basis"] == "declared" else f"the turns are counted anew: {counts}"


def _replanned(before: "ProgressUpdate", after: "ProgressUpdate") -> str:
    if not after["total"]:
        return "the plan was emptied"
    if after["done"] == before["done"] and after["total"] > before["total"]:
        return f"the plan grew from {before['total']} to {after['total']} items"
    if after["done"] < before["done"] and after["total"] == before["total"]:
        return f"finished items are open again: {after['done']} of {after['total']} after {before['done']}"
    return (
        f"the plan has changed: {after['done']} of {after['total']} items are done, "
        f"{before['done']} of {before['total']} were"
    )


class _Pace:
    """How long finished items took: as many as there were, in the memory of four numbers."""

    def __init__(self) -> None:
        self._count = 0.0
        self._sum_s = 0.0
        self._fast_s = float("inf")
        self._slow_s = 0.0

    def add(self, took_s: float, items: float) -> None:
        """*items* were finished together in *took_s* seconds."""
        each = took_s / items
        self._sum_s += took_s
        self._count += items
        self._fast_s = min(self._fast_s, each)
        self._slow_s = max(self._slow_s, each)

    def guess(self, remaining: float, spent_s: float, at_once: float = 1) -> tuple[float, list[float]] | None:
        """Seconds until everything is done, and their range, when the present step, of *at_once* items, has taken
        *spent_s* so far; None when nothing honest can be said.
        """
        step = min(remaining, at_once)
        if self._count < 2 or not self._sum_s or spent_s > _STUCK * self._slow_s * step:
            return None
        mean = min(max(self._sum_s / self._count, self._fast_s), self._slow_s)  # rounding may take it beyond
        times = [
            each * (remaining - step) + max(0.0, each * step - spent_s) for each in (self._fast_s, mean, self._slow_s)
        ]
        low, middle, high = (round(time, 1) for time in times)
        return middle, [low, high]
