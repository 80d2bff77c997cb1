"""What Codex does, told alike whichever of its formats says it: commands, edits, plans, MCP tools, sub-agents.

The rules this module keeps: a result whose call was never told brings its call with it (old versions tell only what is
finished); what a call changes (files, the plan) is told right after its result, and only when it succeeded.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft, Whole
from agentpipe.parse.agents.apply_patch import Edit, drafts_of, told_paths
from agentpipe.parse.vocabulary.calls import Calls
from agentpipe.parse.vocabulary.plans import Plans
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.titles import title_of
from agentpipe.progress import Step

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["Act", "Acts", "kind_of", "mcp_act"]

_KINDS: "dict[str, Kind]" = {
    "apply_patch": "edit",
    "close_agent": "think",
    "command_execution": "execute",
    "container.exec": "execute",
    "exec": "execute",
    "exec_command": "execute",
    "file_change": "edit",
    "grep_files": "search",
    "image_view": "read",
    "interrupt_agent": "think",
    "list_agents": "think",
    "list_dir": "search",
    "list_mcp_resource_templates": "search",
    "list_mcp_resources": "search",
    "local_shell": "execute",
    "read_file": "read",
    "read_mcp_resource": "read",
    "resume_agent": "think",
    "send_input": "think",
    "send_message": "think",
    "shell": "execute",
    "shell_command": "execute",
    "spawn_agent": "think",
    "tool_search": "search",
    "unified_exec": "execute",
    "update_plan": "think",
    "view_image": "read",
    "wait": "think",
    "wait_agent": "think",
    "web_search": "fetch",
    "write_stdin": "execute",
}

#: How tools are called in a title, where that is not their name.
_SHOWN = {"command_execution": "Shell", "exec_command": "Shell", "local_shell": "Shell", "shell": "Shell",
          "shell_command": "Shell", "unified_exec": "Shell", "container.exec": "Shell"}  # fmt: skip


def kind_of(name: str) -> "Kind":
    """The kind of the tool called *name*; ``other`` for one that is not known."""
    return _KINDS.get(name, "other")


class Act(msgspec.Struct, gc=False):
    """A call as its source tells it. *telling* is what its title says beside the tool's name, None to find that in the
    input; *edits* and *steps* are what it changes if it succeeds.
    """

    name: str
    input: dict[str, JSON]
    telling: str | None = None
    shown: str = ""
    edits: Sequence[Edit] = ()
    steps: Sequence[Step] | None = None
    background: bool = False


def mcp_act(server: str, tool: str, given: dict[str, JSON]) -> Act:
    """A call of a tool of an MCP server."""
    return Act(f"mcp__{server}__{tool}", given, shown=f"{server}/{tool}")


class Acts:
    """The acts of one run."""

    def __init__(self, calls: Calls, plans: Plans, limit: int) -> None:
        # given
        self._calls = calls
        self._plans = plans
        self._limit = limit
        # changing
        self._open: dict[str, Act] = {}

    def act_of(self, call_id: str) -> Act | None:
        """The open call *call_id*."""
        return self._open.get(call_id)

    def called(self, stamp: Stamp, call_id: str, act: Act) -> Draft:
        """The agent does *act*."""
        kind, shown, telling = kind_of(act.name), act.shown or _SHOWN.get(act.name, act.name), act.telling
        if act.edits:
            kind = "delete" if all(edit.change == "deleted" for edit in act.edits) else "edit"
            shown, telling = ("Delete" if kind == "delete" else "Edit"), told_paths(act.edits)
        self._open[call_id] = act
        title = title_of(shown, act.input, telling)
        return self._calls.call(stamp, call_id, act.name, kind, title, act.input, background=act.background)

    def returned(
        self,
        stamp: Stamp,
        call_id: str,
        text: str,
        act: Act | None = None,
        *,
        ok: bool,
        exit_code: int | None = None,
        duration_ms: int | None = None,
        detail: Mapping[str, JSON] | None = None,
        whole: Sequence[Whole] = (),
        failed: str = "",
    ) -> list[Draft]:
        """What *call_id* gave back. *act* is the call as the result's own line tells it, if it does."""
        out: list[Draft] = []
        if call_id not in self._calls and act is not None:
            out.append(self.called(stamp, call_id, act))
        told = self._open.pop(call_id, None)
        done = act if act is not None and (act.edits or act.steps is not None) else told
        out += self._calls.result(
            stamp,
            call_id,
            self._calls.take(call_id, stamp),
            text,
            ok=ok,
            exit_code=exit_code,
            duration_ms=duration_ms,
            detail=detail,
            whole=whole,
            failed=failed,
        )
        if ok and done is not None:
            out += drafts_of(done.edits, call_id, self._limit, stamp)
            if done.steps is not None:
                out += self._plans.replaced(done.steps, stamp.scope, stamp.at)
        return out
