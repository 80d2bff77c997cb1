"""Whose a line of a session file is: the main agent's, or that of which sub-agent.

The rules this module keeps: a line with an agent's id is that agent's; without, up to version 1.0, it is its parent
line's; the first line of such a sub-agent has no parent and holds the prompt of the call that started it.
"""

from agentpipe.event import JSON
from agentpipe.parse.claude.launches import Launches
from agentpipe.parse.vocabulary.content import flat
from agentpipe.parse.vocabulary.fields import mapping, string

__all__ = ["Lineage"]

#: Lines of sub-agents remembered by id: a line hangs on one close to it.
_REMEMBERED = 65536


class Lineage:
    """The sub-agents of one session file. ``own`` is the agent whose file it is, empty for the session's own."""

    def __init__(self) -> None:
        self.own = ""
        self.launches = Launches()
        self._scopes: dict[str, str] = {}  # of the lines of sub-agents, by the lines' ids

    def scope_of(self, found: dict[str, JSON]) -> str | None:
        """The call that started the sub-agent of *found*, a line that is a sub-agent's; what stands in for a call that
        is not known is the agent's id, or that of its first line.
        """
        agent = string(found.get("agentId"))
        if agent:
            return None if agent == self.own else self._of_agent(agent, found)
        uuid = string(found.get("uuid"))
        scope = self._scopes.get(string(found.get("parentUuid"))) or self._of_prompt(found) or uuid or "sidechain"
        if uuid:
            self._scopes[uuid] = scope
            if len(self._scopes) > _REMEMBERED:
                del self._scopes[next(iter(self._scopes))]
        return scope

    def _of_agent(self, agent: str, found: dict[str, JSON]) -> str:
        if not self.launches.knows(agent):
            call = self._of_prompt(found)
            if call is not None:
                self.launches.joined(agent, call)
        return self.launches.of_agent(agent, "") if self.launches.knows(agent) else agent

    def _of_prompt(self, found: dict[str, JSON]) -> str | None:
        """The call whose prompt a first line holds."""
        if found.get("parentUuid") is not None or found.get("type") != "user":
            return None
        return self.launches.of_prompt(flat(mapping(found.get("message")).get("content")))
