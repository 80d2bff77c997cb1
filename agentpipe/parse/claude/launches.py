"""Which call started which sub-agent, where no line says so by itself.

The rule this module keeps: a sub-agent belongs to a call only when that is known: the call's result names the agent,
its prompt is the agent's first text, or it is the only call left that can have started an agent of this kind. Else the
agent's own id stands in, so that what it does is never taken for the main agent's.
"""

import msgspec

from agentpipe.event import JSON
from agentpipe.parse.vocabulary.fields import string

__all__ = ["LAUNCHERS", "Launches"]

#: Tools that start a sub-agent: the old name and the new one.
LAUNCHERS = frozenset({"Agent", "Task"})

_DEFAULT_KIND = "general-purpose"


class _Launch(msgspec.Struct, gc=False):
    kind: str
    prompt: str


class Launches:
    """The calls of one run that start sub-agents, and the agents that are known by their ids."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Launch] = {}  # calls whose agent is not known yet, by tool-use id, in their order
        self._agents: dict[str, str] = {}  # the call of each agent, by the agent's id

    def called(self, tool_use_id: str, given: dict[str, JSON]) -> None:
        """A call that starts a sub-agent was made with *given*."""
        kind = string(given.get("subagent_type")) or _DEFAULT_KIND
        self._waiting[tool_use_id] = _Launch(kind, string(given.get("prompt")))

    def answered(self, tool_use_id: str, agent_id: str) -> None:
        """The call has a result, which names the agent unless *agent_id* is empty."""
        self._waiting.pop(tool_use_id, None)
        if agent_id:
            self._agents[agent_id] = tool_use_id

    def of_agent(self, agent_id: str, kind: str) -> str:
        """The call that started the agent of this *kind*; the agent's own id while that is not known."""
        known = self._agents.get(agent_id)
        if known is None:
            known = self._only(kind)
            if known is None:
                return agent_id
            self._agents[agent_id] = known
            del self._waiting[known]
        return known

    def of_prompt(self, prompt: str) -> str | None:
        """The oldest call whose prompt this is, which has its agent by that; None when there is none."""
        for tool_use_id, launch in self._waiting.items():
            if launch.prompt == prompt:
                del self._waiting[tool_use_id]
                return tool_use_id
        return None

    def _only(self, kind: str) -> str | None:
        """The one call that can have started an agent of this *kind*."""
        same = [tool_use_id for tool_use_id, launch in self._waiting.items() if launch.kind == kind]
        found = same or list(self._waiting)
        return found[0] if len(found) == 1 else None
