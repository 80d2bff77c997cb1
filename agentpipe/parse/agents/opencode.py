"""OpenCode: ``opencode run --format json``.

The rules this module keeps: a call and its result are one line, told as two events at the times when they were; a part
that is printed again (a result that was pruned later) is told once; each step's tokens and cost are added up; a turn
ends with the step whose reason is another than ``tool-calls``, and with one without a reason when it called no tool.

Source: ``packages/opencode/src/cli/cmd/run.ts``, recorded sessions of two versions; see ``docs/formats/opencode.md``.
"""

from collections.abc import Callable, Mapping

from agentpipe.event import JSON, encode, timestamp
from agentpipe.parse.adapter import Clock, Draft, Moment, Outcome, Sureness, Whole
from agentpipe.parse.agents.apply_patch import drafts_of
from agentpipe.parse.agents.data_url import image_of
from agentpipe.parse.agents.opencode_tools import detail_of, edits_of, kind_of, title_of
from agentpipe.parse.agents.plain import without_ansi
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary import usage
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.content import flat, shortened
from agentpipe.parse.vocabulary.drafts import error
from agentpipe.parse.vocabulary.fields import items, mapping, number, string, whole
from agentpipe.parse.vocabulary.plans import step
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.usage import Tokens, Totals

__all__ = ["OpenCode"]

_PART_TYPES = frozenset({"reasoning", "step_finish", "step_start", "text", "tool_use"})
_OTHER_TYPES = frozenset({"done", "error"})

#: How a model's answer ends that is no answer.
_BAD_REASONS = frozenset({"content-filter", "error"})

#: Parts that were told are remembered: pruning prints results of long ago again.
_REMEMBERED = 16 * 1024

#: The last millisecond of the year 9999, which is the last that a timestamp can say.
_LAST_MS = 253_402_300_799_999


class OpenCode(Account):
    """The adapter of ``opencode run --format json`` for one session; see `agentpipe.parse.adapter.Adapter`."""

    name = "opencode"
    agent = "opencode"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        self._seen: dict[str, int] = {}  # the hash of the text of each part that was told, by id
        self._message = ""  # that speaks
        self._index = 0  # of the next part in it
        self._turn = Totals()
        self._turn_open = True
        self._step_acts = False  # whether the step has called a tool
        self._answer = ""
        self._failure = ""  # an error that no later turn made good
        self._rejected: set[str] = set()  # permissions whose rejection was told

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """Nobody else spells ``sessionID`` so, beside one of its types."""
        kind = found.get("type")
        if type(kind) is not str or type(found.get("sessionID")) is not str:
            return Sureness.NO
        if kind in _OTHER_TYPES or (kind in _PART_TYPES and type(found.get("part")) is dict):
            return Sureness.SURE
        return Sureness.LIKELY if type(found.get("timestamp")) is int else Sureness.NO

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Every line has it."""
        return string(found.get("sessionID"))

    def read(self, found: dict[str, JSON], moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        stamp = self.stamp(_time(found.get("timestamp")), moment, size)
        self.ready = True
        if not self.sessions:
            self.learn(session_id=string(found.get("sessionID")))
        kind = string(found.get("type"))
        due = self.ticks(stamp, moment)
        if kind in _PART_TYPES:
            part = found.get("part")
            if type(part) is not dict:
                return [*due, self.raw(stamp, "a part that is none", found)]
            return [*due, *_PARTS[kind](self, part, stamp)] if self._is_news(part) else due
        if kind == "error":
            return [*due, *self._error(found.get("error"), stamp)]
        if kind == "done":
            return [*due, *self._done(found, stamp)]
        return [*due, self.raw(stamp, f"unknown type {shortened(kind, 100)!r}", found)]

    def read_text(self, text: str, moment: Moment) -> list[Draft]:
        """A line that is no JSON; with ``2>&1`` one that says that a permission was rejected."""
        plain = without_ansi(text)
        _, asked, rest = plain.partition("permission requested: ")
        if not asked or "auto-rejecting" not in rest:
            return super().read_text(text, moment)
        self._rejected.add(rest.split(" ", 1)[0].rstrip(";"))
        message = plain.strip().removeprefix("!").strip()
        return error("warning", message, self.clock.at(None, moment), code="permission_denied")

    def outcome(self) -> Outcome:
        """How the run ended by its last turn; one without an end makes the account incomplete."""
        cut = self._turn_open and self.turns.count
        outcome = self.turns.outcome(incomplete="the last turn has no end" if cut else None)
        if not self._failure:
            return outcome
        return outcome._replace(ok=False, fields={**outcome.fields, "error": self._failure})

    def _is_news(self, part: dict[str, JSON]) -> bool:
        """Whether a part was not told, or says something else than it did."""
        own_id = string(part.get("id"))
        if not own_id:
            return True
        said = hash(string(part.get("text")))
        if self._seen.get(own_id) == said:
            return False
        self._seen[own_id] = said
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return True

    def _place(self, part: dict[str, JSON]) -> tuple[str, int]:
        """The message of a part and its place in it."""
        message = string(part.get("messageID")) or "message"
        if message != self._message:
            self._message, self._index = message, 0
        index = self._index
        self._index += 1
        return message, index

    def _step_began(self, part: dict[str, JSON], stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - one shape for all
        self._turn_open = True
        self._step_acts = False
        return []

    def _text(self, part: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        message, index = self._place(part)
        text = part.get("text")
        if type(text) is not str:
            return [self.raw(stamp, "a text that is none", part)]
        self._answer = text or self._answer
        marks: dict[str, JSON] = {"synthetic": True} if part.get("synthetic") is True else {}
        return self.texts.final(stamp, "agent_output", message, text, index, **marks)

    def _reasoning(self, part: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        message, index = self._place(part)
        return self.texts.final(stamp, "agent_thinking", message, string(part.get("text")), index)

    def _tool(self, part: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """A tool has ended: when it was called, and what it gave back."""
        state = mapping(part.get("state"))
        if state.get("status") not in ("completed", "error"):
            return [self.raw(stamp, "a tool that has not ended", part)]
        self._place(part)
        self._step_acts = True
        tool, given = string(part.get("tool")) or "unknown", mapping(state.get("input"))
        call_id = string(part.get("callID")) or string(part.get("id")) or f"{self._message}:{self._index}"
        times = mapping(state.get("time"))
        began = _stamp(stamp, _time(times.get("start")))
        ended = _stamp(stamp, _time(times.get("end")))
        call = self.calls.call(began, call_id, tool, kind_of(tool), title_of(tool, given), given)
        return [call, *self._result(tool, given, state, call_id, ended)]

    def _result(
        self, tool: str, given: dict[str, JSON], state: dict[str, JSON], call_id: str, stamp: Stamp
    ) -> list[Draft]:
        metadata = mapping(state.get("metadata"))
        code = whole(metadata.get("exit")) if tool == "bash" else None
        ok = state["status"] == "completed" and code in (0, None)
        text = flat(state.get("output")) if state["status"] == "completed" else flat(state.get("error"))
        texts, media = _attached(state.get("attachments"))
        out = self.calls.result(
            stamp,
            call_id,
            self.calls.take(call_id, stamp),
            "\n".join((text, *texts)) if text or not texts else "\n".join(texts),
            ok=ok,
            exit_code=code,
            detail=detail_of(metadata),
            whole=media,
            failed="" if text.strip() or code is None else f"exit status {code}",
        )
        if not ok:
            return out
        out += drafts_of(edits_of(tool, given, metadata), call_id, self.limit, stamp)
        if tool == "todowrite":
            todos = map(mapping, items(metadata.get("todos")) or items(given.get("todos")))
            steps = [step(todo.get("content"), todo.get("status")) for todo in todos]
            out += self.plans.replaced(steps, stamp.scope, stamp.at)
        return out

    def _step_ended(self, part: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        counts, cost = _tokens(mapping(part.get("tokens"))), number(part.get("cost"))
        self.turns.totals.add(counts, cost)
        self._turn.add(counts, cost)
        context = sum(count for name, count in counts.items() if name != "output_tokens") if counts else None
        out = usage.update(stamp, counts, cumulative=False, cost=cost, context=context)
        reason = string(part.get("reason"))
        if reason == "tool-calls" or (not reason and self._step_acts):
            return out
        bad = reason in _BAD_REASONS
        why = f"the answer ended with {reason}" if bad else ""
        return [*out, *self._turn_ended(stamp, ok=not bad, failed=why, stop_reason=reason)]

    def _turn_ended(
        self, stamp: Stamp, *, ok: bool, failed: str = "", code: str = "", cancelled: bool = False, **more: JSON
    ) -> list[Draft]:
        totals, spent = self.turns.totals, self._turn
        out = usage.update(stamp, totals.counts, cumulative=True, cost=totals.cost_usd)
        out += self.turns.ended(
            stamp,
            ok=ok,
            result=self._answer,
            failed=failed,
            code=code,
            usage=spent.counts or None,
            cost_usd=spent.cost_usd,
            cancelled=cancelled,
            **more,
        )
        self._turn, self._turn_open = Totals(), False
        self._answer = ""
        self._failure = "" if ok else failed
        return out

    def _error(self, found: JSON, stamp: Stamp) -> list[Draft]:
        """The session failed, and with it the turn."""
        problem = mapping(found)
        data = mapping(problem.get("data"))
        name = string(problem.get("name"))
        told = string(data.get("message")) or string(problem.get("message")) or string(found)
        message = told or name or encode(found).decode()
        aborted = name == "MessageAbortedError"
        if aborted and self._turn_open:
            return self._turn_ended(stamp, ok=False, failed=message, code=name, cancelled=True)
        status = whole(data.get("statusCode"))
        out = error("agent", shortened(message, self.limit), stamp.at, code=name, status=status)
        if self._turn_open:
            out += self._turn_ended(stamp, ok=False, failed=message, code=name)
        self._failure = message
        return out

    def _done(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """The session is idle, in the newest versions; what they rejected is a warning, once."""
        out: list[Draft] = []
        for name in map(string, items(found.get("rejected"))):
            if name and name not in self._rejected:
                self._rejected.add(name)
                out += error("warning", f"{name} was denied", stamp.at, code="permission_denied")
        if self._turn_open:
            out += self._turn_ended(stamp, ok=True)
        return out


def _time(value: JSON) -> str | None:
    """Unix milliseconds as a timestamp, or None."""
    found = whole(value)
    if found is None or not 0 < found <= _LAST_MS:
        return None
    return timestamp(found / 1000 + 0.0005)  # half a unit: rounds, not cuts


def _stamp(line: Stamp, at: str | None) -> Stamp:
    """The stamp of something in *line* that says *at* about its own time."""
    return line if at is None else Stamp(at, True, line.read, line.size, line.scope)


def _tokens(found: dict[str, JSON]) -> Tokens:
    """A step's tokens. ``output`` is without the reasoning where ``total`` says so, as in the newest versions."""
    cache = mapping(found.get("cache"))
    counts = usage.tokens(found.get("input"), found.get("output"), cache.get("read"), cache.get("write"))
    total, reasoning = whole(found.get("total")), whole(found.get("reasoning")) or 0
    if total is not None and sum(counts.values()) + reasoning == total and "output_tokens" in counts:
        counts["output_tokens"] += reasoning
    return counts


def _attached(attachments: JSON) -> tuple[list[str], tuple[Whole, ...]]:
    """Files beside a result: how they read, and what they hold."""
    texts: list[str] = []
    media: tuple[Whole, ...] = ()
    for found in map(mapping, items(attachments)):
        text, held = image_of(found.get("url"))
        texts.append(text if held else f"[{string(found.get('mime')) or 'file'} {string(found.get('filename'))}]")
        media += held
    return texts, media


_PARTS: dict[str, Callable[[OpenCode, dict[str, JSON], Stamp], list[Draft]]] = {
    "reasoning": OpenCode._reasoning,  # noqa: SLF001 - the class's own table
    "step_finish": OpenCode._step_ended,  # noqa: SLF001 - the class's own table
    "step_start": OpenCode._step_began,  # noqa: SLF001 - the class's own table
    "text": OpenCode._text,  # noqa: SLF001 - the class's own table
    "tool_use": OpenCode._tool,  # noqa: SLF001 - the class's own table
}
