"""Which call started which sub-agent, where no line says so by itself.

The rule this module keeps: a sub-agent belongs to a call only when that is known: the call's result names the agent,
its prompt is the agent's first text, or it is the only call left that can have started an agent of this kind. Else the
agent's own id stands in, so that what it does is never taken for the main agent's.
"""

from agentpipe.event import JSON
from agentpipe.parse.vocabulary.fields import string

__all__ = ["LAUNCHERS", "Launches"]

#: Tools that start a sub-agent: the old name and the new one.
LAUNCHERS = frozenset({"Agent", "Task"})

_DEFAULT_KIND = "general-purpose"


class Launches:
    """The calls of one run that start sub-agents, and the agents that are known by their ids."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}  # calls whose agent is not known yet: the kind it has, by tool-use id
        self._agents: dict[str, str] = {}  # the call of each agent, by the agent's id
        self._prompts: dict[str, list[str]] = {}  # calls whose agent's first text was not met, by prompt

    def called(self, tool_use_id: str, given: dict[str, JSON]) -> None:
        """A call that starts a sub-agent was made with *given*."""
        self._waiting[tool_use_id] = string(given.get("subagent_type")) or _DEFAULT_KIND
        self._prompts.setdefault(string(given.get("prompt")), []).append(tool_use_id)

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
        calls = self._prompts.get(prompt)
        return calls.pop(0) if calls else None

    def knows(self, agent_id: str) -> bool:
        """Whether the call that started the agent is known."""
        return agent_id in self._agents

    def joined(self, agent_id: str, tool_use_id: str) -> None:
        """The agent is known to be of the call."""
        self._agents[agent_id] = tool_use_id
        self._waiting.pop(tool_use_id, None)

    def _only(self, kind: str) -> str | None:
        """The one call that can have started an agent of this *kind*."""
        same = [tool_use_id for tool_use_id, wanted in self._waiting.items() if wanted == kind]
        found = same or list(self._waiting)
        return found[0] if len(found) == 1 else None
