"""The tools of the Copilot CLI: what kind each is, which file it changed, what its result says of a command's end.

The rule this module keeps: only what a successful call of a file tool wrote is told; ``view`` shows a file as a diff
as well, and changes nothing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.fields import string
from agentpipe.parse.vocabulary.files import changed, counted, edited, lines_of
from agentpipe.parse.vocabulary.stamp import Stamp

if TYPE_CHECKING:
    from agentpipe.payload import Change, Kind  # names for mypy alone: their import is paid at start-up

__all__ = ["FILE_TOOLS", "TODO_TOOLS", "exit_code_of", "files_of", "kind_of"]

#: Tools whose success means that a file was written.
FILE_TOOLS = frozenset({"apply_patch", "create", "edit", "insert", "str_replace", "str_replace_editor"})

#: The to-do list, a text of Markdown check boxes.
TODO_TOOLS = frozenset({"update_todo"})

_KINDS: "dict[str, Kind]" = {
    "apply_patch": "edit",
    "bash": "execute",
    "create": "edit",
    "edit": "edit",
    "fetch_copilot_cli_documentation": "fetch",
    "glob": "search",
    "grep": "search",
    "insert": "edit",
    "list_bash": "execute",
    "list_powershell": "execute",
    "powershell": "execute",
    "read_bash": "execute",
    "read_powershell": "execute",
    "report_intent": "think",
    "rg": "search",
    "stop_bash": "execute",
    "stop_powershell": "execute",
    "str_replace": "edit",
    "str_replace_editor": "edit",
    "task": "think",
    "task_complete": "think",
    "update_todo": "think",
    "view": "read",
    "web_fetch": "fetch",
    "web_search": "fetch",
    "write_bash": "execute",
    "write_powershell": "execute",
}

_EXIT = "exit code "

#: ``<exited with exit code 1>`` is the last thing that a shell tool says; what is looked at, in characters.
_TAIL_CHARACTERS = 80

_PATCH_HEADS: "dict[str, Change]" = {
    "*** Add File: ": "created",
    "*** Update File: ": "modified",
    "*** Delete File: ": "deleted",
}
_PATCH_MOVE = "*** Move to: "


def kind_of(name: str) -> "Kind":
    """The kind of the tool called *name*; ``other`` for one that is not known."""
    return _KINDS.get(name, "other")


def exit_code_of(kind: str, text: str) -> int | None:
    """The status of a command, which its result says in its last line."""
    if kind != "execute" or not text.rstrip().endswith(">"):
        return None
    tail = text.rstrip()[-_TAIL_CHARACTERS:-1]
    place = tail.rfind(_EXIT)
    said = tail[place + len(_EXIT) :].strip() if place >= 0 else ""
    return int(said) if said.lstrip("-").isdecimal() and said.isascii() and len(said) < 12 else None


def files_of(stamp: Stamp, tool_use_id: str, given: dict[str, JSON], diff: str, limit: int) -> Iterator[Draft]:
    """The files that a successful call of a file tool changed. *given* is the call's input, *diff* the result's long
    form, a diff as Git prints it, or any other text.
    """
    patch = string(given.get("patch") or given.get("input") or given.get("arguments"))
    if patch.lstrip().startswith("*** Begin Patch"):
        yield from _patched(stamp, tool_use_id, patch)
        return
    path = string(given.get("path") or given.get("file_path"))
    if not path or given.get("command") == "view":
        return
    shown = diff.strip("\n") if "\n@@ " in diff else ""
    written = given.get("file_text")
    made = type(written) is str or "\nnew file mode" in diff or "\ncreate file mode" in diff
    if shown:
        counts: tuple[int, int] | None = counted(shown)
    elif type(written) is str:
        counts = len(lines_of(written)), 0
    else:
        old, new = given.get("old_str"), given.get("new_str")
        counts = edited(old, new) if type(old) is str and type(new) is str else None
    yield changed(stamp, path, "created" if made else "modified", tool_use_id, counts=counts, patch=shown, limit=limit)


def _patched(stamp: Stamp, tool_use_id: str, patch: str) -> Iterator[Draft]:
    """The files of a patch in the form of ``apply_patch``; how long a deleted file was, it does not say."""
    path, change, moved, added, removed = "", "modified", "", 0, 0

    def told() -> Iterator[Draft]:
        if path:
            kind: Change = "renamed" if moved else change  # type: ignore[assignment] # one of the table's
            counts = None if change == "deleted" else (added, removed)
            yield changed(stamp, moved or path, kind, tool_use_id, counts=counts, old_path=path if moved else "")

    for line in patch.split("\n"):
        head = next((head for head in _PATCH_HEADS if line.startswith(head)), None)
        if head is not None:
            yield from told()
            path, change, moved, added, removed = line[len(head) :].strip(), _PATCH_HEADS[head], "", 0, 0
        elif line.startswith(_PATCH_MOVE):
            moved = line[len(_PATCH_MOVE) :].strip()
        else:
            added += line[:1] == "+"
            removed += line[:1] == "-"
    yield from told()
