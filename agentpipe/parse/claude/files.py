"""Which file a tool of Claude Code changed, and by how many lines.

The rule this module keeps: only what was really written is told. A failed call and a staged one (``staged: true``)
changed nothing; where lines cannot be counted honestly, they are left out.
"""

from typing import TYPE_CHECKING

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.files import changed, edited, lines_of
from agentpipe.parse.vocabulary.stamp import Stamp

if TYPE_CHECKING:
    from agentpipe.payload import Change  # a name for mypy alone: its import is paid at start-up

__all__ = ["file_change"]


def file_change(
    name: str,
    given: dict[str, JSON],
    result: dict[str, JSON],
    text: str,
    tool_use_id: str,
    limit: int,
    stamp: Stamp,
) -> list[Draft]:
    """The ``file_changed`` of a successful call of a file tool; nothing when nothing was written.

    *given* is the call's input, *result* its structured result (empty when the source has none), *text* what the tool
    said. A patch of more than *limit* bytes is left out.
    """
    path = string(given.get("file_path") or given.get("notebook_path") or result.get("filePath"))
    if not path or result.get("staged") is True:
        return []
    change: Change = "created" if _created(name, given, result, text) else "modified"
    hunks = items(result.get("structuredPatch"))
    counts = _from_patch(hunks) if hunks else _from_input(name, given, result)
    return [changed(stamp, path, change, tool_use_id, counts=counts, patch=_unified(hunks), limit=limit)]


def _created(name: str, given: dict[str, JSON], result: dict[str, JSON], text: str) -> bool:
    if name == "Write":
        kind = result.get("type")
        return kind == "create" if kind in ("create", "update") else text.startswith("File created")
    return name == "Edit" and given.get("old_string") == "" and not result.get("originalFile")


def _from_patch(hunks: list[JSON]) -> tuple[int, int]:
    signs = [line[:1] for hunk in hunks for line in items(mapping(hunk).get("lines")) if type(line) is str]
    return signs.count("+"), signs.count("-")


def _from_input(name: str, given: dict[str, JSON], result: dict[str, JSON]) -> tuple[int, int] | None:
    """Lines added and removed as the call itself tells them; None when it does not."""
    if name == "Write":
        return _written(given, result)
    if name == "Edit":
        return None if given.get("replace_all") is True else _edited(given)
    if name == "MultiEdit":
        edits = [mapping(edit) for edit in items(given.get("edits"))]
        if not edits or any(edit.get("replace_all") is True for edit in edits):
            return None
        counts = [_edited(edit) for edit in edits]
        return sum(added for added, _ in counts), sum(removed for _, removed in counts)
    new = len(lines_of(string(given.get("new_source"))))
    if given.get("edit_mode") == "insert":
        return new, 0
    old = result.get("old_source")
    return (new, len(lines_of(old))) if type(old) is str else None


def _written(given: dict[str, JSON], result: dict[str, JSON]) -> tuple[int, int] | None:
    """A whole file: new lines when it was created, no change when the patch of an update is empty."""
    if result.get("type") == "update":
        same = type(result.get("structuredPatch")) is list and result.get("originalFile") == given.get("content")
        return (0, 0) if same else None
    return len(lines_of(string(given.get("content")))), 0


def _edited(edit: dict[str, JSON]) -> tuple[int, int]:
    return edited(string(edit.get("old_string")), string(edit.get("new_string")))


def _unified(hunks: list[JSON]) -> str:
    """The hunks as a unified diff without its file header."""
    out: list[str] = []
    for hunk in map(mapping, hunks):
        numbers = [whole(hunk.get(key)) for key in ("oldStart", "oldLines", "newStart", "newLines")]
        if None in numbers:
            return ""
        out.append("@@ -{},{} +{},{} @@".format(*numbers))
        out += [line for line in items(hunk.get("lines")) if type(line) is str]
    return "\n".join(out)
