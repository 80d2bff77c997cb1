"""What an ``apply_patch`` changes, the patch format that Codex made and others took over; and edits of many files in
general.

The rule this module keeps: lines are counted from what is there and never guessed. The text of a deleted file is not in
such a patch, so it has no count; nor has the patch line numbers, so it is no unified diff and is not handed on as one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.fields import string
from agentpipe.parse.vocabulary.files import changed
from agentpipe.parse.vocabulary.stamp import Stamp

if TYPE_CHECKING:
    from agentpipe.payload import Change  # a name for mypy alone: its import is paid at start-up

__all__ = ["CHANGES", "Edit", "drafts_of", "patched", "scripted", "told_paths"]

#: The words for what becomes of a file.
CHANGES: "dict[str, Change]" = {"add": "created", "delete": "deleted", "update": "modified"}

_BEGIN, _END = "*** Begin Patch", "*** End Patch"
_FILE_MARKS = {"*** Add File: ": "add", "*** Delete File: ": "delete", "*** Update File: ": "update"}
_MOVE_MARK = "*** Move to: "

_PATCH_PROGRAMS = ("apply_patch", "applypatch")


class Edit(NamedTuple):
    """One changed file; *counts* are lines added and removed, None when nobody knows."""

    path: str
    change: "Change"
    counts: tuple[int, int] | None = None
    patch: str = ""
    old_path: str = ""


def patched(text: str, base: str = "") -> list[Edit]:
    """The files of the text of an ``apply_patch``; relative paths are put below *base*, when that is known."""
    start = text.find(_BEGIN)
    if start < 0:
        return []
    out: list[Edit] = []
    for line in text[start:].split("\n"):
        if line.rstrip() == _END:
            break
        mark = next((mark for mark in _FILE_MARKS if line.startswith(mark)), None)
        if mark is not None:
            kind = _FILE_MARKS[mark]
            counts = None if kind == "delete" else (0, 0)
            out.append(Edit(_below(base, line[len(mark) :].strip()), CHANGES[kind], counts))
        elif out:
            out[-1] = _continued(out[-1], line, base)
    return out


def _continued(edit: Edit, line: str, base: str) -> Edit:
    """*edit* with one more line of its part of the patch."""
    if line.startswith(_MOVE_MARK):
        path = _below(base, line[len(_MOVE_MARK) :].strip())
        return edit._replace(path=path, change="renamed", old_path=edit.path) if path != edit.path else edit
    if edit.counts is None or line[:1] not in ("+", "-"):
        return edit
    added, removed = edit.counts
    return edit._replace(counts=(added + 1, removed) if line[0] == "+" else (added, removed + 1))


def scripted(command: JSON, base: str = "") -> list[Edit]:
    """The files of a shell command that is an ``apply_patch`` with its patch in it; nothing for any other command."""
    if type(command) is list:
        words = [string(word) for word in command]
        script = words[-1] if words and words[0] not in _PATCH_PROGRAMS else " ".join(words)
    else:
        script = string(command)
    at = script.find(_BEGIN)
    if at < 0:
        return []
    before = script[:at].strip()
    folder, found, program = before.rpartition("&&")
    if not program.strip().startswith(_PATCH_PROGRAMS):
        return []
    if found and folder.strip().startswith("cd "):
        base = _below(base, folder.strip()[3:].strip().strip("'\""))
    return patched(script[at:], base)


def _below(base: str, path: str) -> str:
    if not base or path.startswith(("/", "~")) or path[1:3] in (":\\", ":/"):
        return path
    return f"{base.rstrip('/')}/{path.removeprefix('./')}"


def told_paths(edits: Sequence[Edit]) -> str:
    """The changed files on one line."""
    return ", ".join(edit.path for edit in edits)


def drafts_of(edits: Sequence[Edit], tool_use_id: str, limit: int, stamp: Stamp) -> list[Draft]:
    """A ``file_changed`` for each file; a patch of more than *limit* bytes is left out."""
    return [
        changed(
            stamp,
            edit.path,
            edit.change,
            tool_use_id,
            counts=edit.counts,
            patch=edit.patch,
            old_path=edit.old_path,
            limit=limit,
        )
        for edit in edits
        if edit.path
    ]
