"""The to-do tools of Claude Code as plans: TodoWrite, and TaskCreate / TaskUpdate / TaskList.

The rules this module keeps: a plan changes when its tool has succeeded, not when it was called; the main agent and each
sub-agent have a plan of their own; and what is told depends on what the source says and when it says it happened, never
on when it was read, because a log that is played again at another pace must give the same numbers.
"""

import re

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft
from agentpipe.parse.content import shortened
from agentpipe.parse.fields import items, mapping, string
from agentpipe.progress import Plan, Step, StepStatus

__all__ = ["Plans"]

_STATUSES: dict[str, StepStatus] = {
    "pending": "pending",
    "in_progress": "in_progress",
    "completed": "completed",
    "cancelled": "cancelled",
    "deleted": "cancelled",
}

#: An item is a line for people.
_ITEM_BYTES = 500

_CREATED = re.compile(r"Task #(\S+) created")
_LISTED = re.compile(r"^#(\S+) \[(\w+)\] (.*)$", re.MULTILINE)


class _Board:
    """The numbered tasks of one scope, and the plan they make."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.tasks: dict[str, Step] = {}
        self.told_s = 0.0  # seconds since the run started


class Plans:
    """All plans of one run. *interval_s* is how often a plan in progress is told anew; 0 only on change."""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        # given
        self._clock = clock
        self._interval_s = interval_s
        # changing
        self._boards: dict[str | None, _Board] = {}
        self.due_s: float | None = (
            None  # when `tick` has something to tell; kept ready, for it is asked with every line
        )

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

    def succeeded(
        self, name: str, given: dict[str, JSON], result: JSON, text: str, scope: str | None, at: str
    ) -> list[Draft]:
        """A plan tool has succeeded: the progress when that changed the plan of *scope*.

        *result* is the structured result, or anything else when the source has none; *text* is what the tool said.
        """
        board = self._boards.get(scope)
        if board is None:
            board = self._boards[scope] = _Board()
        steps = _STEPS[name](board, given, mapping(result), text)
        if steps is None:
            return []
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
        self._boards.clear()
        self._schedule()

    def _schedule(self) -> None:
        """A plan has changed, was told or is gone."""
        told = [board.told_s for board in self._boards.values() if board.plan.active] if self._interval_s else []
        self.due_s = min(told) + self._interval_s if told else None


def _told(scope: str | None, board: _Board, at: str, elapsed_s: float) -> Draft:
    board.told_s = elapsed_s
    return Draft("progress_update", board.plan.payload(elapsed_s), at, scope)


def _todos(board: _Board, given: dict[str, JSON], result: dict[str, JSON], text: str) -> list[Step] | None:  # noqa: ARG001 - one shape for all
    found = items(result.get("newTodos")) or items(given.get("todos"))
    return [_step(todo, "content") for todo in map(mapping, found)]


def _created(board: _Board, given: dict[str, JSON], result: dict[str, JSON], text: str) -> list[Step] | None:
    number = string(mapping(result.get("task")).get("id"))
    if not number:
        said = _CREATED.match(text)
        if said is None:
            return None
        number = said[1]
    board.tasks[number] = _step(given, "subject")
    return list(board.tasks.values())


def _updated(board: _Board, given: dict[str, JSON], result: dict[str, JSON], text: str) -> list[Step] | None:  # noqa: ARG001 - one shape for all
    number = str(given.get("taskId", ""))
    before = board.tasks.get(number)
    if result.get("success") is False or not number:
        return None
    before = before or Step(f"task {number}"[:_ITEM_BYTES], "pending")
    board.tasks[number] = Step(
        _text(given.get("subject")) or before.text,
        _status(given.get("status")) or before.status,
        _text(given.get("activeForm")) or before.doing,
    )
    return list(board.tasks.values())


def _listed(board: _Board, given: dict[str, JSON], result: dict[str, JSON], text: str) -> list[Step] | None:  # noqa: ARG001 - one shape for all
    if type(result.get("tasks")) is list:
        rows = [
            (string(task.get("id")), string(task.get("status")), string(task.get("subject")))
            for task in map(mapping, result["tasks"])
        ]
    else:
        rows = _LISTED.findall(text)
    doing = {number: step.doing for number, step in board.tasks.items()}
    board.tasks = {
        number: Step(_text(subject), _status(status) or "pending", doing.get(number, ""))
        for number, status, subject in rows
    }
    return list(board.tasks.values())


def _step(found: dict[str, JSON], field: str) -> Step:
    return Step(_text(found.get(field)), _status(found.get("status")) or "pending", _text(found.get("activeForm")))


def _text(value: JSON) -> str:
    return shortened(value, _ITEM_BYTES) if type(value) is str and value else ""


def _status(value: JSON) -> StepStatus | None:
    return _STATUSES.get(value) if type(value) is str else None


_STEPS = {"TodoWrite": _todos, "TaskCreate": _created, "TaskUpdate": _updated, "TaskList": _listed}
