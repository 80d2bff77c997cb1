"""Plans and to-do lists as progress, whatever tool the agent keeps them with.

The rules this module keeps: the main agent and each sub-agent have a plan of their own; what is told depends on what
the source says and when it says it happened, never on when it was read, because a log that is played again at another
pace must give the same numbers.
"""

from collections.abc import Sequence

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft
from agentpipe.parse.vocabulary.content import shortened
from agentpipe.progress import Plan, Step, StepStatus

__all__ = ["Plans", "step"]

_STATUSES: dict[str, StepStatus] = {
    "pending": "pending",
    "not_started": "pending",
    "todo": "pending",
    "in_progress": "in_progress",
    "inprogress": "in_progress",
    "active": "in_progress",
    "completed": "completed",
    "done": "completed",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "deleted": "cancelled",
}

#: An item is a line for people.
_ITEM_BYTES = 500


def step(text: JSON, status: JSON = None, doing: JSON = None) -> Step:
    """An item of a plan as an agent words it; a status that is not known is ``pending``."""
    known = _STATUSES.get(status.lower()) if type(status) is str else None
    return Step(_short(text), known or "pending", _short(doing))


def _short(value: JSON) -> str:
    return shortened(value, _ITEM_BYTES) if type(value) is str and value else ""


class _Board:
    """The plan of one scope and when it was told."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.told_s = 0.0  # seconds since the run started


class Plans:
    """All plans of one run. *interval_s* is how often a plan in progress is told anew; 0 only on change."""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        # given
        self._clock = clock
        self._interval_s = interval_s
        # changing
        self._boards: dict[str | None, _Board] = {}
        self.due_s: float | None = None  # when `tick` has something to tell; kept ready, for every line asks

    def tick(self, at: str) -> list[Draft]:
        """Tell the plans whose interval has passed at the source's own time *at*."""
        elapsed_s = self._clock.elapsed_s(at)
        if self.due_s is None or elapsed_s < self.due_s:
            return []
        out = [
            _told(scope, board, at, elapsed_s)
            for scope, board in self._boards.items()
            if board.plan.active and board.told_s + self._interval_s <= elapsed_s
        ]
        self._schedule()
        return out

    def replaced(self, steps: Sequence[Step], scope: str | None, at: str) -> list[Draft]:
        """The plan of *scope* is *steps* now: the progress, when that changed it."""
        board = self._boards.get(scope)
        if board is None:
            board = self._boards[scope] = _Board()
        elapsed_s = self._clock.elapsed_s(at)
        if not board.plan.change(steps, elapsed_s):
            return []
        draft = _told(scope, board, at, elapsed_s)
        self._schedule()
        return [draft]

    def close(self, scope: str | None) -> None:
        """The sub-agent *scope* has ended: its plan is told no more."""
        if scope is not None and self._boards.pop(scope, None) is not None:
            self._schedule()

    def close_all(self) -> None:
        """The run has ended."""
        if self._boards:
            self._boards.clear()
            self._schedule()

    def _schedule(self) -> None:
        """A plan has changed, was told or is gone."""
        told = [board.told_s for board in self._boards.values() if board.plan.active] if self._interval_s else []
        self.due_s = min(told) + self._interval_s if told else None


def _told(scope: str | None, board: _Board, at: str, elapsed_s: float) -> Draft:
    board.told_s = elapsed_s
    return Draft("progress_update", board.plan.payload(elapsed_s), at, scope)
