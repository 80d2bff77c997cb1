"""Which files Codex changed, as its lines tell it: a list of changes, or a map of changes.

The rule this module keeps: lines are counted from what is there and never guessed. An added or deleted file counts what
it held, when that is told, a unified diff its marks.
"""

from agentpipe.event import JSON
from agentpipe.parse.agents.apply_patch import CHANGES, Edit
from agentpipe.parse.vocabulary.fields import items, mapping, string
from agentpipe.parse.vocabulary.files import counted, lines_of

__all__ = ["listed", "mapped"]


def listed(changes: JSON) -> list[Edit]:
    """The changes of a ``file_change`` item: ``[{path, kind, diff?}]``; a kind may be an object with ``move_path``."""
    return [_edit(string(found.get("path")), found.get("kind"), found) for found in map(mapping, items(changes))]


def mapped(changes: JSON) -> list[Edit]:
    """The changes of an event: ``{path: {type, content | unified_diff, move_path?}}``, in old versions
    ``{path: {add: {content}}}``.
    """
    out = []
    for path, value in mapping(changes).items():
        found = mapping(value)
        kind = found.get("type")
        if type(kind) is not str and len(found) == 1:
            kind, found = next((name, mapping(inner)) for name, inner in found.items())
        out.append(_edit(path, kind, found))
    return out


def _edit(path: str, kind: JSON, found: dict[str, JSON]) -> Edit:
    if type(kind) is dict:
        found, kind = {**found, **kind}, kind.get("type")
    word = string(kind)
    text = found.get("unified_diff", found.get("diff"))
    diff = text if type(text) is str and ("@@ " in text or text.startswith("@@")) else ""
    content = found.get("content", None if diff or word == "update" else text)
    counts = counted(diff) if diff else _whole_file(word, content)
    moved = string(found.get("move_path"))
    if moved and moved != path:
        return Edit(moved, "renamed", counts, diff, path)
    return Edit(path, CHANGES.get(word, "modified"), counts, diff)


def _whole_file(kind: str, content: JSON) -> tuple[int, int] | None:
    if type(content) is not str or kind not in ("add", "delete"):
        return None
    count = len(lines_of(content))
    return (count, 0) if kind == "add" else (0, count)
