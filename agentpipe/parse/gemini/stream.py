"""Gemini CLI: ``--output-format stream-json``, and the one object that ``--output-format json`` prints at the end.

The rules this module keeps: text comes in parts only, so what has no end of its own ends with the next call, the next
words of the user or the result; an edit shows no output, so what it changed is taken from its input, and only when it
succeeded.

Source: ``packages/cli/src/nonInteractiveCli.ts`` of gemini-cli, and recordings; see ``docs/formats/gemini.md``.
"""

from collections.abc import Callable, Mapping

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment, Sureness, source_time
from agentpipe.parse.gemini.tools import CANCELLED, Effects, exit_code_of, keeps_input, kind_of, title_of
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.content import flat, shortened
from agentpipe.parse.vocabulary.drafts import error
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.usage import Tokens, tokens, update

__all__ = ["Gemini"]

_Found = dict[str, JSON]

#: How the program begins what it says of an API that failed for good.
_API_FAILED = "[API Error"


class Gemini(Account):
    """The adapter of Gemini CLI for the lines of one run; see `agentpipe.parse.adapter.Adapter`."""

    name = "gemini"
    agent = "gemini"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # given
        self._effects = Effects(self.plans, options.max_content)
        # changing
        self._messages = 0
        self._speaking = ""  # the id of the agent's message that goes on
        self._answer = ""  # the agent's last whole text of the turn: the stream's end does not repeat it
        self._broken = ""  # the last error line since a turn ended

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """The type, the time and what only Gemini CLI calls so; no line of it has an id of its own."""
        kind = found.get("type")
        if kind is None:
            return _recognises_report(found)
        test = _MARKS.get(kind) if type(kind) is str else None
        if test is None or type(found.get("timestamp")) is not str or "uuid" in found or "sessionId" in found:
            return Sureness.NO
        return test(found)

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Only the first line tells it, and the report of ``--output-format json``."""
        return string(found.get("session_id"))

    def read(self, found: _Found, moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        self.ready = True
        stamp = self.stamp(source_time(found.get("timestamp")), moment, size)
        before = self.ticks(stamp, moment)
        kind = found.get("type")
        reader = _READERS.get(kind) if type(kind) is str else None
        if reader is not None and not (kind in _NAMED and _NAMED[kind].isdisjoint(found)):
            told = reader(self, found, stamp)
        elif kind is None and _recognises_report(found):
            told = self._report(found, stamp)
        else:
            told = [self.raw(stamp, f"unknown type {shortened(string(kind), 100)!r}", found)]
        return [*before, *told] if before else told

    def _init(self, found: _Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - one shape for all readers
        self.learn(session_id=string(found.get("session_id")), model=string(found.get("model")))
        return []

    def _message(self, found: _Found, stamp: Stamp) -> list[Draft]:
        content = found.get("content")
        text = content if type(content) is str else flat(content)
        if found.get("role") == "assistant":
            return self._said(text, stamp, part=found.get("delta") is True)
        out = self._silence(stamp)
        return out + self.texts.final(stamp, "agent_output", self._next(), text, role="user")

    def _said(self, text: str, stamp: Stamp, *, part: bool) -> list[Draft]:
        if not self._speaking:
            self._speaking = self._next()
        if part:
            return self.texts.part(stamp, "agent_output", self._speaking, text)
        return self._whole(stamp, text)

    def _silence(self, stamp: Stamp) -> list[Draft]:
        """Somebody else has the word: the agent's message was whole."""
        return self._whole(stamp) if self._speaking else []

    def _whole(self, stamp: Stamp, text: str | None = None) -> list[Draft]:
        name, self._speaking = self._speaking, ""
        told = self.texts.final(stamp, "agent_output", name, text)
        self._answer = string(told[0].payload["text"]) if told else self._answer
        return told

    def _next(self) -> str:
        self._messages += 1
        return f"message-{self._messages}"

    def _call(self, found: _Found, stamp: Stamp) -> list[Draft]:
        name, given = string(found.get("tool_name")) or "unknown", mapping(found.get("parameters"))
        call_id = string(found.get("tool_id")) or "unknown"
        keep = keeps_input(name)
        call = self.calls.call(stamp, call_id, name, kind_of(name), title_of(name, given), given, keep=keep)
        return [*self._silence(stamp), call]

    def _result_of_call(self, found: _Found, stamp: Stamp) -> list[Draft]:
        call_id = string(found.get("tool_id")) or "unknown"
        call = self.calls.take(call_id, stamp)
        problem = mapping(found.get("error"))
        failed, output = string(problem.get("message")), found.get("output")
        text = output if type(output) is str else flat(output) or failed
        status = exit_code_of(call.name, text)
        ok = found.get("status") != "error" and not problem and not status and not text.startswith(CANCELLED)
        kind = string(problem.get("type"))
        detail = {"error_type": kind} if kind else None
        out = self.calls.result(stamp, call_id, call, text, ok=ok, exit_code=status, detail=detail, failed=failed)
        return out + self._effects.of(stamp, call_id, call, text) if ok else out

    def _error(self, found: _Found, stamp: Stamp) -> list[Draft]:
        """A warning (a loop was found), or what ends the turn (too many turns), whose result may be a success."""
        message = string(found.get("message")) or "unknown error"
        if found.get("severity") != "error":
            return error("warning", message, stamp.at)
        self._broken = message
        return error("turn", message, stamp.at)

    def _result(self, found: _Found, stamp: Stamp) -> list[Draft]:
        stats, out = mapping(found.get("stats")), self._silence(stamp)
        models = mapping(stats.get("models"))
        counts = tokens(stats.get("input_tokens"), stats.get("output_tokens"), stats.get("cached"), includes_cache=True)
        used = [name for name, row in models.items() if whole(mapping(row).get("total_tokens"))]
        out += self._used(stamp, counts, used)
        return out + self._turn(stamp, found, counts, whole(stats.get("duration_ms")))

    def _turn(self, stamp: Stamp, found: _Found, counts: Tokens, took_ms: int | None) -> list[Draft]:
        """The end of the turn; the stats are the session's."""
        problem, broken = mapping(found.get("error")), self._broken
        answer, self._broken, self._answer = self._answer, "", ""
        grown, _ = self.turns.totals.grown(counts)
        failed = string(problem.get("message"))
        told = self.turns.ended(
            stamp,
            ok=found.get("status") != "error" and not problem and not broken,
            failed=failed or broken,
            result=string(found.get("response")) or answer,
            code=_code(problem),
            usage=grown,
            duration_ms=took_ms or None,
            cancelled=problem.get("type") == "FatalCancellationError",
        )
        if failed.startswith(_API_FAILED):
            return [*error("agent", failed, stamp.at, code=_code(problem)), *told]
        return told[-1:] if broken and not failed else told  # an error line told it when it came

    def _used(self, stamp: Stamp, counts: Tokens, models: list[str]) -> list[Draft]:
        """What the session has used; the model is told when there was but one."""
        return update(stamp, counts, cumulative=True, model=models[0] if len(models) == 1 else "")

    def _report(self, found: _Found, stamp: Stamp) -> list[Draft]:
        """The whole run in one object: its answer and its sums, without its calls."""
        self.learn(session_id=string(found.get("session_id")))
        text = string(found.get("response"))
        out = self.texts.final(stamp, "agent_output", self._next(), text) if text else []
        for warning in map(string, items(found.get("warnings"))):
            out += error("warning", warning, stamp.at) if warning else []
        models = mapping(mapping(found.get("stats")).get("models"))
        used = {name: _tokens_of(mapping(row)) for name, row in models.items()}
        counts = {key: sum(row.get(key, 0) for row in used.values()) for row in used.values() for key in row}
        out += self._used(stamp, counts, [name for name, row in used.items() if sum(row.values())])
        return out + self._turn(stamp, found, counts, None)


def _tokens_of(row: _Found) -> Tokens:
    """A model's tokens in the report: ``prompt`` has the cached ones in it, ``thoughts`` are output too."""
    found = mapping(row.get("tokens"))
    written = (whole(found.get("candidates")) or 0) + (whole(found.get("thoughts")) or 0)
    return tokens(found.get("prompt"), written, found.get("cached"), includes_cache=True)


def _code(problem: _Found) -> str:
    """A word or number about a failure; most are called ``unknown``, which says nothing."""
    code = problem.get("code") if problem.get("code") is not None else problem.get("type")
    return str(code) if type(code) in (str, int) and code != "unknown" else ""


def _recognises_report(found: Mapping[str, JSON]) -> Sureness:
    stats, problem = mapping(found.get("stats")), mapping(found.get("error"))
    if "models" in stats and ("response" in found or problem):
        return Sureness.SURE
    alone = found.keys() <= {"session_id", "error", "warnings"} and {"type", "message"} <= problem.keys()
    return Sureness.LIKELY if alone else Sureness.NO


def _sure(found: Mapping[str, JSON], *texts: str) -> Sureness:
    return Sureness.SURE if all(type(found.get(name)) is str for name in texts) else Sureness.NO


def _marks_of_init(found: Mapping[str, JSON]) -> Sureness:
    return _sure(found, "session_id", "model")


def _marks_of_message(found: Mapping[str, JSON]) -> Sureness:
    if found.get("role") not in ("user", "assistant") or type(found.get("content")) not in (str, list):
        return Sureness.NO
    return Sureness.SURE if found.get("delta") is True else Sureness.LIKELY


def _marks_of_call(found: Mapping[str, JSON]) -> Sureness:
    return _sure(found, "tool_name", "tool_id")


def _marks_of_result(found: Mapping[str, JSON]) -> Sureness:
    return _sure(found, "tool_id", "status")


def _marks_of_error(found: Mapping[str, JSON]) -> Sureness:
    known = found.get("severity") in ("warning", "error") and type(found.get("message")) is str
    return Sureness.LIKELY if known else Sureness.NO


def _marks_of_end(found: Mapping[str, JSON]) -> Sureness:
    if found.get("status") not in ("success", "error"):
        return Sureness.NO
    return Sureness.SURE if "tool_calls" in mapping(found.get("stats")) else Sureness.LIKELY


_MARKS: dict[str, Callable[[Mapping[str, JSON]], Sureness]] = {
    "error": _marks_of_error,
    "init": _marks_of_init,
    "message": _marks_of_message,
    "result": _marks_of_end,
    "tool_result": _marks_of_result,
    "tool_use": _marks_of_call,
}

#: A call or a result that names nothing is somebody else's.
_NAMED = {"tool_result": frozenset({"status", "tool_id"}), "tool_use": frozenset({"tool_id", "tool_name"})}

_READERS: dict[str, Callable[[Gemini, _Found, Stamp], list[Draft]]] = {
    "error": Gemini._error,  # noqa: SLF001 - the class's own table
    "init": Gemini._init,  # noqa: SLF001 - the class's own table
    "message": Gemini._message,  # noqa: SLF001 - the class's own table
    "result": Gemini._result,  # noqa: SLF001 - the class's own table
    "tool_result": Gemini._result_of_call,  # noqa: SLF001 - the class's own table
    "tool_use": Gemini._call,  # noqa: SLF001 - the class's own table
}
