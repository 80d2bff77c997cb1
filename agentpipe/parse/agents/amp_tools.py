"""The tools of Amp: kinds, titles, and what their results mean.

The rule this module keeps: results that are JSON in a text are read for what a person would see; what is not there is
not made up. Field names of several versions stand side by side.
"""

from typing import TYPE_CHECKING

from agentpipe.event import JSON, decode
from agentpipe.parse.adapter import Draft
from agentpipe.parse.agents.apply_patch import drafts_of, patched
from agentpipe.parse.vocabulary import titles
from agentpipe.parse.vocabulary.calls import Call
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.files import changed, counted, edited, lines_of
from agentpipe.parse.vocabulary.plans import Plans, step
from agentpipe.parse.vocabulary.stamp import Stamp

if TYPE_CHECKING:
    from agentpipe.payload import Change, Kind  # names for mypy alone: their import is paid at start-up

__all__ = ["Ended", "command_ended", "effects_of", "keeps_input", "kind_of", "title_of"]

#: A command's exit status and what it printed.
Ended = tuple[int, str]

_SHELLS = frozenset({"Bash", "shell_command", "shell_command_status"})
_FILES = frozenset({"apply_patch", "create_file", "delete_file", "edit_file"})

_KINDS: "dict[str, Kind]" = {
    "Bash": "execute",
    "Grep": "search",
    "Read": "read",
    "Task": "think",
    "apply_patch": "edit",
    "chart": "other",
    "codebase_search_agent": "search",
    "create_file": "edit",
    "delete_file": "delete",
    "edit_file": "edit",
    "find_thread": "search",
    "finder": "search",
    "format_file": "edit",
    "get_diagnostics": "read",
    "glob": "search",
    "grep": "search",
    "handoff": "other",
    "librarian": "search",
    "list_directory": "search",
    "look_at": "read",
    "mermaid": "other",
    "oracle": "think",
    "painter": "other",
    "read": "read",
    "read_mcp_resource": "read",
    "read_thread": "read",
    "read_web_page": "fetch",
    "shell_command": "execute",
    "shell_command_status": "execute",
    "skill": "other",
    "task_list": "think",
    "todo_read": "think",
    "todo_write": "think",
    "undo_edit": "edit",
    "view_media": "read",
    "web_search": "fetch",
}


def kind_of(name: str) -> "Kind":
    """The kind of the tool called *name*; ``other`` for one that is not known."""
    return _KINDS.get(name, "other")


def title_of(name: str, given: dict[str, JSON]) -> str:
    """One line for people, such as ``Bash: pytest -q``."""
    if name == "todo_write":
        return titles.title_of(name, given, f"{len(items(given.get('todos')))} items")
    shown = name[5:].replace("__", "/", 1) if name.startswith("mcp__") else name
    return titles.title_of(shown, given)


def keeps_input(name: str) -> bool:
    """Whether what a result means depends on the call's input."""
    return name in _FILES or name == "todo_write"


def command_ended(name: str, text: str) -> Ended | None:
    """The exit status and the output of a command, when its result *text* tells them as JSON; else None."""
    if name not in _SHELLS or not text.startswith("{"):
        return None
    found = _object(text)
    status = whole(found.get("exitCode"))
    if status is None:
        return None
    printed = [string(found.get(field)) for field in ("output", "stdout", "stderr")]
    return status, "".join(printed)


def effects_of(stamp: Stamp, tool_use_id: str, call: Call, text: str, plans: Plans, limit: int) -> list[Draft]:
    """What a call that went well has changed."""
    given = call.input
    if given is None:
        return []
    if call.name == "todo_write":
        todos = map(mapping, items(given.get("todos")))
        return plans.replaced([step(todo.get("content"), _status(todo)) for todo in todos], stamp.scope, stamp.at)
    if call.name == "apply_patch":
        patch = next((value for value in given.values() if "*** Begin Patch" in string(value)), "")
        return drafts_of(patched(patch), tool_use_id, limit, stamp)
    path = string(given.get("path")) or string(given.get("filePath")) or string(given.get("file_path"))
    if not path:
        return []
    change, counts, patch = _changed(call.name, given, text)
    return [changed(stamp, path, change, tool_use_id, counts=counts, patch=patch, limit=limit)]


def _changed(name: str, given: dict[str, JSON], text: str) -> "tuple[Change, tuple[int, int] | None, str]":
    if name == "delete_file":
        return "deleted", None, ""
    if name == "create_file":
        return "created", (len(lines_of(string(given.get("content")))), 0), ""
    diff = _diff_in(text)
    if diff:
        return "modified", counted(diff), diff
    if given.get("replace_all") is True:
        return "modified", None, ""
    old = string(given.get("old_str")) or string(given.get("oldString"))
    return "modified", edited(old, string(given.get("new_str")) or string(given.get("newString"))), ""


def _diff_in(text: str) -> str:
    """The hunks of the unified diff that an edit shows, fenced or in JSON."""
    if text.startswith("{"):
        text = string(_object(text).get("diff"))
    start = text.find("\n@@ -") + 1 if "\n@@ -" in text else 0
    if not text.startswith("@@ -", start):
        return ""
    return text[start:].split("\n```", 1)[0]


def _status(todo: dict[str, JSON]) -> JSON:
    status = todo.get("status")
    return status.replace("-", "_") if type(status) is str else status


def _object(text: str) -> dict[str, JSON]:
    try:
        return mapping(decode(text.encode("utf-8", "surrogatepass")))
    except ValueError:
        return {}
