"""Which file a tool changed, and by how many lines.

The rule this module keeps: only what was really written is told, and where lines cannot be counted honestly they are
left out.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.content import size_of
from agentpipe.parse.vocabulary.stamp import Stamp

if TYPE_CHECKING:
    from agentpipe.event import JSON
    from agentpipe.payload import Change  # a name for mypy alone: its import is paid at start-up

__all__ = ["FilesMet", "changed", "counted", "edited", "lines_of", "written"]

#: Files remembered as met: an agent comes back soon to what it works on.
_REMEMBERED = 4096


def changed(
    stamp: Stamp,
    path: str,
    change: "Change",
    tool_use_id: str,
    *,
    counts: tuple[int, int] | None = None,
    patch: str = "",
    old_path: str = "",
    limit: int = 16 * 1024,
) -> Draft:
    """A ``file_changed``. *counts* are lines added and removed, None when nobody knows; a *patch* of more than *limit*
    bytes is left out.
    """
    payload: dict[str, JSON] = {"path": path, "change": change, "source": "tool", "tool_use_id": tool_use_id}
    if old_path:
        payload["old_path"] = old_path
    if counts is not None:
        payload["added"], payload["removed"] = counts
    if patch and size_of(patch) <= limit:
        payload["patch"] = patch
    return Draft("file_changed", payload, stamp.at, stamp.scope)


class FilesMet:
    """The files that a run has read or written. Most agents do not say whether a file that they wrote whole was there
    before: it counts as new when the run has not met it.
    """

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}  # the latest last

    def meet(self, *paths: str) -> bool:
        """Whether the run has met the file before, by any of its *paths*; it has now."""
        met = any(path in self._paths for path in paths)
        for path in paths:
            self._paths.pop(path, None)
            self._paths[path] = None
        while len(self._paths) > _REMEMBERED:
            del self._paths[next(iter(self._paths))]
        return met


def written(stamp: Stamp, path: str, tool_use_id: str, content: "JSON", *, met: bool) -> Draft:
    """A file was written whole: created, with the lines of *content*; when it was *met* before, nobody says what was
    there, and nothing is counted.
    """
    if met:
        return changed(stamp, path, "modified", tool_use_id)
    counts = (len(lines_of(content)), 0) if type(content) is str else None
    return changed(stamp, path, "created", tool_use_id, counts=counts)


def edited(old: str, new: str) -> tuple[int, int]:
    """Lines added and removed between two texts: without the lines that both begin and end with."""
    before, after = lines_of(old), lines_of(new)
    head = _shared(before, after)
    tail = min(_shared(before[::-1], after[::-1]), len(before) - head, len(after) - head)
    return len(after) - head - tail, len(before) - head - tail


def counted(diff: str) -> tuple[int, int]:
    """Lines added and removed by a unified *diff*; its file headers do not count."""
    added = removed = 0
    in_hunk = not any(line.startswith("@@") for line in diff.split("\n"))  # a bare list of + and - lines
    for line in diff.split("\n"):
        if line.startswith("@@"):
            in_hunk = True
        elif line.startswith(("diff ", "Index: ", "--- ", "+++ ")) and (not in_hunk or _is_header(line)):
            in_hunk = in_hunk and not line.startswith(("diff ", "Index: "))
        elif in_hunk and line[:1] == "+":
            added += 1
        elif in_hunk and line[:1] == "-":
            removed += 1
    return added, removed


def _is_header(line: str) -> bool:
    """Inside a hunk a header begins the next file's part."""
    return line.startswith(("diff ", "Index: "))


def lines_of(text: str) -> list[str]:
    """Lines end at LF alone; a last one without it counts."""
    parts = text.split("\n")
    return parts[:-1] if parts[-1] == "" else parts


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
