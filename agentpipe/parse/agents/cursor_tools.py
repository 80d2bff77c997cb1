"""The tools of Cursor: what a call is named by, what its result wraps, and which file it changed.

The rule this module keeps: a tool's name is the key of ``tool_call``, whose siblings are no tools; of the wrappers of
a result only ``success`` is one; a whole file that was written counts lines only when the run had not met it before.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from agentpipe.event import JSON, decode
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.content import flat
from agentpipe.parse.vocabulary.fields import items, mapping, number, string, whole
from agentpipe.parse.vocabulary.files import changed, counted, edited, lines_of, written
from agentpipe.parse.vocabulary.plans import step
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.progress import Step

if TYPE_CHECKING:
    from agentpipe.payload import Change, Kind  # names for mypy alone: their import is paid at start-up

__all__ = ["FILE_TOOLS", "TODO_TOOL", "Result", "Tool", "file_of", "result_of", "steps_of", "tool_of"]

_SUFFIX = "ToolCall"

#: Tools whose success means that a file was written or removed.
FILE_TOOLS = frozenset({"applyPatch", "delete", "edit", "write"})
TODO_TOOL = "updateTodos"

_KINDS: "dict[str, Kind]" = {
    "applyPatch": "edit",
    "createPlan": "think",
    "delete": "delete",
    "edit": "edit",
    "fetch": "fetch",
    "glob": "search",
    "grep": "search",
    "ls": "search",
    "read": "read",
    "readLints": "read",
    "readTodos": "think",
    "semSearch": "search",
    "shell": "execute",
    "task": "think",
    "terminal": "execute",
    "updateTodos": "think",
    "webFetch": "fetch",
    "webSearch": "fetch",
    "write": "edit",
    "writeShellStdin": "execute",
}

_STATUS_PREFIX = "TODO_STATUS_"

#: What a result says at the top of its wrapper beside the content; longer texts are contents.
_DETAIL_CHARACTERS = 200
_DETAILS = frozenset({"executionTime", "isBackground", "signal", "timeoutMs", "truncated"})

#: Where a result's text stands, by what tools call it.
_TEXTS = ("interleavedOutput", "content", "output", "message", "diffString", "markdown", "results")


class Tool(NamedTuple):
    """A call: the tool's name and kind, its input, and its result's wrapper (empty while it runs)."""

    name: str
    kind: "Kind"
    given: dict[str, JSON]
    result: JSON


class Result(NamedTuple):
    """What a wrapper holds: *outcome* is its key, *body* its object."""

    outcome: str
    body: dict[str, JSON]
    ok: bool
    text: str
    failed: str
    exit_code: int | None
    detail: dict[str, JSON]


def tool_of(found: dict[str, JSON]) -> Tool:
    """The tool of a ``tool_call`` object."""
    key = next((key for key in found if key.endswith(_SUFFIX)), "")
    if not key and type(found.get("function")) is dict:
        return _function(found["function"])
    key = key or next((key for key, value in found.items() if type(value) is dict and "args" in value), "")
    body = mapping(found.get(key))
    name, given = key.removesuffix(_SUFFIX) or "unknown", mapping(body.get("args"))
    if name == "mcp":
        return Tool(_server_tool(given), "other", mapping(given.get("args")), body.get("result"))
    return Tool(name, _KINDS.get(name, "other"), given, body.get("result"))


def _function(body: dict[str, JSON]) -> Tool:
    """A tool as the model's API names it; its arguments are JSON in a text, which may be broken."""
    said = body.get("arguments")
    try:
        given = decode(said.encode()) if type(said) is str else said
    except ValueError:
        given = None
    name = string(body.get("name")) or "unknown"
    known = given if type(given) is dict else {"arguments": said} if said else {}
    return Tool(name, _KINDS.get(name, "other"), known, body.get("result"))


def _server_tool(given: dict[str, JSON]) -> str:
    tool = string(given.get("toolName")) or string(given.get("tool_name")) or string(given.get("name")) or "mcp"
    server = string(given.get("providerIdentifier")) or string(given.get("provider_identifier"))
    return f"{server}/{tool}" if server else tool


def result_of(wrapper: JSON) -> Result:
    """What a call gave back."""
    outcome = next(iter(wrapper), "") if type(wrapper) is dict else ""
    inner = mapping(wrapper).get(outcome)
    body = mapping(inner)
    status = whole(body.get("exitCode"))
    refused = body.get("isError") is True
    ok = outcome in ("success", "") and not status and not refused
    failed = "" if ok else _problem(outcome, body) or string(inner)
    text = _text(body, inner) or failed
    detail = {key: value for key, value in body.items() if key in _DETAILS and _small(value)}
    if outcome not in ("success", ""):
        detail = {"outcome": outcome, **detail}
    return Result(outcome, body, ok, text, failed, status, detail)


def _text(body: dict[str, JSON], inner: JSON) -> str:
    if type(body.get("stdout")) is str and not string(body.get("interleavedOutput")):
        parts = (string(body["stdout"]), string(body.get("stderr")))
        return "\n".join(part.rstrip("\n") for part in parts if part)
    for name in _TEXTS:
        value = body.get(name)
        if type(value) is str and value:
            return value
        if type(value) is list and value:
            return flat([_unwrapped(block) for block in value])
    return "" if not body else "" if "error" in body or "reason" in body else flat(inner)


def _unwrapped(block: JSON) -> JSON:
    """A server's text is ``{text: {text}}`` here."""
    text = mapping(mapping(block).get("text")).get("text")
    return {"type": "text", "text": text} if type(text) is str else block


def _problem(outcome: str, body: dict[str, JSON]) -> str:
    names = ("errorMessage", "error", "message", "reason", "stderr")
    said = next((string(body.get(name)) for name in names if string(body.get(name)).strip()), "")
    if said or outcome == "success":
        return said
    command = string(body.get("command"))
    return f"{outcome}: {command}" if command else outcome


def _small(value: JSON) -> bool:
    if type(value) is str:
        return 0 < len(value) <= _DETAIL_CHARACTERS
    return value is True or (type(value) is not bool and number(value) is not None)


def steps_of(given: dict[str, JSON], body: dict[str, JSON]) -> Sequence[Step]:
    """The to-do list: whole in the result; a call that merges names only what changed."""
    found = items(body.get("todos")) or ([] if given.get("merge") is True else items(given.get("todos")))
    rows = [mapping(row) for row in found]
    return [step(row.get("content"), string(row.get("status")).removeprefix(_STATUS_PREFIX)) for row in rows]


def file_of(
    stamp: Stamp, tool_use_id: str, tool: Tool, body: dict[str, JSON], limit: int, *, known: bool
) -> list[Draft]:
    """The file that a successful call changed; *known* whether the run had met its path before."""
    path = string(body.get("path")) or string(tool.given.get("path"))
    if not path:
        return []
    if tool.name == "delete":
        old = body.get("prevContent")
        counts = (0, len(lines_of(old))) if type(old) is str else None
        return [changed(stamp, path, "deleted", tool_use_id, counts=counts)]
    if tool.name == "write":
        return [_written(stamp, path, tool_use_id, tool.given, body, known=known)]
    diff = string(body.get("diffString"))
    change: Change = "created" if "--- /dev/null" in diff else "modified"
    return [changed(stamp, path, change, tool_use_id, counts=_counts(body, diff), patch=diff, limit=limit)]


def _counts(body: dict[str, JSON], diff: str) -> tuple[int, int] | None:
    added, removed = whole(body.get("linesAdded")), whole(body.get("linesRemoved"))
    if added is not None and removed is not None:
        return added, removed
    if diff:
        return counted(diff)
    before, after = body.get("beforeFullFileContent"), body.get("afterFullFileContent")
    return edited(before, after) if type(before) is str and type(after) is str else None


def _written(
    stamp: Stamp, path: str, tool_use_id: str, given: dict[str, JSON], body: dict[str, JSON], *, known: bool
) -> Draft:
    """A whole file; the source does not say whether it was there before."""
    lines = whole(body.get("linesCreated"))
    if lines is None or known:
        return written(stamp, path, tool_use_id, given.get("fileText"), met=known)
    return changed(stamp, path, "created", tool_use_id, counts=(lines, 0))
