"""The tools of Claude Code: what kind each is, and how a call reads on one line.

Kinds are those of the Agent Client Protocol; names that were dropped stay in the table, because saved logs have them.
"""

from typing import TYPE_CHECKING

from agentpipe.event import JSON
from agentpipe.parse.fields import mapping, string

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["FILE_TOOLS", "PLAN_TOOLS", "kind_of", "title_of"]

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

#: The field of a tool's input that tells a person most, the first that is there.
_TELLING = (
    "command", "file_path", "notebook_path", "pattern", "url", "query", "description", "subject", "skill",
    "path", "task_id", "taskId", "shell_id", "bash_id", "prompt", "question", "plan", "code",
)  # fmt: skip

#: A title is one line in a list; longer ones are cut.
_TITLE_CHARACTERS = 120


def kind_of(name: str) -> "Kind":
    """The kind of the tool called *name*; ``other`` for one that is not known."""
    return _KINDS.get(name, "other")


def title_of(name: str, given: dict[str, JSON]) -> str:
    """One line for people, such as ``Bash: pytest -q``."""
    shown = _shown_name(name) if name.startswith("mcp__") else name
    telling = _telling(name, given)
    return f"{shown}: {telling}" if telling else shown


def _shown_name(name: str) -> str:
    """``mcp__server__tool`` as ``server/tool``."""
    return name[5:].replace("__", "/", 1)


def _telling(name: str, given: dict[str, JSON]) -> str:
    if name == "TodoWrite":
        todos = given.get("todos")
        return f"{len(todos)} items" if type(todos) is list else ""
    if name == "TaskUpdate":
        return f"#{given.get('taskId')} {string(given.get('status'))}".strip()
    for field in _TELLING:
        if field in given and type(given[field]) is str and given[field]:
            return _one_line(given[field])
    return _one_line(next((string(value) for value in mapping(given).values() if string(value)), ""))


def _one_line(text: str) -> str:
    if len(text) > 4 * _TITLE_CHARACTERS:
        text = text[: 4 * _TITLE_CHARACTERS]
    line = " ".join(text.split())
    return line if len(line) <= _TITLE_CHARACTERS else line[: _TITLE_CHARACTERS - 1] + "…"
