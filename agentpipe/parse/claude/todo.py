"""The to-do tools of Claude Code as plans: TodoWrite, and TaskCreate / TaskUpdate / TaskList.

The rule this module keeps: a plan changes when its tool has succeeded, not when it was called.
"""

import re
from typing import TypeAlias

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.fields import items, mapping, string
from agentpipe.parse.vocabulary.plans import Plans, step
from agentpipe.progress import Step

__all__ = ["Todo"]

_CREATED = re.compile(r"Task #(\S+) created")
_LISTED = re.compile(r"^#(\S+) \[(\w+)\] (.*)$", re.MULTILINE)

#: The numbered tasks of one scope.
_Tasks: TypeAlias = dict[str, Step]


class Todo:
    """What the to-do tools of one run have made of its *plans*."""

    def __init__(self, plans: Plans) -> None:
        # given
        self._plans = plans
        # changing
        self._tasks: dict[str | None, _Tasks] = {}  # by scope

    def succeeded(
        self, name: str, given: dict[str, JSON], result: JSON, text: str, scope: str | None, at: str
    ) -> list[Draft]:
        """A plan tool has succeeded: the progress when that changed the plan of *scope*.

        *result* is the structured result, or anything else when the source has none; *text* is what the tool said.
        """
        tasks = self._tasks.setdefault(scope, {})
        steps = _STEPS[name](tasks, given, mapping(result), text)
        return self._plans.replaced(steps, scope, at) if steps is not None else []

    def close(self, scope: str) -> None:
        """The sub-agent *scope* has ended: its plan is told no more."""
        self._tasks.pop(scope, None)
        self._plans.close(scope)


def _todos(tasks: _Tasks, given: dict[str, JSON], result: dict[str, JSON], text: str) -> list[Step] | None:  # noqa: ARG001 - one shape for all
    found = items(result.get("newTodos")) or items(given.get("todos"))
    return [_step(todo, "content") for todo in map(mapping, found)]


def _created(tasks: _Tasks, given: dict[str, JSON], result: dict[str, JSON], text: str) -> list[Step] | None:
    number = string(mapping(result.get("task")).get("id"))
    if not number:
        said = _CREATED.match(text)
        if said is None:
            return None
        number = said[1]
    tasks[number] = _step(given, "subject")
    return list(tasks.values())


def _updated(tasks: _Tasks, given: dict[str, JSON], result: dict[str, JSON], text: str) -> list[Step] | None:  # noqa: ARG001 - one shape for all
    number = str(given.get("taskId", ""))
    before = tasks.get(number)
    if result.get("success") is False or not number:
        return None
    before = before or step(f"task {number}")
    new = step(given.get("subject"), given.get("status"), given.get("activeForm"))
    status = new.status if given.get("status") is not None else before.status
    tasks[number] = Step(new.text or before.text, status, new.doing or before.doing)
    return list(tasks.values())


def _listed(tasks: _Tasks, given: dict[str, JSON], result: dict[str, JSON], text: str) -> list[Step] | None:  # noqa: ARG001 - one shape for all
    if type(result.get("tasks")) is list:
        rows = [
            (string(task.get("id")), string(task.get("status")), string(task.get("subject")))
            for task in map(mapping, result["tasks"])
        ]
    else:
        rows = _LISTED.findall(text)
    doing = {number: known.doing for number, known in tasks.items()}
    tasks.clear()
    tasks.update((number, step(subject, status, doing.get(number))) for number, status, subject in rows)
    return list(tasks.values())


def _step(found: dict[str, JSON], field: str) -> Step:
    return step(found.get(field), found.get("status"), found.get("activeForm"))


_STEPS = {"TodoWrite": _todos, "TaskCreate": _created, "TaskUpdate": _updated, "TaskList": _listed}
