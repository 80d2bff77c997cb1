"""Qwen Code: ``--output-format stream-json`` with and without partial messages, and ``json``, the same as an array.

The rules this module keeps: its lines look like Claude Code's and are told from them by what Claude Code never writes;
an API that failed for good is a failed turn, though the result says ``success``, ``is_error: false`` and the status 0.

Source: ``packages/cli/src/nonInteractive/types.ts`` of QwenLM/qwen-code, and recordings; see ``docs/formats/qwen.md``.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Outcome, Sureness
from agentpipe.parse.agents.messages import Found, Messages, Returned
from agentpipe.parse.gemini.tools import CANCELLED, Effects, exit_code_of, keeps_input, kind_of, title_of
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.calls import Call
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.usage import Tokens, Totals, tokens, update

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["Qwen"]

#: How the program begins what it says, in the model's name, of an API that failed for good.
_API_FAILED = "[API Error: "

#: Kinds of line that Claude Code writes too.
_TYPES = frozenset({"assistant", "result", "stream_event", "system", "user"})

#: What only Claude Code's lines have.
_NOT_OURS = frozenset({
    "api_message_id", "claude_code_version", "parentUuid", "sessionId", "timestamp", "tool_use_result",
    "total_cost_usd",
})  # fmt: skip


class Qwen(Messages):
    """The adapter of Qwen Code for the lines of one run; see `agentpipe.parse.adapter.Adapter`."""

    name = "qwen"
    agent = "qwen"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # given
        self._effects = Effects(self.plans, options.max_content)
        # changing
        self._reported = Totals()  # the last result's, a total of the session
        self._api_failure = ""  # what the last answer said of it
        self._cancelled = 0  # the last line by which the user broke a call off; lines count from 1

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """Every line has an id and a session; a message has the id of its line; what has no mark may be Claude's."""
        kind = found.get("type")
        if type(kind) is not str or kind not in _TYPES:
            return Sureness.NO
        if type(found.get("uuid")) is not str or type(found.get("session_id")) is not str:
            return Sureness.NO
        return _MARKS[kind](found) if _NOT_OURS.isdisjoint(found) else Sureness.NO

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Every line has it."""
        return string(found.get("session_id"))

    def kind_of(self, name: str) -> "Kind":
        """The kind of the tool called *name*."""
        return kind_of(name)

    def title_of(self, name: str, given: Found) -> str:
        """How a call reads on one line."""
        return title_of(name, given)

    def keeps_input(self, name: str) -> bool:
        """Files, to-do lists, and what a later write overwrites."""
        return keeps_input(name)

    def meaning(self, call: Call, text: str, *, failed: bool) -> Returned:
        """A command that failed is no error to the program; its status is told when it printed nothing."""
        status = exit_code_of(call.name, text)
        if text.startswith(CANCELLED):
            self._cancelled = self.lines
            return Returned(False, status)
        return Returned(not failed and not status, status)

    def effects(self, stamp: Stamp, tool_use_id: str, call: Call, text: str) -> list[Draft]:
        """Files and to-do lists."""
        return self._effects.of(stamp, tool_use_id, call, text)

    def tokens_of(self, usage: Found) -> Tokens:
        """The input counts the cached tokens too: it and the output make ``total_tokens``."""
        read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
        return tokens(usage.get("input_tokens"), usage.get("output_tokens"), read, written, includes_cache=True)

    def facts_of(self, found: Found) -> Found:
        """The model and the version."""
        return {"agent_version": string(found.get("qwen_code_version")), "model": string(found.get("model"))}

    def api_failure(self, message: Found) -> str:
        """The program says it in one text, for which nothing was used."""
        blocks = items(message.get("content"))
        text = string(mapping(blocks[0]).get("text")) if len(blocks) == 1 else ""
        if not text.startswith(_API_FAILED) or whole(mapping(message.get("usage")).get("output_tokens")):
            self._api_failure = ""
            return ""
        self._api_failure = text
        return text

    def outcome(self) -> Outcome:
        """A run that was interrupted tells no result: a call that the user broke off is the last thing said."""
        return self.turns.outcome(cancelled=self.lines > 0 and self._cancelled == self.lines)

    def system_line(self, found: Found, stamp: Stamp) -> list[Draft] | None:
        """Small lines, whose facts are in ``data``."""
        reader = _SUBTYPES.get(string(found.get("subtype")))
        return reader(mapping(found.get("data")), stamp.at) if reader is not None else None

    def result_line(self, found: Found, stamp: Stamp) -> list[Draft]:
        """The end of a turn; its usage is a total of the session."""
        problem, took_ms = mapping(found.get("error")), whole(found.get("duration_ms"))
        failed = found.get("is_error") is True or string(found.get("subtype")).startswith("error")
        if failed and not took_ms and any(call.kind == "think" for call in self.calls.open.values()):
            return error("warning", string(problem.get("message")) or "a sub-agent failed", stamp.at)
        counts = self.tokens_of(mapping(found.get("usage")))
        used: Tokens = {}
        out: list[Draft] = []
        if any(counts.values()):
            used, _ = self._reported.grown(counts)
            self.turns.totals.counts = dict(counts)
            out = update(stamp, counts, cumulative=True)
        text, said = string(found.get("result")), self._api_failure
        self._api_failure = ""
        api_failed = bool(said) and text == said
        return out + self.turns.ended(
            stamp,
            ok=not failed and not api_failed,
            result=text,
            failed=string(problem.get("message")) or text or string(found.get("subtype")),
            code=string(problem.get("type")) or (string(found.get("subtype")) if failed else ""),
            usage=used,
            duration_ms=took_ms,
            num_turns=whole(found.get("num_turns")),
        )


def _uncertain(found: Mapping[str, JSON]) -> Sureness:
    body = found.get("event") if found.get("type") == "stream_event" else found.get("message")
    return Sureness.LIKELY if type(body) is dict else Sureness.NO


def _marks_of_system(found: Mapping[str, JSON]) -> Sureness:
    """The facts of a small line are in ``data``; one without any has the key of the call that it belongs to."""
    if type(found.get("subtype")) is not str:
        return Sureness.NO
    if "qwen_code_version" in found or "data" in found:
        return Sureness.SURE
    return Sureness.LIKELY if "parent_tool_use_id" in found else Sureness.NO


def _marks_of_assistant(found: Mapping[str, JSON]) -> Sureness:
    """Claude Code's messages have the API's id, or another id than their line."""
    return Sureness.SURE if mapping(found.get("message")).get("id") == found["uuid"] else Sureness.NO


def _marks_of_event(found: Mapping[str, JSON]) -> Sureness:
    """The program makes the events itself: a message starts without usage."""
    event = mapping(found.get("event"))
    if event.get("type") != "message_start":
        return Sureness.NO if event.get("type") == "message_delta" else _uncertain(found)
    return Sureness.NO if "usage" in mapping(event.get("message")) else Sureness.SURE


def _marks_of_result(found: Mapping[str, JSON]) -> Sureness:
    """A result of Claude Code tells its cost."""
    return Sureness.SURE if type(found.get("is_error")) is bool and "duration_api_ms" in found else Sureness.NO


_MARKS: dict[str, Callable[[Mapping[str, JSON]], Sureness]] = {
    "assistant": _marks_of_assistant,
    "result": _marks_of_result,
    "stream_event": _marks_of_event,
    "system": _marks_of_system,
    "user": _uncertain,
}


def _nothing(data: Found, at: str) -> list[Draft]:  # noqa: ARG001 - one shape for all
    return []


def _notification(data: Found, at: str) -> list[Draft]:
    """The end of something in the background."""
    status = string(data.get("status")) or "ended"
    said = string(data.get("summary")) or string(data.get("description"))
    ids = {name: string(data.get(name)) for name in ("task_id", "tool_use_id")}
    level = "info" if status == "completed" else "warning"
    return log(level, f"task {status}{': ' if said else ''}{said}", at, "task", **ids)


def _ui_log(data: Found, at: str) -> list[Draft]:
    return log("info", string(data.get("text")), at, string(data.get("plugin")) or "qwen")


def _continue_failed(data: Found, at: str) -> list[Draft]:
    return error("warning", string(data.get("error")) or "the turn could not go on", at, code="continue_turn_failed")


def _tool_denied(data: Found, at: str) -> list[Draft]:
    said = string(data.get("message")) or f"{string(data.get('tool'))} was denied"
    return error("warning", said, at, code="permission_denied")


def _compacted(data: Found, at: str) -> list[Draft]:
    before = whole(data.get("pre_tokens"))
    return log("info", f"context compacted{f': {before} tokens before' if before else ''}", at, "compact")


_SUBTYPES: dict[str, Callable[[Found, str], list[Draft]]] = {
    "compact_boundary": _compacted,
    "compaction": _compacted,
    "continue_turn_failed": _continue_failed,
    "session_end": _nothing,
    "session_start": _nothing,
    "task_notification": _notification,
    "tool_denied": _tool_denied,
    "ui_log": _ui_log,
}
