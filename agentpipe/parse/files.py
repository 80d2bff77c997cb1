"""Which file a tool changed, and by how many lines.

The rule this module keeps: only what was really written is told. A failed call and a staged one (``staged: true``)
changed nothing; where lines cannot be counted honestly, they are left out.
"""

from collections.abc import Sequence

from agentpipe.event import JSON
from agentpipe.parse.content import size_of
from agentpipe.parse.fields import items, mapping, string, whole

__all__ = ["file_change"]


def file_change(
    name: str, given: dict[str, JSON], result: dict[str, JSON], text: str, tool_use_id: str, limit: int
) -> dict[str, JSON] | None:
    """The payload of ``file_changed`` for a successful call of a file tool, or None when nothing was written.

    *given* is the call's input, *result* its structured result (empty when the source has none), *text* what the tool
    said. A patch of more than *limit* bytes is left out.
    """
    path = string(given.get("file_path") or given.get("notebook_path") or result.get("filePath"))
    if not path or result.get("staged") is True:
        return None
    change: dict[str, JSON] = {
        "path": path,
        "change": "created" if _created(name, given, result, text) else "modified",
        "source": "tool",
        "tool_use_id": tool_use_id,
    }
    hunks = items(result.get("structuredPatch"))
    counts = _from_patch(hunks) if hunks else _from_input(name, given, result)
    if counts is not None:
        change["added"], change["removed"] = counts
    patch = _unified(hunks)
    if patch and size_of(patch) <= limit:
        change["patch"] = patch
    return change


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
    new = len(_lines(string(given.get("new_source"))))
    if given.get("edit_mode") == "insert":
        return new, 0
    old = result.get("old_source")
    return (new, len(_lines(old))) if type(old) is str else None


def _written(given: dict[str, JSON], result: dict[str, JSON]) -> tuple[int, int] | None:
    """A whole file: new lines when it was created, no change when the patch of an update is empty."""
    if result.get("type") == "update":
        same = type(result.get("structuredPatch")) is list and result.get("originalFile") == given.get("content")
        return (0, 0) if same else None
    return len(_lines(string(given.get("content")))), 0


def _edited(edit: dict[str, JSON]) -> tuple[int, int]:
    """What differs between the old and the new text, without the lines that both begin and end with."""
    old, new = _lines(string(edit.get("old_string"))), _lines(string(edit.get("new_string")))
    head = _shared(old, new)
    tail = min(_shared(old[::-1], new[::-1]), len(old) - head, len(new) - head)
    return len(new) - head - tail, len(old) - head - tail


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _lines(text: str) -> list[str]:
    """Lines end at LF alone; a last one without it counts."""
    parts = text.split("\n")
    return parts[:-1] if parts[-1] == "" else parts


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
