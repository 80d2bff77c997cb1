"""Which payload of a hook belongs to which call.

The rules this module keeps: a call is told once and answered once, however often a hook is configured. Old payloads
have no ``tool_use_id``: such a call gets an id by its place among the payloads, and is answered by the first result
that names the same tool with the same input; failing that, by the only one of its tool that is open.
"""

from typing import NamedTuple

from agentpipe.event import JSON

__all__ = ["Pairs"]

#: Calls remembered by id: a session may last for days, and what repeats comes close together.
_REMEMBERED = 4096


class _Nameless(NamedTuple):
    tool_use_id: str
    name: str
    given: dict[str, JSON]


class Pairs:
    """The calls of one session of hooks."""

    def __init__(self) -> None:
        self._answered: dict[str, bool] = {}  # whether each call has its result, by id
        self._nameless: list[_Nameless] = []  # calls without an id that are open, in their order
        self._made = 0

    def is_answered(self, tool_use_id: str) -> bool:
        """Whether the result of the call was told."""
        return self._answered.get(tool_use_id, False)

    def called(self, tool_use_id: str, name: str, given: dict[str, JSON]) -> str:
        """The id of a call, made up when *tool_use_id* is empty; empty when the call was told already."""
        if not tool_use_id:
            tool_use_id = self._new()
            self._nameless.append(_Nameless(tool_use_id, name, given))
        elif tool_use_id in self._answered:
            return ""
        self._note(tool_use_id, answered=False)
        return tool_use_id

    def answered(self, tool_use_id: str, name: str, given: dict[str, JSON]) -> tuple[str, bool | None]:
        """The id of the call that has a result, and whether the call was told; None when the result was told too."""
        if not tool_use_id:
            tool_use_id = self._take(name, given)
        known = self._answered.get(tool_use_id)
        self._note(tool_use_id or self._new(), answered=True)
        if not tool_use_id:
            return next(reversed(self._answered)), False
        return tool_use_id, None if known else known is not None

    def forget(self) -> None:
        """The turn has ended: what has no id and no result by now failed, which old versions do not tell."""
        self._nameless.clear()

    def _take(self, name: str, given: dict[str, JSON]) -> str:
        """The open call without an id that has this result; empty when there is none."""
        same = [call for call in self._nameless if call.name == name]
        found = next((call for call in same if call.given == given), same[0] if len(same) == 1 else None)
        if found is None:
            return ""
        self._nameless.remove(found)
        return found.tool_use_id

    def _note(self, tool_use_id: str, *, answered: bool) -> None:
        self._answered.pop(tool_use_id, None)
        self._answered[tool_use_id] = answered
        if len(self._answered) > _REMEMBERED:
            del self._answered[next(iter(self._answered))]

    def _new(self) -> str:
        self._made += 1
        return f"call-{self._made}"
