"""Goose: ``goose run --output-format stream-json``, and the one object of ``--output-format json``.

The rules this module keeps: lines of one message id are the parts of one message; ``complete`` comes after an error as
well, and the status of the one object says "completed" whatever happened, so a run failed when an error was told.

Source: ``StreamEvent`` and the message types of the program; see ``docs/formats/goose.md``.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agentpipe.event import JSON, timestamp
from agentpipe.parse.adapter import Clock, Draft, Moment, Sureness
from agentpipe.parse.agents.checklist import steps_of
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.calls import Call
from agentpipe.parse.vocabulary.content import flat, media_of, shortened
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, number, string, whole
from agentpipe.parse.vocabulary.files import FilesMet, changed, counted, edited, lines_of, written
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.texts import TextType
from agentpipe.parse.vocabulary.titles import title_of
from agentpipe.parse.vocabulary.usage import Tokens, tokens, update

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["Goose"]

_Found = dict[str, JSON]

_KINDS: "dict[str, Kind]" = {
    "analyze": "search",
    "delegate": "think",
    "edit": "edit",
    "list_dir": "search",
    "load": "read",
    "read": "read",
    "read_image": "read",
    "shell": "execute",
    "subagent": "think",
    "text_editor": "edit",
    "todo_read": "think",
    "todo_write": "think",
    "tree": "search",
    "web_scrape": "fetch",
    "write": "edit",
}
_FILE_TOOLS = frozenset({"edit", "read", "text_editor", "write"})
_TODO_TOOL = "todo_write"

#: The blocks of a message that are texts, and the field that holds each.
_TEXTS: dict[str, tuple[TextType, str]] = {
    "reasoning": ("agent_thinking", "text"),
    "text": ("agent_output", "text"),
    "thinking": ("agent_thinking", "thinking"),
}
_REQUESTS = frozenset({"frontendToolRequest", "toolRequest"})
_QUESTIONS = frozenset({"actionRequired", "toolConfirmationRequest"})
_MEDIA = frozenset({"document", "image"})

#: How the program says in the agent's name that the model's API failed for good.
_API_FAILED = "Ran into this error"

#: The latest time that a timestamp can tell, in seconds.
_LATEST_S = 253_402_300_799


class Goose(Account):
    """The adapter of Goose for the lines of one run."""

    name = "goose"
    agent = "goose"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # changing
        self._messages = 0
        self._open: tuple[TextType, str, str] | None = None  # type, id and role of the text whose parts come
        self._parts: list[str] = []
        self._said = ""  # the agent's last whole text
        self._problem = ""  # why the run failed
        self._latest_s = 0.0
        self._met = FilesMet()

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """A message says when it was created; the end has its tokens; the one object has messages and a status."""
        kind = found.get("type")
        if kind == "message":
            message = found.get("message")
            mine = type(message) is dict and "role" in message and type(message.get("content")) is list
            return (Sureness.SURE if "created" in mapping(message) else Sureness.LIKELY) if mine else Sureness.NO
        if kind == "complete":
            return Sureness.SURE if "total_tokens" in found else Sureness.NO
        if kind == "notification":
            return Sureness.SURE if "extension_id" in found else Sureness.NO
        if kind == "error":
            return Sureness.LIKELY if type(found.get("error")) is str and len(found) == 2 else Sureness.NO
        if kind == "model_change":
            return Sureness.LIKELY if "model" in found and "mode" in found else Sureness.NO
        one = kind is None and type(found.get("messages")) is list and "status" in mapping(found.get("metadata"))
        return Sureness.SURE if one else Sureness.NO

    def read(self, found: _Found, moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        self.ready = True
        kind = string(found.get("type"))
        message = mapping(found.get("message"))
        stamp = self.stamp(self._time_of(message), moment, size)
        ticks = self.ticks(stamp, moment)
        if not kind and type(found.get("messages")) is list:
            return ticks + self._whole_run(found, moment, size)
        reader = _READERS.get(kind)
        if reader is None:
            return [*ticks, self.raw(stamp, f"unknown type {shortened(kind, 100)!r}", found)]
        return ticks + reader(self, found, stamp)

    def finish(self, moment: Moment) -> list[Draft]:
        """Tell whole the texts that were cut."""
        return self._settled(self.stamp(None, moment, 0), aborted=True) + super().finish(moment)

    def _time_of(self, message: _Found) -> str | None:
        """When a message began, in whole seconds; all its parts say the same."""
        at_s = number(message.get("created"))
        if at_s is None or not self._latest_s < at_s < _LATEST_S:
            return None
        self._latest_s = at_s
        return timestamp(at_s)

    def _whole_run(self, found: _Found, moment: Moment, size: int) -> list[Draft]:
        """The one object: all messages, and a status that is not to be trusted."""
        out: list[Draft] = []
        for message in map(mapping, items(found.get("messages"))):
            stamp = self.stamp(self._time_of(message), moment, size)
            out += self._settled(stamp) + self._message({"message": message}, stamp)
        stamp = self.stamp(None, moment, size)
        return out + self._complete(mapping(found.get("metadata")), stamp)

    # ---- messages

    def _message(self, found: _Found, stamp: Stamp) -> list[Draft]:
        message = mapping(found.get("message"))
        role = string(message.get("role"))
        inference = mapping(mapping(message.get("metadata")).get("inference"))
        self.learn(model=string(inference.get("requestedModel")))
        out: list[Draft] = []
        for block in map(mapping, items(message.get("content"))):
            kind = string(block.get("type"))
            if kind in _TEXTS:
                type_, field = _TEXTS[kind]
                out += self._part(type_, string(message.get("id")), role, string(block.get(field)), stamp)
            else:
                out += self._settled(stamp) + self._block(kind, block, role, stamp)
        return out

    def _block(self, kind: str, block: _Found, role: str, stamp: Stamp) -> list[Draft]:
        if kind in _REQUESTS:
            return self._call(block, stamp)
        if kind == "toolResponse":
            return self._result(block, stamp)
        if kind in _QUESTIONS:
            return self._question(block, stamp)
        if kind in _MEDIA:
            self._messages += 1
            told = self.texts.final(stamp, "agent_output", f"message-{self._messages}", flat([block]), role=role)
            for draft in told:
                draft.whole = media_of([block])
            return told
        if kind == "error":
            self._problem = string(block.get("message")) or "the model failed"
            return error("agent", self._problem, stamp.at, code=string(block.get("kind")))
        if kind == "systemNotification":
            return log(
                "info", string(block.get("msg")) or kind, stamp.at, string(block.get("notificationType")) or kind
            )
        if kind == "redactedThinking":
            return []
        return [self.raw(stamp, f"unknown block {shortened(kind, 100)!r}", block)]

    def _part(self, type_: TextType, message_id: str, role: str, text: str, stamp: Stamp) -> list[Draft]:
        if not text:
            return []
        out: list[Draft] = []
        opened = self._open
        if opened is None or (opened[0], opened[2]) != (type_, role) or (message_id and opened[1] != message_id):
            out = self._settled(stamp)
            self._messages += 1
            self._open = opened = type_, message_id, role
        self._parts.append(text)
        if role == "user":
            return out  # the user's words are told whole
        return out + self.texts.part(stamp, type_, self._place(opened[1]), text)

    def _settled(self, stamp: Stamp, **marks: JSON) -> list[Draft]:
        """Nothing more of the open text will come."""
        if self._open is None:
            return []
        (type_, message_id, role), text = self._open, "".join(self._parts)
        self._open, self._parts = None, []
        if role == "user":
            marks["role"] = "user"
        elif type_ == "agent_output":
            self._said = text
            if text.startswith(_API_FAILED):
                self._problem = text.split("\n", 1)[0]
        return self.texts.final(stamp, type_, self._place(message_id), text, **marks)

    def _place(self, message_id: str) -> str:
        """A message that calls a tool between its texts has several, so each gets its number."""
        return f"{message_id}/{self._messages}" if message_id else f"message-{self._messages}"

    # ---- tools

    def _call(self, block: _Found, stamp: Stamp) -> list[Draft]:
        wrapper = mapping(block.get("toolCall"))
        body = mapping(wrapper.get("value")) or wrapper
        name, given = string(body.get("name")) or "unknown", mapping(body.get("arguments"))
        call_id = string(block.get("id")) or "unknown"
        short = _short(name)
        keep = short in _FILE_TOOLS or short == _TODO_TOOL
        made = self.calls.call(stamp, call_id, name, _kind(short, given), title_of(name, given), given, keep=keep)
        if wrapper.get("status") != "error":
            return [made]
        said = string(wrapper.get("error")) or "the call could not be read"
        return [made, *self.calls.result(stamp, call_id, self.calls.take(call_id, stamp), said, ok=False)]

    def _result(self, block: _Found, stamp: Stamp) -> list[Draft]:
        wrapper = block.get("toolResult")
        found = mapping(wrapper)
        value = found.get("value") if "value" in found or "status" in found else wrapper
        body = mapping(value)
        content = body.get("content") if body else value
        structured = mapping(body.get("structuredContent"))
        text = flat(content) or string(found.get("error"))
        codes = (whole(structured.get(name)) for name in ("exit_code", "exitCode"))
        status = next((code for code in codes if code is not None), None)
        ok = found.get("status") != "error" and body.get("isError") is not True and not status
        call_id = string(block.get("id")) or "unknown"
        call = self.calls.take(call_id, stamp)
        out = self.calls.result(stamp, call_id, call, text, ok=ok, exit_code=status, whole=media_of(content))
        if ok and call.input is not None:
            if _short(call.name) == _TODO_TOOL:
                steps = steps_of(string(call.input.get("content")))
                return out + (self.plans.replaced(steps, stamp.scope, stamp.at) if steps else [])
            out += self._file(stamp, call_id, call)
        return out

    def _file(self, stamp: Stamp, call_id: str, call: Call) -> list[Draft]:
        """The file that a successful call changed, if it did."""
        given, name = call.input or {}, _short(call.name)
        path, command = string(given.get("path")), string(given.get("command"))
        if not path:
            return []
        met = self._met.meet(path)
        if name == "read" or command == "view":
            return []
        if name == "write" or command == "write":
            return [written(stamp, path, call_id, given.get("content", given.get("file_text")), met=met)]
        diff = string(given.get("diff"))
        if diff:
            return [changed(stamp, path, "modified", call_id, counts=counted(diff), patch=diff)]
        return [changed(stamp, path, "modified", call_id, counts=_edits(given, command))]

    def _question(self, block: _Found, stamp: Stamp) -> list[Draft]:
        asked = mapping(block.get("data")) or block
        payload: _Found = {"name": string(asked.get("toolName")) or "a tool", "input": mapping(asked.get("arguments"))}
        if string(asked.get("id")):
            payload["tool_use_id"] = asked["id"]
        if string(asked.get("prompt")):
            payload["reason"] = asked["prompt"]
        return [Draft("permission_request", payload, stamp.at)]

    # ---- the rest

    def _notification(self, found: _Found, stamp: Stamp) -> list[Draft]:
        """What a tool says while it runs; only its own words are news, not how far it has come."""
        said = found.get("message") or mapping(found.get("log")).get("message")
        text = flat(said) if said else string(mapping(found.get("progress")).get("message"))
        return log("info", text, stamp.at, string(found.get("extension_id")) or "extension") if text.strip() else []

    def _model(self, found: _Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - every reader's shape
        self.learn(model=string(found.get("model")))
        return []

    def _error(self, found: _Found, stamp: Stamp) -> list[Draft]:
        self._problem = string(found.get("error")) or flat(found.get("error")) or "the run failed"
        return self._settled(stamp) + error("agent", self._problem, stamp.at)

    def _complete(self, found: _Found, stamp: Stamp) -> list[Draft]:
        out = self._settled(stamp)
        total, cost_usd = _tokens(found), number(found.get("cost_usd"))
        counts, cost = self.turns.totals.grown(total, cost_usd)
        out += update(stamp, total, cumulative=True, cost=cost_usd)
        problem, self._problem = self._problem, ""
        status = string(found.get("status"))
        said, self._said = self._said, ""
        return out + self.turns.ended(
            stamp, ok=not problem and status not in ("error", "failed"), result=said, failed=problem or status,
            usage=counts, cost_usd=cost,
        )  # fmt: skip


def _short(name: str) -> str:
    """A tool's name without its extension's: ``developer__shell`` is ``shell``."""
    return name.rsplit("__", 1)[-1]


def _kind(short: str, given: _Found) -> "Kind":
    return "read" if short == "text_editor" and given.get("command") == "view" else _KINDS.get(short, "other")


def _tokens(found: _Found) -> Tokens:
    """The run's tokens so far; the input counts the cache, as the total shows."""
    given, output = found.get("input_tokens"), found.get("output_tokens")
    return tokens(
        given, output, found.get("cache_read_input_tokens"), found.get("cache_write_input_tokens"), includes_cache=True
    )


def _edits(given: _Found, command: str) -> tuple[int, int] | None:
    """Lines added and removed as the call tells them."""
    old, new = given.get("old_str", given.get("before")), given.get("new_str", given.get("after"))
    if type(old) is str and type(new) is str:
        return edited(old, new)
    return (len(lines_of(new)), 0) if command == "insert" and type(new) is str else None


_READERS: dict[str, Callable[[Goose, _Found, Stamp], list[Draft]]] = {
    "complete": Goose._complete,  # noqa: SLF001 - the class's own table
    "error": Goose._error,  # noqa: SLF001 - the class's own table
    "message": Goose._message,  # noqa: SLF001 - the class's own table
    "model_change": Goose._model,  # noqa: SLF001 - the class's own table
    "notification": Goose._notification,  # noqa: SLF001 - the class's own table
}
