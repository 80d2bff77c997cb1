"""pi: ``pi -p --mode json``, also of its descendants (omp).

The rules this module keeps: an update repeats the whole message so far, of which only what is new is looked at; what
``message_end``, ``turn_end`` and ``agent_end`` repeat is told once; a failed end that a retry follows is a warning and
no turn.

Source: the types of ``AgentSessionEvent`` in the program's documentation and a saved log; see ``docs/formats/pi.md``.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agentpipe.event import JSON, timestamp
from agentpipe.parse.adapter import Clock, Draft, Moment, Sureness, source_time
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.calls import Call
from agentpipe.parse.vocabulary.content import flat, media_of, shortened
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, number, string, whole
from agentpipe.parse.vocabulary.files import FilesMet, changed, counted, edited, written
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.texts import TextType
from agentpipe.parse.vocabulary.titles import title_of
from agentpipe.parse.vocabulary.usage import Tokens, tokens, update

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["Pi"]

_Found = dict[str, JSON]

#: What says nothing: the beginning of what is told at its end, what repeats, and the program's own state.
_SILENT = frozenset({
    "agent_settled", "agent_start", "entry_appended", "queue_update", "session_info_changed",
    "summarization_retry_finished", "thinking_level_changed", "tool_execution_update", "turn_end", "turn_start",
})  # fmt: skip

#: Types that nobody else prints, and the field without which they are not pi's.
_OWN: dict[str, tuple[str, type]] = {
    "agent_end": ("messages", list),
    "agent_start": ("type", str),
    "auto_compaction_end": ("type", str),
    "auto_compaction_start": ("type", str),
    "auto_retry_end": ("attempt", int),
    "auto_retry_start": ("attempt", int),
    "message_end": ("message", dict),
    "message_start": ("message", dict),
    "message_update": ("assistantMessageEvent", dict),
    "session": ("cwd", str),
    "tool_execution_end": ("toolCallId", str),
    "tool_execution_start": ("toolCallId", str),
    "tool_execution_update": ("toolCallId", str),
    "turn_end": ("message", dict),
    "turn_start": ("type", str),
}

_KINDS: "dict[str, Kind]" = {
    "bash": "execute",
    "edit": "edit",
    "find": "search",
    "grep": "search",
    "ls": "search",
    "read": "read",
    "web_fetch": "fetch",
    "web_search": "fetch",
    "write": "edit",
}
_FILE_TOOLS = frozenset({"edit", "read", "write"})

_EXIT = "Command exited with code "

#: The blocks of a message that are texts, and the field that holds each.
_TEXTS: dict[str, tuple[TextType, str]] = {"text": ("agent_output", "text"), "thinking": ("agent_thinking", "thinking")}

#: The updates that carry text: its type, the field, and whether it is whole.
_UPDATES: dict[str, tuple[TextType, str, bool]] = {
    "text_delta": ("agent_output", "delta", False),
    "text_end": ("agent_output", "content", True),
    "thinking_delta": ("agent_thinking", "delta", False),
    "thinking_end": ("agent_thinking", "content", True),
}

#: The latest time that a timestamp can tell, in milliseconds.
_LATEST_MS = 253_402_300_799_000


class Pi(Account):
    """The adapter of pi for the lines of one run."""

    name = "pi"
    agent = "pi"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # changing
        self._messages = 0  # that have begun: a message has no id of its own
        self._speaking = False  # whether the last one of them goes on
        self._told: set[int] = set()  # blocks of the present message that were told whole
        self._latest_ms = 0.0
        self._turn: Tokens = {}  # used since the last turn's end
        self._turn_cost: float | None = None
        self._last: _Found = {}  # the last message of the assistant
        self._met = FilesMet()
        self._failed: tuple[Stamp, str] | None = None  # an end that a retry may follow

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """Its types are nobody else's, when they have what pi puts in."""
        kind = found.get("type")
        rule = _OWN.get(kind) if type(kind) is str else None
        if rule is None:
            return Sureness.LIKELY if type(kind) is str and kind in _READERS else Sureness.NO
        value = found.get(rule[0])
        if type(value) is not rule[1]:
            return Sureness.NO
        if kind == "session":
            return Sureness.SURE if type(found.get("id")) is str and "version" in found else Sureness.NO
        if rule[0] == "message":
            return Sureness.SURE if type(value) is dict and "role" in value else Sureness.NO
        return Sureness.SURE

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Named by the first line alone."""
        return string(found.get("id")) if found.get("type") == "session" else ""

    def read(self, found: _Found, moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        kind = string(found.get("type"))
        self.ready = True
        if kind == "message_update":
            return self._update(mapping(found.get("assistantMessageEvent")), moment, size, found)
        if kind in _SILENT:
            return []
        stamp = self.stamp(self._time_of(kind, found), moment, size)
        reader = _READERS.get(kind)
        if reader is None:
            return [self.raw(stamp, f"unknown type {shortened(kind, 100)!r}", found)]
        if self._failed is None or kind == "auto_retry_start":
            return reader(self, found, stamp)
        gave_up = kind == "auto_retry_end" and found.get("success") is False  # which says itself why
        return self._turn_failed(known=gave_up) + reader(self, found, stamp)

    def finish(self, moment: Moment) -> list[Draft]:
        """Tell the end that no retry followed, and whole the texts that were cut."""
        return super().finish(moment) + self._turn_failed()

    def _time_of(self, kind: str, found: _Found) -> str | None:
        """When a message began, which its end repeats: only a later time than any before is news."""
        told = found.get("timestamp") if kind == "session" else mapping(found.get("message")).get("timestamp")
        if type(told) is str:
            return source_time(told)
        at_ms = number(told)
        if at_ms is None or not self._latest_ms < at_ms < _LATEST_MS:
            return None
        self._latest_ms = at_ms
        return timestamp(at_ms / 1000 + 0.0005)

    def _session(self, found: _Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - every reader's shape
        self.learn(session_id=string(found.get("id")), cwd=string(found.get("cwd")))
        return []

    # ---- messages

    def _update(self, event: _Found, moment: Moment, size: int, found: _Found) -> list[Draft]:
        """What is new in a message; the rest of the line is the message so far, which is not looked at."""
        kind = event.get("type")
        rule = _UPDATES.get(kind) if type(kind) is str else None
        if rule is None:
            known = type(kind) is str and kind.startswith(("done", "error", "start", "text_", "thinking_", "toolcall_"))
            if known:
                return []
            return [self.raw(self.stamp(None, moment, size), "unknown update", found)]
        type_, field, final = rule
        text, index = string(event.get(field)), whole(event.get("contentIndex")) or 0
        stamp = self.stamp(None, moment, size)
        message = self._present()
        if not final:
            return self.texts.part(stamp, type_, message, text, index)
        self._told.add(index)
        return (
            self.texts.final(stamp, type_, message, text or None, index) if text or self._is_open(type_, index) else []
        )

    def _is_open(self, type_: TextType, index: int) -> bool:
        return self.texts.is_open(type_, f"message-{self._messages}", index)

    def _present(self) -> str:
        """The id of the message that goes on; one begins when its start was not seen."""
        if not self._speaking:
            self._messages, self._speaking = self._messages + 1, True
        return f"message-{self._messages}"

    def _begin(self, found: _Found, stamp: Stamp) -> list[Draft]:
        message = mapping(found.get("message"))
        if message.get("role") != "assistant":
            return []
        out = self.texts.settle(stamp, aborted=True)  # of a message that never ended
        self._speaking = False
        self._present()
        self._told.clear()
        self.learn(model=string(message.get("model")))
        return out

    def _end(self, found: _Found, stamp: Stamp) -> list[Draft]:
        message = mapping(found.get("message"))
        role = message.get("role")
        if role == "assistant":
            return self._answered(message, stamp)
        if role == "toolResult":
            call_id = string(message.get("toolCallId"))
            return self._result(call_id, message, message, stamp) if call_id in self.calls else []
        content = message.get("content")
        if role == "user":
            self._messages += 1
            told = self.texts.final(stamp, "agent_output", f"message-{self._messages}", flat(content), role="user")
            for draft in told:
                draft.whole = media_of(content)
            return told
        said = flat(content) or string(message.get("summary")) or string(message.get("command"))
        return log("info", said or string(role), stamp.at, string(role) or "message")

    def _answered(self, message: _Found, stamp: Stamp) -> list[Draft]:
        """The whole message: its texts that were not told yet, and what it used."""
        self._last = message
        name = self._present()
        out: list[Draft] = []
        for index, block in enumerate(map(mapping, items(message.get("content")))):
            rule = _TEXTS.get(string(block.get("type")))
            if rule is None or index in self._told:
                continue
            text = string(block.get(rule[1]))
            if text or self._is_open(rule[0], index):
                out += self.texts.final(stamp, rule[0], name, text or None, index)
        self._told.clear()
        self._speaking = False
        self.learn(model=string(message.get("model")))
        return out + self._used(message, stamp)

    def _used(self, message: _Found, stamp: Stamp) -> list[Draft]:
        usage = mapping(message.get("usage"))
        counts = tokens(*(usage.get(name) for name in ("input", "output", "cacheRead", "cacheWrite")))
        cost = number(mapping(usage.get("cost")).get("total"))
        if not any(counts.values()) and not cost:
            return []  # an answer that never came
        self.turns.totals.add(counts, cost)
        for name, count in counts.items():
            self._turn[name] = self._turn.get(name, 0) + count
        if cost is not None:
            self._turn_cost = round((self._turn_cost or 0.0) + cost, 9)
        held = sum(counts.values()) - counts.get("output_tokens", 0)
        return update(
            stamp, counts, cumulative=False, model=string(message.get("model")), cost=cost, context=held or None
        )

    # ---- tools

    def _call(self, found: _Found, stamp: Stamp) -> list[Draft]:
        name, given = string(found.get("toolName")) or "unknown", mapping(found.get("args"))
        call_id = string(found.get("toolCallId")) or "unknown"
        kind = _KINDS.get(name, "other")
        keep = name in _FILE_TOOLS
        return [self.calls.call(stamp, call_id, name, kind, title_of(name, given), given, keep=keep)]

    def _returned(self, found: _Found, stamp: Stamp) -> list[Draft]:
        return self._result(string(found.get("toolCallId")) or "unknown", found, mapping(found.get("result")), stamp)

    def _result(self, call_id: str, found: _Found, result: _Found, stamp: Stamp) -> list[Draft]:
        name = string(found.get("toolName")) or "unknown"
        call = self.calls.take(call_id, stamp, name, _KINDS.get(name, "other"))
        content = result.get("content") if result else found.get("result")
        text = flat(content)
        ok = found.get("isError") is not True
        status = None if ok or call.kind != "execute" else _exit_code(text)
        out = self.calls.result(stamp, call_id, call, text, ok=ok, exit_code=status, whole=media_of(content))
        if ok and call.input is not None:
            out += self._file(stamp, call_id, call, mapping(result.get("details")))
        return out

    def _file(self, stamp: Stamp, call_id: str, call: Call, details: _Found) -> list[Draft]:
        """The file that a successful call changed, if it did."""
        given = call.input or {}
        path = string(given.get("path")) or string(given.get("file_path"))
        if not path:
            return []
        met = self._met.meet(path)
        if call.name != "edit":
            return [written(stamp, path, call_id, given.get("content"), met=met)] if call.name == "write" else []
        shown, patch = string(details.get("diff")), string(details.get("patch"))
        if "@@" not in shown:  # mostly it is lines with their numbers, for people
            counts = counted(shown) if shown else _edits(given)
        else:
            counts, patch = counted(shown), patch or shown
        return [changed(stamp, path, "modified", call_id, counts=counts, patch=patch, limit=self.limit)]

    # ---- the end

    def _agent_end(self, found: _Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - every reader's shape
        out = self.texts.settle(stamp)
        reason = self._last.get("stopReason")
        if reason == "error":
            self._failed = stamp, string(self._last.get("errorMessage")) or "the model failed"
            return out
        if reason == "aborted":
            return out + self._turn_ended(stamp, ok=False, failed="aborted", cancelled=True)
        said = "\n".join(
            string(block.get("text"))
            for block in map(mapping, items(self._last.get("content")))
            if block.get("type") == "text"
        )
        return out + self._turn_ended(stamp, ok=True, result=said)

    def _turn_ended(
        self, stamp: Stamp, *, ok: bool, result: str = "", failed: str = "", cancelled: bool = False
    ) -> list[Draft]:
        counts, cost, reason = self._turn, self._turn_cost, string(self._last.get("stopReason"))
        self._turn, self._turn_cost, self._last = {}, None, {}
        return self.turns.ended(
            stamp, ok=ok, result=result, failed=failed, cancelled=cancelled, usage=counts, cost_usd=cost,
            stop_reason=reason,
        )  # fmt: skip

    def _turn_failed(self, *, known: bool = False) -> list[Draft]:
        """The model's API has failed for good, and with it the turn; *known* when the next line tells the first."""
        if self._failed is None:
            return []
        stamp, said = self._failed
        self._failed = None
        why = [] if known else error("agent", said, stamp.at)
        return [*why, *self._turn_ended(stamp, ok=False, failed=said)]

    def _retry(self, found: _Found, stamp: Stamp) -> list[Draft]:
        self._failed = None
        said = string(found.get("errorMessage")) or "retrying"
        return error(
            "warning", said, stamp.at, code="retry", attempt=whole(found.get("attempt")),
            retry_in_ms=whole(found.get("delayMs")),
        )  # fmt: skip

    def _retried(self, found: _Found, stamp: Stamp) -> list[Draft]:
        if found.get("success") is not False:
            return []
        said = string(found.get("finalError")) or "all retries failed"
        return error("agent", said, stamp.at, attempt=whole(found.get("attempt")))

    def _compacting(self, found: _Found, stamp: Stamp) -> list[Draft]:
        reason = string(found.get("reason"))
        return log("info", f"compacting the conversation: {reason}".rstrip(": "), stamp.at, "compaction")

    def _compacted(self, found: _Found, stamp: Stamp) -> list[Draft]:
        said = string(found.get("errorMessage"))
        if said:
            return error("warning", said, stamp.at, code="compaction")
        if found.get("aborted") is True:
            return log("warning", "compaction was aborted", stamp.at, "compaction")
        before = whole(mapping(found.get("result")).get("tokensBefore"))
        more = f", {before} tokens before" if before else ""
        return log("info", f"compacted the conversation{more}", stamp.at, "compaction")

    def _extension(self, found: _Found, stamp: Stamp) -> list[Draft]:
        return error("warning", string(found.get("error")) or "an extension failed", stamp.at, code="extension_error")


def _exit_code(text: str) -> int | None:
    """The status of a failed command, which its output ends with."""
    place = text.rfind(_EXIT)
    said = text[place + len(_EXIT) :].strip() if place >= 0 else ""
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 12 else None


def _edits(given: _Found) -> tuple[int, int] | None:
    """Lines added and removed as the call itself tells them; None when it does not."""
    added = removed = 0
    for one in [mapping(one) for one in items(given.get("edits"))] or [given]:
        old, new = one.get("oldText"), one.get("newText")
        if type(old) is not str or type(new) is not str:
            return None
        more, less = edited(old, new)
        added, removed = added + more, removed + less
    return added, removed


_READERS: dict[str, Callable[[Pi, _Found, Stamp], list[Draft]]] = {
    "agent_end": Pi._agent_end,  # noqa: SLF001 - the class's own table
    "auto_compaction_end": Pi._compacted,  # noqa: SLF001 - the class's own table
    "auto_compaction_start": Pi._compacting,  # noqa: SLF001 - the class's own table
    "auto_retry_end": Pi._retried,  # noqa: SLF001 - the class's own table
    "auto_retry_start": Pi._retry,  # noqa: SLF001 - the class's own table
    "compaction_end": Pi._compacted,  # noqa: SLF001 - the class's own table
    "compaction_start": Pi._compacting,  # noqa: SLF001 - the class's own table
    "extension_error": Pi._extension,  # noqa: SLF001 - the class's own table
    "message_end": Pi._end,  # noqa: SLF001 - the class's own table
    "message_start": Pi._begin,  # noqa: SLF001 - the class's own table
    "session": Pi._session,  # noqa: SLF001 - the class's own table
    "summarization_retry_scheduled": Pi._retry,  # noqa: SLF001 - the class's own table
    "tool_execution_end": Pi._returned,  # noqa: SLF001 - the class's own table
    "tool_execution_start": Pi._call,  # noqa: SLF001 - the class's own table
}
