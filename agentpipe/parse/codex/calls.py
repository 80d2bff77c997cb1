"""Calls as a rollout of Codex keeps them, as acts: functions by name with JSON in a text, custom tools with a raw text.

The rule this module keeps: a shell command that is an ``apply_patch`` is an edit, as the stream of ``exec`` tells it.
"""

from collections.abc import Callable

from agentpipe.event import JSON
from agentpipe.parse.agents.apply_patch import patched, scripted
from agentpipe.parse.codex.acts import Act, kind_of, mcp_act
from agentpipe.parse.codex.words import as_object, search_text, steps_of, unwrapped
from agentpipe.parse.vocabulary.fields import items, mapping, string

__all__ = ["ACTS", "search_act"]


def _function_act(found: dict[str, JSON], cwd: str) -> Act:
    """A ``function_call``; its arguments may be no JSON (public logs are redacted)."""
    name, given = string(found.get("name")) or "unknown", as_object(found.get("arguments"))
    space = string(found.get("namespace"))
    if space.startswith("mcp__") or name.startswith("mcp__"):
        server, _, tool = (f"{space}__{name}" if space else name)[5:].partition("__")
        return mcp_act(server, tool, given)
    if name == "apply_patch":
        text = string(given.get("input")) or string(given.get("patch")) or string(found.get("arguments"))
        return Act(name, given, edits=patched(text, cwd))
    if name == "update_plan":
        return Act(name, given, f"{len(items(given.get('plan')))} items", steps=steps_of(given.get("plan")))
    if kind_of(name) == "execute" and ("command" in given or "cmd" in given):
        command = given.get("command", given.get("cmd"))
        base = string(given.get("workdir")) or cwd
        return Act(name, given, unwrapped(command), edits=scripted(command, base))
    return Act(name, given, string(given.get("message")) or None, background=name == "spawn_agent")


def _custom_act(found: dict[str, JSON], cwd: str) -> Act:
    """A ``custom_tool_call``, whose input is a text of the tool's own."""
    name, text = string(found.get("name")) or "unknown", string(found.get("input"))
    return Act(name, {"input": text}, edits=patched(text, cwd) if name == "apply_patch" else ())


def _shell_act(found: dict[str, JSON], cwd: str) -> Act:
    """A ``local_shell_call``."""
    action = mapping(found.get("action"))
    command = action.get("command")
    base = string(action.get("working_directory")) or cwd
    return Act("local_shell", action, unwrapped(command), edits=scripted(command, base))


def search_act(found: dict[str, JSON]) -> Act:
    """A ``web_search_call``."""
    return Act("web_search", mapping(found.get("action")), search_text(found), "Web search")


def _tool_search_act(found: dict[str, JSON], cwd: str) -> Act:  # noqa: ARG001 - one shape for all
    """A ``tool_search_call``."""
    given = mapping(found.get("arguments"))
    return Act("tool_search", given, string(given.get("query")) or None)


#: The items that are calls with a result of their own, and what each does in the folder *cwd*.
ACTS: dict[str, Callable[[dict[str, JSON], str], Act]] = {
    "custom_tool_call": _custom_act,
    "function_call": _function_act,
    "local_shell_call": _shell_act,
    "tool_search_call": _tool_search_act,
}
