"""The tools of OpenCode: what kind each is, how a call reads on one line, and which files it changed.

The rule this module keeps: a file's lines are counted from the diff that the tool itself made, not from its sums, which
count one too many for a deleted file; without a diff only a file that is new is counted.
"""

from typing import TYPE_CHECKING

from agentpipe.event import JSON
from agentpipe.parse.agents.apply_patch import CHANGES, Edit, patched
from agentpipe.parse.vocabulary import titles
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.files import counted, lines_of

if TYPE_CHECKING:
    from agentpipe.payload import Change, Kind  # names for mypy alone: their import is paid at start-up

__all__ = ["detail_of", "edits_of", "kind_of", "title_of"]

#: A tool's kind and how it is called in a title.
_TOOLS: "dict[str, tuple[Kind, str]]" = {
    "apply_patch": ("edit", "Edit"),
    "bash": ("execute", "Bash"),
    "codesearch": ("search", "CodeSearch"),
    "edit": ("edit", "Edit"),
    "glob": ("search", "Glob"),
    "grep": ("search", "Grep"),
    "list": ("search", "LS"),
    "lsp": ("search", "LSP"),
    "multiedit": ("edit", "MultiEdit"),
    "patch": ("edit", "Edit"),
    "plan_enter": ("think", "EnterPlanMode"),
    "plan_exit": ("think", "ExitPlanMode"),
    "read": ("read", "Read"),
    "skill": ("read", "Skill"),
    "task": ("think", "Task"),
    "todoread": ("think", "TodoRead"),
    "todowrite": ("think", "TodoWrite"),
    "webfetch": ("fetch", "WebFetch"),
    "websearch": ("fetch", "WebSearch"),
    "write": ("edit", "Write"),
}

#: Facts of a result that say more than its content does.
_DETAILS = ("sessionId", "outputPath")


def kind_of(tool: str) -> "Kind":
    """The kind of *tool*; ``other`` for one that is not known."""
    return _TOOLS[tool][0] if tool in _TOOLS else "other"


def title_of(tool: str, given: dict[str, JSON]) -> str:
    """One line for people, such as ``Bash: pytest -q``."""
    shown = _TOOLS[tool][1] if tool in _TOOLS else tool
    if tool == "todowrite":
        return titles.title_of(shown, given, f"{len(items(given.get('todos')))} items")
    if tool in ("apply_patch", "patch"):
        return titles.title_of(shown, given, ", ".join(edit.path for edit in patched(string(given.get("patchText")))))
    return titles.title_of(shown, given)


def detail_of(metadata: dict[str, JSON]) -> dict[str, JSON]:
    """The sub-agent's session, and where the whole of a cut output lies."""
    return {name: metadata[name] for name in _DETAILS if string(metadata.get(name))}


def edits_of(tool: str, given: dict[str, JSON], metadata: dict[str, JSON]) -> list[Edit]:
    """The files that a successful call of *tool* changed."""
    path = string(given.get("filePath")) or string(metadata.get("filepath"))
    if tool == "write" and path:
        return [_written(path, given, metadata)]
    if tool == "edit" and path:
        return [_edited(path, [metadata])]
    if tool == "multiedit" and path:
        return [_edited(path, [mapping(one) for one in items(metadata.get("results"))])]
    if tool in ("apply_patch", "patch"):
        files = items(metadata.get("files"))
        return [_patched(mapping(one)) for one in files] if files else patched(string(given.get("patchText")))
    return []


def _written(path: str, given: dict[str, JSON], metadata: dict[str, JSON]) -> Edit:
    change: Change = "modified" if metadata.get("exists") is True else "created"
    diff = _diff(metadata)
    if diff:
        return Edit(path, change, counted(diff), _hunks(diff))
    content = given.get("content")
    fresh = metadata.get("exists") is False and type(content) is str
    return Edit(path, change, (len(lines_of(string(content))), 0) if fresh else None)


def _edited(path: str, results: list[dict[str, JSON]]) -> Edit:
    """One file that was edited once or, by ``multiedit``, several times."""
    diffs = [_diff(result) for result in results]
    if not diffs or not all(diffs):
        return Edit(path, "modified")
    counts = [counted(diff) for diff in diffs]
    total = sum(added for added, _ in counts), sum(removed for _, removed in counts)
    alone = len(diffs) == 1
    change: Change = "created" if alone and "@@ -0,0 " in diffs[0] else "modified"
    return Edit(path, change, total, _hunks(diffs[0]) if alone else "")


def _patched(found: dict[str, JSON]) -> Edit:
    """One of the files of an ``apply_patch``."""
    path, moved, kind = string(found.get("filePath")), string(found.get("movePath")), string(found.get("type"))
    diff = _diff(found)
    added, removed = whole(found.get("additions")), whole(found.get("deletions"))
    told = (added, removed) if added is not None and removed is not None and kind != "delete" else None
    counts = counted(diff) if diff else told
    if moved and moved != path:
        return Edit(moved, "renamed", counts, _hunks(diff), path)
    return Edit(path, CHANGES.get(kind, "modified"), counts, _hunks(diff))


def _diff(found: dict[str, JSON]) -> str:
    """The unified diff in a tool's metadata; empty when there is none."""
    told = (found.get("diff"), mapping(found.get("filediff")).get("patch"), found.get("patch"))
    return next((text for text in map(string, told) if "@@ " in text), "")


def _hunks(diff: str) -> str:
    """*diff* without its file header."""
    return diff[diff.find("@@ ") :] if diff else ""
