"""Tool calls of the Agent Client Protocol: what is known of each, its content, its terminals, the files it changed.

The rules this module keeps: an update names only what changed, so what is known is put together; content replaces what
was there, but a chunk of version 2 is added to it; files are told of a diff alone, and only when the call succeeded.
"""

from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft, Whole
from agentpipe.parse.vocabulary.content import flat, media_of
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.files import changed, counted, edited, lines_of
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.titles import one_line

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["Terminals", "ToolState", "text_of"]

_KINDS: "dict[str, Kind]" = {
    "delete": "delete",
    "edit": "edit",
    "execute": "execute",
    "fetch": "fetch",
    "move": "move",
    "read": "read",
    "search": "search",
    "think": "think",
}

_FIELDS = ("title", "name", "kind", "status", "content", "locations", "rawInput", "rawOutput", "_meta")

#: Where agents put a command's output and its status in ``rawOutput``.
_OUTPUTS = ("formatted_output", "aggregated_output", "output", "content", "stdout", "text", "message", "error")
_STATUSES = ("exit_code", "exitCode")


def text_of(block: JSON) -> str:
    """A content block as text."""
    found = mapping(block)
    kind = found.get("type")
    if kind == "resource_link":
        return f"[{string(found.get('name')) or 'resource'} {string(found.get('uri'))}]"
    if kind == "resource":
        inner = mapping(found.get("resource"))
        text = inner.get("text")
        return (
            text if type(text) is str else f"[{string(inner.get('mimeType')) or 'resource'} {string(inner.get('uri'))}]"
        )
    return flat([block]) if found else flat(block)


class Terminals:
    """What ran in terminals: output so far and how it ended, by terminal."""

    def __init__(self) -> None:
        self._output: dict[str, list[str]] = {}
        self._status: dict[str, int] = {}

    def put(self, terminal: str, output: str) -> None:
        """The whole output so far."""
        self._output[terminal] = [output]

    def add(self, terminal: str, data: JSON) -> None:
        """More output, in base64."""
        self._output.setdefault(terminal, []).append(_decoded(data))

    def updated(self, update: Mapping[str, JSON]) -> None:
        """A ``terminal_update``."""
        terminal = string(update.get("terminalId"))
        output = mapping(update.get("output"))
        if "data" in output:
            self.put(terminal, _decoded(output["data"]))
        self.ended(terminal, mapping(update.get("exitStatus")))

    def ended(self, terminal: str, status: Mapping[str, JSON]) -> None:
        """How the command ended, when *status* says it."""
        code = whole(status.get("exitCode"))
        if code is not None:
            self._status[terminal] = code

    def take(self, terminal: str) -> tuple[str, int | None]:
        """The output and the exit code, which are of no use any more."""
        return "".join(self._output.pop(terminal, ())), self._status.pop(terminal, None)


def _decoded(data: JSON) -> str:
    try:
        return b64decode(string(data), validate=True).decode("utf-8", "replace")
    except ValueError:
        return string(data)  # some agents send the text itself


class ToolState:
    """What is known of one call."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self.told = False  # whether the call was
        self.size = 0  # of the longest line about it, in bytes
        self._known: dict[str, JSON] = {}

    def update(self, found: Mapping[str, JSON], size: int) -> None:
        """Take what changed, as a line of *size* bytes says. Null leaves what was there: version 1 sends it for what it
        does not know.
        """
        self.size = max(self.size, size)
        for name in _FIELDS:
            value = found.get(name)
            if value is not None:
                self._known[name] = {**mapping(self._known.get(name)), **mapping(value)} if name == "_meta" else value

    def add(self, content: JSON) -> None:
        """One more item of content."""
        self._known["content"] = [*items(self._known.get("content")), content]

    @property
    def status(self) -> str:
        """``pending``, ``in_progress``, ``completed`` or ``failed``; empty when it was never said."""
        return string(self._known.get("status"))

    @property
    def waits(self) -> bool:
        """Whether the call is being made up: nothing runs, and what it is given is not known yet."""
        return not self._known.get("rawInput") and self.status in ("", "pending")

    @property
    def kind(self) -> "Kind":
        """Ours; modes are switched by no kind of tool that we know."""
        return _KINDS.get(string(self._known.get("kind")), "other")

    @property
    def name(self) -> str:
        """The tool's name: as told, as Claude Code's bridge tells it, else what kind of tool it is."""
        meta = (mapping(value).get("toolName") for value in mapping(self._known.get("_meta")).values())
        own = string(self._known.get("name")) or next((string(name) for name in meta if name), "")
        return own or string(self._known.get("kind")) or "other"

    @property
    def title(self) -> str:
        """One line for people, the agent's own."""
        return one_line(string(self._known.get("title"))) or self.name

    @property
    def parent(self) -> str | None:
        """The call that started the sub-agent that makes this one, as Claude Code's bridge tells it."""
        meta = (mapping(value).get("parentToolUseId") for value in mapping(self._known.get("_meta")).values())
        return next((string(parent) for parent in meta if string(parent)), None)

    @property
    def input(self) -> dict[str, JSON]:
        """What the tool is given; where that is not told, the places it works at."""
        given = self._known.get("rawInput")
        if type(given) is dict and given:
            return given
        places = items(self._known.get("locations"))
        return {"input": given} if given else {"locations": places} if places else {}

    def result(self, terminals: Terminals) -> tuple[str, int | None, tuple[Whole, ...]]:
        """The text that the tool gave back, its exit code, and its images and files."""
        texts: list[str] = []
        media: list[Whole] = []
        status = _status(mapping(self._known.get("rawOutput")), mapping(self._known.get("_meta")))
        for one in map(mapping, items(self._known.get("content"))):
            if one.get("type") == "terminal":
                output, code = terminals.take(string(one.get("terminalId")))
                status = code if status is None else status
                texts.append(output)
            elif one.get("type") == "content":
                texts.append(text_of(one.get("content")))
                media += media_of([one.get("content")])
        text = "\n".join(text for text in texts if text)
        return text or _output(self._known.get("rawOutput")), status, tuple(media)

    def files(self, stamp: Stamp) -> Iterator[Draft]:
        """The files that the call changed."""
        told = False
        for one in map(mapping, items(self._known.get("content"))):
            path = string(one.get("path"))
            if one.get("type") == "diff" and path:
                told = True
                yield _changed(stamp, self.call_id, path, one)
        if not told and self.kind == "delete":
            for place in map(mapping, items(self._known.get("locations"))):
                if string(place.get("path")):
                    yield changed(stamp, string(place["path"]), "deleted", self.call_id)


def _changed(stamp: Stamp, call_id: str, path: str, diff: dict[str, JSON]) -> Draft:
    old, new = diff.get("oldText"), diff.get("newText")
    if type(new) is str:
        if type(old) is str:
            return changed(stamp, path, "modified", call_id, counts=edited(old, new))
        return changed(stamp, path, "created", call_id, counts=(len(lines_of(new)), 0))
    if type(old) is str:
        return changed(stamp, path, "deleted", call_id, counts=(0, len(lines_of(old))))
    patch = string(diff.get("patch"))
    return changed(stamp, path, "modified", call_id, counts=counted(patch) if patch else None, patch=patch)


def _status(output: dict[str, JSON], meta: dict[str, JSON]) -> int | None:
    for found in (output, mapping(output.get("metadata")), mapping(meta.get("terminal_exit"))):
        for name in _STATUSES:
            code = whole(found.get(name))
            if code is not None:
                return code
    return None


def _output(raw: JSON) -> str:
    """The raw result as text: what its most telling field holds, else all of it."""
    for name in _OUTPUTS:
        value = mapping(raw).get(name)
        if type(value) is str and value:
            return value
    return flat(raw)
