"""The tools of Gemini CLI and of Qwen Code, which grew from it: kinds, titles, what a success changes.

The rule this module keeps: only a call that succeeded changes a file or a plan. What was written is taken from the
diff that the tool shows where the source has one, else from the call's own input.
"""

import re
from typing import TYPE_CHECKING

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary import titles
from agentpipe.parse.vocabulary.calls import Call
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.files import FilesMet, changed, counted, edited, lines_of
from agentpipe.parse.vocabulary.plans import Plans, step
from agentpipe.parse.vocabulary.stamp import Stamp

if TYPE_CHECKING:
    from agentpipe.payload import Change, Kind  # names for mypy alone: their import is paid at start-up

__all__ = ["CANCELLED", "Effects", "exit_code_of", "keeps_input", "kind_of", "title_of"]

#: What the program says in place of a result when the user broke a call off; its status may still be ``success``.
CANCELLED = "[Operation Cancelled]"

_WRITES = frozenset({"write_file"})
_EDITS = frozenset({"edit", "replace"})
_READS = frozenset({"read_file"})
_TODOS = frozenset({"todo_write", "write_todos"})
_SHELLS = frozenset({"run_shell_command"})

_KINDS: "dict[str, Kind]" = {
    "activate_skill": "other",
    "agent": "think",
    "ask_user": "other",
    "ask_user_question": "other",
    "cli_help": "search",
    "codebase_investigator": "think",
    "complete_task": "think",
    "delegate_to_agent": "think",
    "edit": "edit",
    "enter_plan_mode": "think",
    "exit_plan_mode": "think",
    "get_internal_docs": "read",
    "glob": "search",
    "google_web_search": "fetch",
    "grep_search": "search",
    "invoke_agent": "think",
    "list_background_processes": "execute",
    "list_directory": "search",
    "monitor": "execute",
    "notebook_edit": "edit",
    "read_background_output": "execute",
    "read_file": "read",
    "read_many_files": "read",
    "replace": "edit",
    "run_shell_command": "execute",
    "save_memory": "think",
    "search_file_content": "search",
    "send_message": "think",
    "skill": "other",
    "task": "think",
    "task_stop": "execute",
    "todo_write": "think",
    "tool_search": "search",
    "update_topic": "think",
    "web_fetch": "fetch",
    "web_search": "fetch",
    "write_file": "edit",
    "write_todos": "think",
}

#: The shell tool's own words: alone when the command printed nothing, or a line of its report to the model, where the
#: command's output comes before it.
_EXIT_CODE = re.compile(r"^(?:Command exited with code|Exit Code): (\d{1,9})$", re.MULTILINE)


def kind_of(name: str) -> "Kind":
    """The kind of the tool called *name*; ``other`` for one that is not known."""
    return _KINDS.get(name, "other")


def title_of(name: str, given: dict[str, JSON]) -> str:
    """One line for people, such as ``run_shell_command: pytest -q``."""
    if name in _TODOS:
        return titles.title_of(name, given, f"{len(items(given.get('todos')))} items")
    shown = name[5:].replace("__", "/", 1) if name.startswith("mcp__") else name
    return titles.title_of(shown, given)


def keeps_input(name: str) -> bool:
    """Whether what a result means depends on the call's input."""
    return name in _WRITES or name in _EDITS or name in _TODOS or name in _READS


def exit_code_of(name: str, text: str) -> int | None:
    """The exit status that the shell tool's *text* tells, if it does: the last one, for a command may print such a
    line itself.
    """
    if name not in _SHELLS or "code" not in text.lower():
        return None
    found = _EXIT_CODE.findall(text)
    return int(found[-1]) if found else None


class Effects:
    """What the successful calls of one run have changed. *limit* bounds a patch in bytes."""

    def __init__(self, plans: Plans, limit: int) -> None:
        # given
        self._plans = plans
        self._limit = limit
        # changing
        self._met = FilesMet()

    def of(self, stamp: Stamp, tool_use_id: str, call: Call, text: str, shown: JSON = None) -> list[Draft]:
        """*call* succeeded and said *text*; *shown* is what the tool displays, when the source has it."""
        if call.input is None:
            return []
        if call.name in _TODOS:
            steps = [
                step(todo.get("content") or todo.get("description"), todo.get("status"))
                for todo in map(mapping, items(call.input.get("todos")))
            ]
            return self._plans.replaced(steps, stamp.scope, stamp.at)
        path = string(call.input.get("file_path")) or string(call.input.get("absolute_path"))
        if not path:
            return []
        met = self._met.meet(path)
        if call.name in _READS:
            return []
        display = mapping(shown)
        change = _change(call, text, display, met)
        diff = string(display.get("fileDiff")) if display.get("fileDiffTruncated") is not True else ""
        counts = counted(diff) if diff else _told(mapping(display.get("diffStat"))) or _counts(call, change)
        patch = diff[diff.find("@@") :] if "@@" in diff else ""
        return [changed(stamp, path, change, tool_use_id, counts=counts, patch=patch, limit=self._limit)]


def _change(call: Call, text: str, display: dict[str, JSON], met: bool) -> "Change":
    """The tool says whether a file is new, in one of three ways; the stream of Gemini CLI says nothing, so there a
    whole file is new when the run has not met it before.
    """
    given = mapping(call.input)
    if type(display.get("isNewFile")) is bool:
        return "created" if display["isNewFile"] else "modified"
    if "originalContent" in display:
        return "modified" if display["originalContent"] else "created"
    if call.name in _EDITS:
        return "created" if given.get("old_string") == "" else "modified"
    if text:
        return "created" if text.startswith("Successfully created") else "modified"
    return "modified" if met else "created"


def _told(stat: dict[str, JSON]) -> tuple[int, int] | None:
    """Lines added and removed as the tool counts them: the model's, and what the user changed in them."""
    numbers = [[whole(stat.get(f"{who}_{way}_lines")) for who in ("model", "user")] for way in ("added", "removed")]
    added, removed = ([number for number in row if number is not None] for row in numbers)
    return (sum(added), sum(removed)) if added and removed else None


def _counts(call: Call, change: "Change") -> tuple[int, int] | None:
    """Lines added and removed as the input tells them; None when it does not."""
    given = mapping(call.input)
    if call.name in _WRITES:
        return (len(lines_of(string(given.get("content")))), 0) if change == "created" else None
    several = given.get("replace_all") is True or given.get("allow_multiple") is True
    if several or (whole(given.get("expected_replacements")) or 1) > 1:
        return None
    return edited(string(given.get("old_string")), string(given.get("new_string")))
