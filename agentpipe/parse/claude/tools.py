"""The tools of Claude Code: what kind each is, and how a call reads on one line.

Kinds are those of the Agent Client Protocol; names that were dropped stay in the table, because saved logs have them.
"""

from typing import TYPE_CHECKING

from agentpipe.event import JSON
from agentpipe.parse.vocabulary import titles
from agentpipe.parse.vocabulary.fields import items, mapping, string

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["FILE_TOOLS", "PLAN_TOOLS", "kind_of", "question_of", "title_of"]

#: Tools whose success means that a file was written.
FILE_TOOLS = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})

#: Tools that make or change the to-do list.
PLAN_TOOLS = frozenset({"TodoWrite", "TaskCreate", "TaskUpdate", "TaskList"})

_KINDS: "dict[str, Kind]" = {
    "Agent": "think",
    "AskUserQuestion": "other",
    "Bash": "execute",
    "BashOutput": "execute",
    "Edit": "edit",
    "EnterPlanMode": "think",
    "ExitPlanMode": "think",
    "Glob": "search",
    "Grep": "search",
    "KillBash": "execute",
    "KillShell": "execute",
    "LS": "search",
    "MultiEdit": "edit",
    "NotebookEdit": "edit",
    "NotebookRead": "read",
    "Read": "read",
    "Task": "think",
    "TaskCreate": "think",
    "TaskGet": "think",
    "TaskList": "think",
    "TaskOutput": "execute",
    "TaskStop": "execute",
    "TaskUpdate": "think",
    "TodoRead": "think",
    "TodoWrite": "think",
    "ToolSearch": "search",
    "WebFetch": "fetch",
    "WebSearch": "fetch",
    "Write": "edit",
    "bash_code_execution": "execute",
    "code_execution": "execute",
    "text_editor_code_execution": "edit",
    "tool_search_tool_bm25": "search",
    "tool_search_tool_regex": "search",
    "web_fetch": "fetch",
    "web_search": "fetch",
}


def kind_of(name: str) -> "Kind":
    """The kind of the tool called *name*; ``other`` for one that is not known."""
    return _KINDS.get(name, "other")


def title_of(name: str, given: dict[str, JSON]) -> str:
    """One line for people, such as ``Bash: pytest -q``."""
    if name == "TodoWrite":
        todos = given.get("todos")
        return titles.title_of(name, given, f"{len(todos)} items" if type(todos) is list else "")
    if name == "TaskUpdate":
        return titles.title_of(name, given, f"#{given.get('taskId')} {string(given.get('status'))}".strip())
    if name == "AskUserQuestion":
        return titles.title_of(name, given, question_of(given))
    return titles.title_of(_shown_name(name) if name.startswith("mcp__") else name, given)


def question_of(given: dict[str, JSON]) -> str:
    """The first question that ``AskUserQuestion`` asks."""
    return next((string(mapping(asked).get("question")) for asked in items(given.get("questions"))), "")


def _shown_name(name: str) -> str:
    """``mcp__server__tool`` as ``server/tool``."""
    return name[5:].replace("__", "/", 1)
