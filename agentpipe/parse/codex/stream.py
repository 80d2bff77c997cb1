"""Codex: ``codex exec --json`` (``--experimental-json``), today's shape and the two before it.

The rules this module keeps: ids of items count anew in every process, so those of a second one in the same input are
told apart; items are paired by id, in whatever order they end; an ``error`` line is not the end, a turn's end is; the
tokens of a turn are what the thread's running total has grown by.

Source: ``codex-rs/exec/src/exec_events.rs`` and recorded sessions of six versions; see ``docs/formats/codex.md``.
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal

from agentpipe.event import JSON, encode
from agentpipe.parse.adapter import Clock, Draft, Moment, Sureness, source_time
from agentpipe.parse.agents.plain import without_ansi
from agentpipe.parse.codex.account import CodexAccount
from agentpipe.parse.codex.acts import Act, mcp_act
from agentpipe.parse.codex.changes import listed
from agentpipe.parse.codex.events import EVENTS, SILENT, questions
from agentpipe.parse.codex.usage import tokens_of
from agentpipe.parse.codex.words import as_object, mcp_result, search_text, steps_of, unwrapped
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.content import flat, shortened
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.stamp import Stamp

__all__ = ["Codex"]

#: Which types of line are Codex's alone, and the field that makes them so.
_TYPES = {
    "item.completed": "item",
    "item.plan.delta": "delta",
    "item.started": "item",
    "item.updated": "item",
    "request_user_input": "questions",
    "session.created": "session_id",
    "thread.started": "thread_id",
    "turn.completed": "usage",
    "turn.failed": "error",
    "turn.started": "type",
}

#: What the first line of the oldest shape holds: a summary of the configuration, without a type.
_CONFIGURATION = ("workdir", "model", "provider")

#: A line of the program's own log: its time, its level, what it says. Compiled by `re` when it is first met.
_LOG_LINE = r"\d{4}-\d\d-\d\dT[\d:.]+Z?\s+(ERROR|WARN|INFO|DEBUG|TRACE) +(.*)"

_DIAGNOSTICS = ("Reading prompt from stdin", "Reading additional input from stdin")


class Codex(CodexAccount):
    """The adapter of ``codex exec --json`` for the lines of one run; see `agentpipe.parse.adapter.Adapter`."""

    name = "codex"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        self._thread = ""
        self._processes = 0  # how many have spoken
        self._parts: dict[str, str] = {}  # what was told of texts that are not whole, by id

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """Its own types with what they must hold are sure; a bare error is what others print too."""
        kind = found.get("type")
        if type(kind) is str:
            needed = _TYPES.get(kind)
            if needed is not None:
                return Sureness.SURE if needed in found else Sureness.LIKELY
            if kind == "error":
                bare = type(found.get("message")) is str and found.keys() <= {"type", "message", "timestamp"}
                return Sureness.LIKELY if bare else Sureness.NO
            return Sureness.LIKELY if kind.startswith(("item.", "thread.")) and "data" not in found else Sureness.NO
        message = found.get("msg")
        if type(message) is dict and type(found.get("id")) is str:
            word = message.get("type")
            known = type(word) is str and (word in EVENTS or word in SILENT)
            return Sureness.SURE if known else Sureness.LIKELY if type(word) is str else Sureness.NO
        return Sureness.LIKELY if kind is None and all(name in found for name in _CONFIGURATION) else Sureness.NO

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Only the first line of a process has it."""
        kind = found.get("type")
        if kind == "thread.started":
            return string(found.get("thread_id"))
        if kind == "session.created":
            return string(found.get("session_id"))
        message = found.get("msg")
        if type(message) is dict and message.get("type") == "session_configured":
            return string(message.get("session_id"))
        return ""

    def read(self, found: dict[str, JSON], moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        own = source_time(found["timestamp"]) if "timestamp" in found else None
        stamp = self.stamp(own, moment, size)
        kind = found.get("type")
        if type(kind) is not str:
            return [*self.ticks(stamp, moment), *self._old(found, stamp)]
        self.ready = self.ready or kind != "error"  # which may come before the thread is known
        reader = _READERS.get(kind)
        if reader is None:
            return [self.raw(stamp, f"unknown type {shortened(kind, 100)!r}", found)]
        return [*self.ticks(stamp, moment), *reader(self, found, stamp)]

    def read_text(self, text: str, moment: Moment) -> list[Draft]:
        """A line that is no JSON: what the program says of itself before it begins, or its log with ``2>&1``."""
        plain = without_ansi(text)
        if plain.startswith(_DIAGNOSTICS):
            return log("info", plain, self.clock.at(None, moment), "codex")
        found = re.match(_LOG_LINE, plain) if plain[:2] == "20" else None
        if found is not None:
            return log(found[1].lower(), found[2], self.clock.at(None, moment), "codex")
        return super().read_text(text, moment)

    def _began(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - one shape for all
        """A process begins, or goes on with a thread that was resumed."""
        self._thread = string(found.get("thread_id")) or string(found.get("session_id"))
        self._processes += 1
        if "session_id" not in self.facts:
            self.learn(session_id=self._thread)
        return []

    def _turn_began(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - one shape for all
        self.turn_began()
        return []

    def _turn_completed(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        out = self.used(tokens_of(found.get("usage")), self._thread, stamp)
        return [*out, *self.turn_ended(stamp, ok=True)]

    def _turn_failed(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        out = self.used(tokens_of(found.get("usage")), self._thread, stamp)
        failed = found.get("error")
        text = string(mapping(failed).get("message")) or string(failed) or "the turn failed"
        return [*out, *self.turn_ended(stamp, ok=False, failed=text)]

    def _error(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        return self.failed(string(found.get("message")) or encode(found).decode(), stamp)

    def _plan_part(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        place = self._place(string(found.get("item_id")))
        delta = string(found.get("delta"))
        self._parts[place] = self._parts.get(place, "") + delta
        return self.texts.part(stamp, "agent_output", place, delta)

    def _item(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        item = mapping(found.get("item"))
        kind = string(item.get("type")) or string(item.get("item_type"))
        reader = _ITEMS.get(kind)
        if reader is None:
            return [self.raw(stamp, f"unknown item {shortened(kind, 100)!r}", found)]
        return reader(self, item, found["type"] == "item.completed", stamp)

    def _place(self, item_id: str) -> str:
        """The id of an item among all of this run."""
        return item_id if self._processes < 2 else f"{item_id}~{self._processes}"

    def _id(self, item: dict[str, JSON]) -> str:
        return self._place(string(item.get("id")))

    def _message(self, item: dict[str, JSON], done: bool, stamp: Stamp) -> list[Draft]:
        if done:
            self.answer = string(item.get("text"))
        return self._text("agent_output", item, done, stamp)

    def _plan(self, item: dict[str, JSON], done: bool, stamp: Stamp) -> list[Draft]:
        return self._text("agent_output", item, done, stamp, plan=True)

    def _reasoning(self, item: dict[str, JSON], done: bool, stamp: Stamp) -> list[Draft]:
        return self._text("agent_thinking", item, done, stamp)

    def _text(
        self,
        type: Literal["agent_output", "agent_thinking"],  # noqa: A002 - the event's field
        item: dict[str, JSON],
        done: bool,
        stamp: Stamp,
        **marks: JSON,
    ) -> list[Draft]:
        place, text = self._id(item), item.get("text")
        if not isinstance(text, str):
            return [self.raw(stamp, "a text that is none", item)]
        if done:
            self._parts.pop(place, None)
            if string(item.get("phase")):
                marks["phase"] = item["phase"]
            return self.texts.final(stamp, type, place, text, **marks)
        told = self._parts.get(place, "")
        if not text.startswith(told):
            return []  # written anew: the whole comes at the end
        self._parts[place] = text
        return self.texts.part(stamp, type, place, text[len(told) :])

    def _command(self, item: dict[str, JSON], done: bool, stamp: Stamp) -> list[Draft]:
        place, command = self._id(item), item.get("command")
        act: Act | None = None
        if place not in self.calls:
            act = Act("command_execution", {"command": command}, unwrapped(command))
        if not done:
            return self._called(place, act, stamp)
        code, status, text = (
            whole(item.get("exit_code")),
            string(item.get("status")),
            flat(item.get("aggregated_output")),
        )
        return self.acts.returned(
            stamp,
            place,
            text,
            act,
            ok=status in ("completed", "") and code in (0, None),
            exit_code=code,
            detail={"status": status} if status not in ("completed", "failed", "") or code is None else None,
            failed="" if text.strip() else f"exit status {code}" if code is not None else _why("command", status),
        )

    def _files(self, item: dict[str, JSON], done: bool, stamp: Stamp) -> list[Draft]:
        place = self._id(item)
        act = Act("file_change", {"changes": item.get("changes")}, edits=listed(item.get("changes")))
        if not done:
            return self._called(place, act, stamp)
        status = string(item.get("status"))
        ok = status in ("completed", "")
        return self.acts.returned(stamp, place, "", act, ok=ok, failed=_why("change", status))

    def _mcp(self, item: dict[str, JSON], done: bool, stamp: Stamp) -> list[Draft]:
        place = self._id(item)
        act = mcp_act(string(item.get("server")), string(item.get("tool")), as_object(item.get("arguments")))
        if not done:
            return self._called(place, act, stamp)
        text, ok, media = mcp_result(item.get("result"), item.get("error"))
        ok = ok and item.get("status") != "failed"
        return self.acts.returned(stamp, place, text, act, ok=ok, whole=media)

    def _search(self, item: dict[str, JSON], done: bool, stamp: Stamp) -> list[Draft]:
        place, text = self._id(item), search_text(item)
        given: dict[str, JSON] = {name: item[name] for name in ("query", "action") if name in item}
        act = Act("web_search", given, text, "Web search")
        if not done:
            return self._called(place, act, stamp)
        found = flat(item.get("results")) or text
        detail = {"action": string(mapping(item.get("action")).get("type")), "query": text}
        return self.acts.returned(stamp, place, found, act, ok=True, detail=detail)

    def _agents(self, item: dict[str, JSON], done: bool, stamp: Stamp) -> list[Draft]:
        """A sub-agent is started, told something, waited for or closed; what it does itself is not printed."""
        place, tool = self._id(item), string(item.get("tool")) or "collab_tool_call"
        shown = ("prompt", "receiver_thread_ids")
        given: dict[str, JSON] = {name: item[name] for name in shown if item.get(name)}
        act = Act(tool, given, string(item.get("prompt")), background=tool == "spawn_agent")
        if not done:
            return self._called(place, act, stamp)
        states = mapping(item.get("agents_states"))
        text = "\n".join(_state(thread, mapping(state)) for thread, state in states.items())
        detail = {"receiver_thread_ids": items(item.get("receiver_thread_ids"))} if not states else None
        ok = item.get("status") != "failed"
        return self.acts.returned(stamp, place, text, act, ok=ok, detail=detail)

    def _todo(self, item: dict[str, JSON], done: bool, stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - one shape for all
        if type(item.get("items")) is not list:
            return [self.raw(stamp, "a list that is none", item)]
        return self.plans.replaced(steps_of(item["items"]), None, stamp.at)

    def _warning(self, item: dict[str, JSON], done: bool, stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - one shape for all
        return error("warning", string(item.get("message")) or encode(item).decode(), stamp.at)

    def _called(self, place: str, act: Act | None, stamp: Stamp) -> list[Draft]:
        """A call, unless it is open already: an update of one says nothing."""
        return [] if act is None or place in self.calls else [self.acts.called(stamp, place, act)]

    def _old(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """A line of the shape before September 2025."""
        message = mapping(found.get("msg"))
        kind = string(message.get("type"))
        if kind:
            self.ready = True
            reader = EVENTS.get(kind)
            if reader is not None:
                return reader(self, message, stamp)
            return [] if kind in SILENT else [self.raw(stamp, f"unknown message {shortened(kind, 100)!r}", found)]
        if string(found.get("workdir")):
            self.model = string(found.get("model"))
            self.learn(model=self.model, cwd=string(found.get("workdir")))
            return []
        if found.keys() == {"prompt"}:
            return self.texts.final(stamp, "agent_output", "prompt", string(found["prompt"]), role="user")
        return [self.raw(stamp, "no type", found)]


def _why(what: str, status: str) -> str:
    """Why something came to nothing, when only its status says so."""
    return f"the {what} failed" if status in ("failed", "") else f"the {what} was {status}"


def _state(thread: str, state: dict[str, JSON]) -> str:
    """The last that is known of a sub-agent."""
    return ": ".join(text for text in (thread, string(state.get("status")), string(state.get("message"))) if text)


_ITEMS: dict[str, Callable[[Codex, dict[str, JSON], bool, Stamp], list[Draft]]] = {
    "agent_message": Codex._message,  # noqa: SLF001 - the class's own table
    "assistant_message": Codex._message,  # noqa: SLF001 - the class's own table
    "collab_tool_call": Codex._agents,  # noqa: SLF001 - the class's own table
    "command_execution": Codex._command,  # noqa: SLF001 - the class's own table
    "error": Codex._warning,  # noqa: SLF001 - the class's own table
    "file_change": Codex._files,  # noqa: SLF001 - the class's own table
    "mcp_tool_call": Codex._mcp,  # noqa: SLF001 - the class's own table
    "plan": Codex._plan,  # noqa: SLF001 - the class's own table
    "reasoning": Codex._reasoning,  # noqa: SLF001 - the class's own table
    "todo_list": Codex._todo,  # noqa: SLF001 - the class's own table
    "web_search": Codex._search,  # noqa: SLF001 - the class's own table
}

_READERS: dict[str, Callable[[Codex, dict[str, JSON], Stamp], list[Draft]]] = {
    "error": Codex._error,  # noqa: SLF001 - the class's own table
    "item.completed": Codex._item,  # noqa: SLF001 - the class's own table
    "item.plan.delta": Codex._plan_part,  # noqa: SLF001 - the class's own table
    "item.started": Codex._item,  # noqa: SLF001 - the class's own table
    "item.updated": Codex._item,  # noqa: SLF001 - the class's own table
    "request_user_input": questions,
    "session.created": Codex._began,  # noqa: SLF001 - the class's own table
    "thread.started": Codex._began,  # noqa: SLF001 - the class's own table
    "turn.completed": Codex._turn_completed,  # noqa: SLF001 - the class's own table
    "turn.failed": Codex._turn_failed,  # noqa: SLF001 - the class's own table
    "turn.started": Codex._turn_began,  # noqa: SLF001 - the class's own table
}
