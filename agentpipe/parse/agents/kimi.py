"""Kimi CLI: ``kimi --print --output-format stream-json``, messages as in the chat API of OpenAI.

The rules this module keeps: a message is known by its ``role``, for most have no type; arguments are JSON in a text,
which may be broken and is told all the same; nothing tells the end, so the account is whole when no call waits for its
result.

Source: ``kimi_cli/ui/print`` and what later versions print; see ``docs/formats/kimi.md``.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agentpipe.event import JSON, decode
from agentpipe.parse.adapter import Clock, Draft, Moment, Outcome, Sureness
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.calls import Call
from agentpipe.parse.vocabulary.content import flat, media_of, shortened
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, string
from agentpipe.parse.vocabulary.files import FilesMet, changed, edited, lines_of, written
from agentpipe.parse.vocabulary.plans import step
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.titles import title_of

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["Kimi"]

_Found = dict[str, JSON]

_ROLES = frozenset({"assistant", "system", "tool", "user"})

_KINDS: "dict[str, Kind]" = {
    "Agent": "think",
    "Bash": "execute",
    "Edit": "edit",
    "FetchURL": "fetch",
    "Glob": "search",
    "Grep": "search",
    "Read": "read",
    "ReadFile": "read",
    "ReadMediaFile": "read",
    "SearchWeb": "fetch",
    "SetTodoList": "think",
    "Shell": "execute",
    "StrReplaceFile": "edit",
    "Task": "think",
    "Think": "think",
    "TodoList": "think",
    "WebSearch": "fetch",
    "Write": "edit",
    "WriteFile": "edit",
}
_EDITS, _WRITES = frozenset({"Edit", "StrReplaceFile"}), frozenset({"Write", "WriteFile"})
_FILE_TOOLS = _EDITS | _WRITES | {"Read", "ReadFile"}
_TODO_TOOLS = frozenset({"SetTodoList", "TodoList"})

#: What the program adds to a tool's result for the model; an error begins so.
_SYSTEM, _SYSTEM_END, _ERROR = "<system>", "</system>", "<system>ERROR: "
_FAILED_WITH, _SUCCEEDED = "Command failed with exit code: ", "Command executed successfully."


class Kimi(Account):
    """The adapter of Kimi CLI for the lines of one run."""

    name = "kimi"
    agent = "kimi"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # changing
        self._messages = 0
        self._said = ""  # the last answer
        self._calls_made = 0
        self._met = FilesMet()

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """Chat messages are likely, because other programs keep such logs too; calls, their answers and the program's
        own lines are sure: nobody else prints them a line each.
        """
        role = found.get("role")
        if "type" in found:
            if role == "meta":
                return Sureness.SURE if type(found["type"]) is str else Sureness.NO
            return Sureness.SURE if "source_kind" in found and "severity" in found else Sureness.NO
        if type(role) is str and role in _ROLES:
            if "created" in found or not ("content" in found or "tool_calls" in found):
                return Sureness.NO
            return Sureness.SURE if _has_call(found) else Sureness.LIKELY
        plan = found.keys() == {"content", "file_path"}
        return Sureness.LIKELY if plan or _is_side_question(found) else Sureness.NO

    def read(self, found: _Found, moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        stamp = self.stamp(None, moment, size)
        ticks = self.ticks(stamp, moment)
        reader = _READERS.get(string(found.get("role")))
        self.ready = True
        if reader is not None:
            return ticks + reader(self, found, stamp)
        if "severity" in found:
            return ticks + _notified(found, stamp)
        if "file_path" in found and "content" in found:
            return ticks + log("info", string(found["content"]), stamp.at, "plan", path=string(found["file_path"]))
        if _is_side_question(found):
            return ticks + self._aside(found, stamp)
        return [*ticks, self.raw(stamp, f"unknown role {shortened(string(found.get('role')), 100)!r}", found)]

    def outcome(self) -> Outcome:
        """Nothing tells the end: the account is whole when every call has its result and an answer was given."""
        if not self._messages:
            return Outcome(None, False, "no answer from the agent", {})
        waiting = len(self.calls.open)
        fields = {"result": shortened(self._said, self.limit)} if self._said else {}
        return Outcome(None, False, f"calls without a result: {waiting}" if waiting else None, fields)

    # ---- messages

    def _assistant(self, found: _Found, stamp: Stamp) -> list[Draft]:
        message = self._next()
        out: list[Draft] = []
        texts: list[str] = []
        content = found.get("content")
        blocks = [{"type": "text", "text": content}] if type(content) is str else items(content)
        thought = string(found.get("reasoning_content"))
        if thought:
            out += self.texts.final(stamp, "agent_thinking", message, thought, len(blocks))
        for index, block in enumerate(map(mapping, blocks)):
            if block.get("type") == "think":
                out += self.texts.final(stamp, "agent_thinking", message, string(block.get("think")), index)
                continue
            text = _text(block)
            texts.append(text)
            told = self.texts.final(stamp, "agent_output", message, text, index)
            for draft in told:
                draft.whole = media_of([_media(block)])
            out += told
        self._said = "".join(texts) or self._said
        return out + [self._call(mapping(call), stamp) for call in items(found.get("tool_calls"))]

    def _user(self, found: _Found, stamp: Stamp) -> list[Draft]:
        content = found.get("content")
        text = content if type(content) is str else "\n".join(_text(mapping(block)) for block in items(content))
        told = self.texts.final(stamp, "agent_output", self._next(), text, role=string(found.get("role")))
        for draft in told:
            draft.whole = media_of([_media(mapping(block)) for block in items(content)])
        return told

    def _next(self) -> str:
        self._messages += 1
        return f"message-{self._messages}"

    def _meta(self, found: _Found, stamp: Stamp) -> list[Draft]:
        """What later versions say about themselves."""
        kind = string(found.get("type"))
        self.learn(session_id=string(found.get("session_id")))
        if kind == "session.resume_hint":
            return []
        if kind == "system.version":
            self.learn(agent_version=string(found.get("version")) or string(found.get("content")))
            return []
        said = string(found.get("content")) or string(found.get("message"))
        if said:
            return log("info", said, stamp.at, kind)
        return [self.raw(stamp, f"unknown type {shortened(kind, 100)!r}", found)]

    def _aside(self, found: _Found, stamp: Stamp) -> list[Draft]:
        """A question beside the conversation, and its answer."""
        name = string(found.get("id")) or self._next()
        if "question" in found:
            return self.texts.final(stamp, "agent_output", f"{name}/question", string(found["question"]), role="user")
        if string(found.get("error")):
            return error("warning", string(found["error"]), stamp.at)
        return self.texts.final(stamp, "agent_output", name, string(found.get("response")))

    # ---- tools

    def _call(self, call: _Found, stamp: Stamp) -> Draft:
        function = mapping(call.get("function"))
        name, given = string(function.get("name")) or "unknown", _arguments(function.get("arguments"))
        self._calls_made += 1
        call_id = string(call.get("id")) or f"call-{self._calls_made}"
        keep = name in _FILE_TOOLS or name in _TODO_TOOLS
        return self.calls.call(stamp, call_id, name, _KINDS.get(name, "other"), title_of(name, given), given, keep=keep)

    def _tool(self, found: _Found, stamp: Stamp) -> list[Draft]:
        call_id = string(found.get("tool_call_id")) or next(iter(self.calls.open), "unknown")
        call = self.calls.take(call_id, stamp, string(found.get("name")) or "unknown")
        content = found.get("content")
        blocks = [mapping(block) for block in items(content)]
        text = content if type(content) is str else "\n".join(map(_text, blocks))
        ok = not text.startswith(_ERROR)
        said = text[len(_ERROR) :].split(_SYSTEM_END, 1)[0] if not ok else ""
        media = media_of([_media(block) for block in blocks])
        status = _exit_code(text) if call.kind == "execute" else None
        out = self.calls.result(stamp, call_id, call, text, ok=ok, exit_code=status, whole=media, failed=said)
        if not ok or call.input is None:
            return out
        if call.name in _TODO_TOOLS:
            rows = [mapping(row) for row in items(call.input.get("todos"))]
            steps = [step(row.get("title") or row.get("content"), _status(row)) for row in rows]
            return out + (self.plans.replaced(steps, stamp.scope, stamp.at) if steps else [])
        return out + self._file(stamp, call_id, call)

    def _file(self, stamp: Stamp, call_id: str, call: Call) -> list[Draft]:
        """The file that a successful call changed, if it did."""
        given = call.input or {}
        path = string(given.get("path")) or string(given.get("file_path"))
        if not path:
            return []
        met = self._met.meet(path)
        if call.name in _EDITS:
            return [changed(stamp, path, "modified", call_id, counts=_edits(given))]
        content = given.get("content")
        if call.name not in _WRITES:
            return []
        if given.get("mode") == "append" and type(content) is str:
            return [changed(stamp, path, "modified", call_id, counts=(len(lines_of(content)), 0))]
        return [written(stamp, path, call_id, content, met=met)]


def _has_call(found: Mapping[str, JSON]) -> bool:
    if found["role"] == "tool":
        return type(found.get("tool_call_id")) is str
    calls = found.get("tool_calls")
    return type(calls) is list and bool(calls) and all(type(mapping(call).get("function")) is dict for call in calls)


def _is_side_question(found: Mapping[str, JSON]) -> bool:
    return "id" in found and found.keys() <= {"error", "id", "question", "response"} and len(found) > 1


def _notified(found: _Found, stamp: Stamp) -> list[Draft]:
    said = ": ".join(part for part in (string(found.get("title")), string(found.get("body"))) if part)
    if found["severity"] in ("error", "warning"):
        return error("warning", said or "a notification", stamp.at, code=string(found.get("type")))
    return log("info", said or "a notification", stamp.at, string(found.get("source_kind")) or "notification")


def _arguments(said: JSON) -> _Found:
    """The input of a call; what is no object is told as it is."""
    if type(said) is dict:
        return said
    try:
        given = decode(said.encode()) if type(said) is str and said.strip() else {}
    except ValueError:
        given = None
    return given if type(given) is dict else {"arguments": said}


def _text(block: _Found) -> str:
    if block.get("type") == "think":
        return ""
    return flat([_media(block)])


def _media(block: _Found) -> _Found:
    """Media are URLs here, mostly with the data in them: ``data:image/png;base64,…``."""
    kind = string(block.get("type"))
    if not kind.endswith("_url"):
        return block
    url = string(mapping(block.get(kind)).get("url"))
    head, _, data = url.partition(";base64,")
    source = {"media_type": head[5:], "data": data} if head.startswith("data:") and data else {"url": url}
    return {"type": kind.removesuffix("_url"), "source": source}


def _status(row: _Found) -> str:
    """Older versions write ``In Progress``."""
    return string(row.get("status")).replace(" ", "_")


def _exit_code(text: str) -> int | None:
    """The status of a command, as the program tells the model."""
    if not text.startswith(_SYSTEM):
        return None
    told = text.split(_SYSTEM_END, 1)[0]
    if _SUCCEEDED in told:
        return 0
    place = told.find(_FAILED_WITH)
    said = told[place + len(_FAILED_WITH) :].rstrip(". \n").split(".", 1)[0] if place >= 0 else ""
    return int(said) if said.isascii() and said.lstrip("-").isdecimal() and len(said) < 12 else None


def _edits(given: _Found) -> tuple[int, int] | None:
    """Lines added and removed; None when each place is replaced, because nobody says how many there were."""
    edit = given.get("edit", given)
    added = removed = 0
    for one in map(mapping, edit if type(edit) is list else [edit]):
        old, new = one.get("old", one.get("old_string")), one.get("new", one.get("new_string"))
        if type(old) is not str or type(new) is not str or one.get("replace_all") is True:
            return None
        more, less = edited(old, new)
        added, removed = added + more, removed + less
    return added, removed


_READERS: dict[str, Callable[[Kimi, _Found, Stamp], list[Draft]]] = {
    "assistant": Kimi._assistant,  # noqa: SLF001 - the class's own table
    "meta": Kimi._meta,  # noqa: SLF001 - the class's own table
    "system": Kimi._user,  # noqa: SLF001 - the class's own table
    "tool": Kimi._tool,  # noqa: SLF001 - the class's own table
    "user": Kimi._user,  # noqa: SLF001 - the class's own table
}
