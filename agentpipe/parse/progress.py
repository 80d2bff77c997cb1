"""The progress of one run, told by whoever knows it best: the plan, what somebody declared, or the turns.

The rules this module keeps: the main agent and each sub-agent have a progress of their own; while a plan has items it
alone tells its agent's progress, then markers do, and the limit of turns only while there is neither. When nothing is
known nothing is told. Percent that is less than what was told before says why. What is told depends on what the source
says and when it says it happened, never on when it was read.

A marker (`agentpipe.parse.vocabulary.markers`) counts in what an agent says, in a line of plain text or of stderr, and
in what a command that a tool ran gave back: not in a file that was merely read, nor in what was said to the agent.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import msgspec

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment
from agentpipe.parse.vocabulary.markers import declared_in
from agentpipe.progress import Declared, Turns, went_back

if TYPE_CHECKING:
    from agentpipe.payload import ProgressUpdate  # a name for mypy alone: its import is paid at start-up

__all__ = ["Progress", "turn_limit"]

#: How agents call the option that limits their turns.
_LIMIT_OPTIONS = ("--max-turns", "--max-session-turns")

#: A limit beyond this is none, and says nothing about how far a run has come.
_MOST_TURNS = 10_000

#: Sub-agents whose progress is remembered: those that are at work at once are fewer.
_MOST_SCOPES = 200


def turn_limit(command: JSON) -> int | None:
    """How many turns the agent that *command* (an argument list) starts may take, or None when it does not say."""
    words = [word for word in command if type(word) is str] if type(command) is list else []
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in _LIMIT_OPTIONS:
            given = value if equals else "".join(words[index + 1 : index + 2])
            return int(given) if given.isdecimal() and 0 < len(given) < 6 and 0 < int(given) <= _MOST_TURNS else None
    return None


class _Told(msgspec.Struct, gc=False):
    """What is known of the progress of one agent, and what was told last."""

    planned: bool = False  # whether its plan has items
    declared: Declared | None = None
    last: JSON = None  # the payload
    at_s: float = 0.0


class Progress:
    """Looks at the drafts of one run and adds what they tell about its progress. *interval_s* is how often progress
    under way is told anew; 0 only on change.
    """

    def __init__(self, clock: Clock, interval_s: float) -> None:
        # given
        self._clock = clock
        self._interval_s = interval_s
        # changing
        self._told: dict[str | None, _Told] = {}
        self._turns: Turns | None = None
        self._under_way = False  # whether something besides a plan is

    def limit(self, turns: int | None) -> None:
        """The agent may take as many *turns*."""
        self._turns = Turns(turns) if turns is not None else None

    def told(self, drafts: Sequence[Draft], moment: Moment) -> Sequence[Draft]:
        """*drafts* (at least one), with what they tell about the progress after each, and before them what is due by
        the time that ``run`` says.
        """
        if self._under_way and moment.at is not None and self._interval_s and drafts[0].type != "raw":
            return [*self._due(moment.at), *self._looked_at(drafts)]
        return self._looked_at(drafts)

    def _looked_at(self, drafts: Sequence[Draft]) -> Sequence[Draft]:
        """*drafts*, which mostly tell nothing and are handed back as they are."""
        for index, draft in enumerate(drafts):
            kind = draft.type
            more = _READERS[kind](self, draft) if kind in _READERS else None
            if more is not None:
                return [*drafts[:index], *more, *self._looked_at(drafts[index + 1 :])]
        return drafts

    def _of(self, scope: str | None) -> _Told:
        found = self._told.get(scope)
        if found is None:
            found = self._told[scope] = _Told()
            if len(self._told) > _MOST_SCOPES:
                del self._told[next(other for other in self._told if other is not None)]
        return found

    def _planned(self, draft: Draft) -> list[Draft] | None:
        """The plan tells: the draft as it is, or with why it goes back."""
        told = self._of(draft.parent_id)
        payload = draft.payload
        told.planned = bool(payload["total"])
        why = went_back(told.last, cast("ProgressUpdate", payload)) if told.last is not None else ""
        told.last = payload
        return [Draft(draft.type, {**payload, "went_back": why}, draft.at, draft.parent_id)] if why else None

    def _said(self, draft: Draft) -> list[Draft] | None:
        """A text: of the agent, of a plain program, or of stderr."""
        payload = draft.payload
        if payload.get("final") is False or payload.get("role") == "user":
            return None
        return self._declared(draft, payload.get("text", payload.get("message")))

    def _logged(self, draft: Draft) -> list[Draft] | None:
        return self._said(draft) if draft.payload.get("source") == "stderr" else None

    def _returned(self, draft: Draft) -> list[Draft] | None:
        """What a tool gave back; a sub-agent that it was has ended."""
        payload = draft.payload
        if self._told:
            self._told.pop(payload["tool_use_id"], None)
        return self._declared(draft, payload["content"]) if payload["kind"] == "execute" else None

    def _declared(self, draft: Draft, text: JSON) -> list[Draft] | None:
        marker = declared_in(text) if type(text) is str else None
        if marker is None:
            return None
        told = self._of(draft.parent_id)
        declared = told.declared = told.declared or Declared()
        elapsed_s = self._clock.elapsed_s(draft.at)
        if not declared.change(*marker, elapsed_s) or told.planned:
            return None
        return [draft, self._tell(draft.parent_id, told, declared, draft.at, elapsed_s)]

    def _counted(self, draft: Draft) -> list[Draft] | None:
        """The usage of one message of the model: one turn more."""
        if self._turns is None or draft.parent_id is not None or draft.payload["cumulative"]:
            return None
        elapsed_s = self._clock.elapsed_s(draft.at)
        told = self._of(None)
        if not self._turns.begin(elapsed_s) or told.planned or told.declared is not None:
            return None
        return [draft, self._tell(None, told, self._turns, draft.at, elapsed_s)]

    def _answered(self, draft: Draft) -> None:
        """The agent has answered: nothing is under way until the next turn."""
        if self._turns is not None and draft.parent_id is None:
            self._turns.restart()

    def _tell(self, scope: str | None, told: _Told, by: Declared | Turns, at: str, elapsed_s: float) -> Draft:
        payload = by.payload(elapsed_s)
        why = went_back(told.last, payload) if told.last is not None else ""
        if why:
            payload["went_back"] = why
        told.last, told.at_s = payload, elapsed_s
        self._under_way = True
        return Draft("progress_update", payload, at, scope)

    def _due(self, at: str) -> list[Draft]:
        """What is under way and was told long ago, told anew."""
        elapsed_s = self._clock.elapsed_s(at)
        out = []
        for scope, told in self._told.items():
            by = told.declared or (self._turns if scope is None else None)
            if by is not None and by.active and not told.planned and told.at_s + self._interval_s <= elapsed_s:
                out.append(self._tell(scope, told, by, at, elapsed_s))
        return out


_READERS: dict[str, Callable[[Progress, Draft], list[Draft] | None]] = {
    "agent_log_entry": Progress._logged,  # noqa: SLF001 - the class's own table
    "agent_output": Progress._said,  # noqa: SLF001 - the class's own table
    "agent_tool_result": Progress._returned,  # noqa: SLF001 - the class's own table
    "progress_update": Progress._planned,  # noqa: SLF001 - the class's own table
    "run_iteration": Progress._answered,  # noqa: SLF001 - the class's own table
    "usage_update": Progress._counted,  # noqa: SLF001 - the class's own table
}
