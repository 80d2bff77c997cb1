"""Claude Code: ``-p --output-format stream-json`` with and without partial messages, and ``json``.

The rules this module keeps: a line is classified by its ``type`` after decoding, wherever in the line it stands; every
type, subtype and block is told, silent by rule, or kept as ``raw``; a result ends a turn, never the run.

Source: the types of ``@anthropic-ai/claude-agent-sdk`` and recorded sessions of five versions; see ``docs/formats.md``.
"""

from collections.abc import Callable, Mapping
from typing import Any

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment, Outcome, Sureness
from agentpipe.parse.claude.calls import ClaudeCalls
from agentpipe.parse.claude.line import Line, blocks_of, is_result, line_of, origin_of
from agentpipe.parse.claude.system import SILENT_SUBTYPES, small_line, system_line
from agentpipe.parse.claude.tells import sureness_of
from agentpipe.parse.claude.texts import Texts
from agentpipe.parse.claude.todo import Todo
from agentpipe.parse.claude.usage import Ledger
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.calls import Calls
from agentpipe.parse.vocabulary.content import capped, flat, media_of, shortened
from agentpipe.parse.vocabulary.drafts import error
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.plans import Plans

__all__ = ["Claude"]

#: Blocks of text, which stands in the field that is called as they are.
_TEXT_BLOCKS = {"text": "agent_output", "thinking": "agent_thinking"}
_CALL_BLOCKS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_MEDIA_BLOCKS = frozenset({"image", "document"})

#: What a run tells of itself, and where ``init`` has it.
_FACTS = (
    ("session_id", "session_id"), ("agent_version", "claude_code_version"), ("model", "model"), ("cwd", "cwd"),
)  # fmt: skip

#: What the CLI says in the user's name when it was interrupted; a result line does not always follow, nor a status.
_INTERRUPTED = "[Request interrupted by user"


class Claude:
    """The adapter of Claude Code for the lines of one run; see `agentpipe.parse.adapter.Adapter`."""

    name = "claude"
    agent = "claude"
    suffix = ""

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        # given
        self._clock = clock
        self._limit = options.max_content
        # changing
        self.facts: dict[str, JSON] = {}
        self.ready = False
        self.sessions: set[str] = set()
        self._plans = Plans(clock, options.progress_interval)
        self._texts = Texts()
        self._calls = ClaudeCalls(Calls(options.max_content), Todo(self._plans), options.max_content)
        self._ledger = Ledger()
        self._denied: set[str] = set()
        self._lines = 0
        self._turns = 0
        self._spent_ms = 0
        self._last: dict[str, JSON] = {}  # the payload of the last turn
        self._result = ""  # the last text that was a result
        self._aborted = False
        self._interrupted = 0  # the last line by which somebody said stop; lines count from 1

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """As `agentpipe.parse.claude.tells` says."""
        return sureness_of(found)

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Every line of the stream has it."""
        return string(found.get("session_id"))

    def read(self, found: dict[str, JSON], moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        kind = found.get("type")
        if type(kind) is not str:
            kind = ""
        self._lines += 1
        if self.ready and kind in _HOT:
            drafts = _HOT[kind](self, found, moment)
            if drafts is not None:
                return drafts
        line = line_of(found, self._clock, moment, size)
        if not self.sessions:
            self._learn_session(found)
        reader = _READERS.get(kind)
        if reader is not None:
            if kind != "system":
                self.ready = True
            if self._plans.due_s is not None and (line.own or moment.at is not None):
                return [*self._plans.tick(line.at), *reader(self, line)]
            return reader(self, line)
        drafts = small_line(kind, found, line.at)
        if drafts is None:
            return [self._raw(line, f"unknown type {shortened(kind, 100)!r}")]
        if drafts and kind == "control_request":
            drafts[0].payload = {**drafts[0].payload, "input": capped(drafts[0].payload["input"], self._limit)}
        if kind == "conversation_reset" and type(found.get("new_conversation_id")) is str:
            self.sessions.add(found["new_conversation_id"])
        return drafts

    def read_text(self, text: str, moment: Moment) -> list[Draft]:
        """A line on stdout that is no JSON: a banner, a warning, or a line that was cut."""
        at = self._clock.at(None, moment)
        return [Draft("raw", {"format": self.name, "reason": "not JSON", "text": text}, at)]

    def finish(self, moment: Moment) -> list[Draft]:
        """Tell whole the texts that were cut."""
        self._plans.close_all()
        return self._texts.settle(self._clock.at(None, moment))

    def outcome(self) -> Outcome:
        """How the run ended by the last result; without one it is not complete."""
        fields: dict[str, JSON] = {"turns": self._turns}
        if "error" in self._last:
            fields["error"] = self._last["error"]
        elif self._result:
            fields["result"] = self._result
        if self._ledger.total:
            fields["usage"] = self._ledger.total
        if self._ledger.cost_usd is not None:
            fields["cost_usd"] = self._ledger.cost_usd
        stopped = self._lines > 0 and self._interrupted == self._lines  # it was the last thing said
        if not self._turns:
            return Outcome(None, stopped, "no result from the agent", fields)
        return Outcome(bool(self._last["ok"]), self._aborted or stopped, None, fields, self._spent_ms)

    def _hot_part(self, found: dict[str, JSON], moment: Moment) -> list[Draft] | None:
        """A part of a block that streams, told from its few fields alone; None when the line needs a closer look."""
        event = found.get("event")
        if type(event) is not dict:
            return None
        delta = event.get("delta")
        if type(delta) is not dict:
            return None
        kind = delta.get("type")
        if kind == "input_json_delta":
            return []
        text = (
            delta.get("text") if kind == "text_delta" else delta.get("thinking") if kind == "thinking_delta" else None
        )
        if type(text) is not str or "timestamp" in found or self._plans.due_s is not None or not self.sessions:
            return None
        scope = found.get("parent_tool_use_id")
        return self._texts.more(event, text, scope if type(scope) is str else None, self._clock.at(None, moment))

    def _hot_state(self, found: dict[str, JSON], moment: Moment) -> list[Draft] | None:  # noqa: ARG002 - the table's shape
        """A heartbeat or a state, which say nothing; None when the line says something."""
        subtype = found.get("subtype")
        return [] if type(subtype) is str and subtype in SILENT_SUBTYPES else None

    def _learn_session(self, found: dict[str, JSON]) -> None:
        session = string(found.get("session_id"))
        if session:
            self.sessions.add(session)
            self.facts = {**self.facts, "session_id": session}

    def _system(self, line: Line) -> list[Draft]:
        subtype = line.found.get("subtype")
        if subtype == "init":
            return self._init(line.found)
        drafts = system_line(line.found, line.at)
        if drafts is None:
            return [self._raw(line, f"unknown subtype {shortened(string(subtype), 100)!r}")]
        if subtype == "permission_denied":
            self._denied.add(string(line.found.get("tool_use_id")))
        elif subtype == "model_refusal_fallback":
            return self._texts.retract(line.found.get("retracted_message_uuids"), line.at) + drafts
        return drafts

    def _init(self, found: dict[str, JSON]) -> list[Draft]:
        """Facts for ``run_started``; a later turn's init says nothing new, or what changed (told by the run)."""
        facts = dict(self.facts)
        for ours, theirs in _FACTS:
            value = found.get(theirs)
            if type(value) is str and value:
                facts[ours] = value
        tools = [tool for tool in items(found.get("tools")) if type(tool) is str]
        if tools:
            facts["tools"] = tools
        if facts != self.facts:
            self.facts = facts
        self.ready = True
        return []

    def _assistant(self, line: Line) -> list[Draft]:
        found = line.found
        message = found.get("message")
        if type(message) is not dict:
            message = {}
        message_id = message.get("id")
        if type(message_id) is not str or not message_id:
            message_id = line.uuid or f"line-{self._lines}"
        model = message.get("model")
        if type(model) is not str or model == "<synthetic>":
            line.synthetic = model == "<synthetic>"
            model = ""
        failed = string(found["error"]) if "error" in found else ""
        out = self._texts.retract(found["supersedes"], line.at) if "supersedes" in found else []
        if failed and not model:
            return out + self._api_error(failed, message, line)
        for block in blocks_of(message.get("content")):
            out += self._block(block, message_id, line)
        if failed:
            out += error("turn", f"the answer ended with {failed}", line.at, code=failed)
        if model and not self._ledger.counts(message_id) and not self._texts.streams(message_id):
            out += self._usage(message, message_id, model, line)
        return out

    def _usage(self, message: dict[str, JSON], message_id: str, model: str, line: Line) -> list[Draft]:
        """The usage of a message that does not come in parts, with the first line of it."""
        final = type(message.get("stop_reason")) is str
        usage = self._ledger.message(message_id, message.get("usage"), model, final=final)
        return [Draft("usage_update", usage, line.at, line.scope)] if usage is not None else []

    def _api_error(self, kind: str, message: dict[str, JSON], line: Line) -> list[Draft]:
        """The API failed for good and the CLI says so in the agent's name."""
        text = flat(message.get("content")) or kind
        return error("agent", text, line.at, line.scope, code=kind, status=whole(line.found.get("api_error_status")))

    def _block(self, block: dict[str, JSON], message_id: str, line: Line) -> list[Draft]:
        kind = block.get("type")
        if type(kind) is not str:
            kind = ""
        if kind in _TEXT_BLOCKS:
            return self._text(_TEXT_BLOCKS[kind], string(block.get(kind)), message_id, line)
        if kind == "redacted_thinking":
            return self._text("agent_thinking", "", message_id, line, redacted=True)
        if kind in _CALL_BLOCKS:
            before, name, index, _ = self._texts.place(message_id, "", line.scope, line.at)
            call = self._calls.call(block, line, name, index)
            return [*before, call] if before else [call]
        before, _, _, _ = self._texts.place(message_id, "", line.scope, line.at)
        if kind.endswith("_tool_result"):
            return before + self._calls.result(block, None, {}, line)
        return [*before, self._raw(line, f"unknown block {shortened(kind, 100)!r}", block)]

    def _text(self, type: str, text: str, message_id: str, line: Line, **marks: bool) -> list[Draft]:  # noqa: A002 - the event's field
        """A whole block of text. Thinking is empty when only its signature is shown: nothing to tell."""
        before, name, index, parts = self._texts.place(message_id, type, line.scope, line.at)
        whole_text = text or parts
        if not whole_text and not marks:
            return before
        payload: dict[str, Any] = {"message_id": name, "index": index, "text": whole_text, "final": True, **marks}
        if line.found.get("aborted") is True:
            payload["aborted"] = True
        if line.synthetic:
            payload["synthetic"] = True
        draft = Draft(type, payload, line.at, line.scope)
        self._texts.told(line.uuid, draft)
        return [*before, draft] if before else [draft]

    def _user(self, line: Line) -> list[Draft]:
        found, message = line.found, line.found.get("message")
        blocks = blocks_of(message.get("content") if type(message) is dict else message)
        if len(blocks) == 1 and is_result(blocks[0]):
            return self._returned(blocks[0], found.get("tool_use_result"), line)
        alone = sum(map(is_result, blocks)) == 1
        out: list[Draft] = []
        for index, block in enumerate(blocks):
            if is_result(block):
                out += self._returned(block, found.get("tool_use_result") if alone else None, line)
            else:
                out.append(self._said(block, index, line))
        return out

    def _returned(self, block: dict[str, JSON], structured: JSON, line: Line) -> list[Draft]:
        """A result; *structured* is the line's own form of it, None when the line holds several."""
        meta: dict[str, JSON] = {}
        if block.get("is_error") is True and "tool_result_meta" in line.found:
            metas = map(mapping, items(line.found["tool_result_meta"]))
            meta = next((meta for meta in metas if meta.get("id") == block.get("tool_use_id")), meta)
        return self._calls.result(block, structured, meta, line)

    def _said(self, block: dict[str, JSON], index: int, line: Line) -> Draft:
        """A text in the user's name; ``origin`` tells whether a human or the CLI wrote it, as far as it is known."""
        kind = string(block.get("type"))
        if kind != "text" and kind not in _MEDIA_BLOCKS:
            return self._raw(line, f"unknown block {shortened(kind, 100)!r}", block)
        payload: dict[str, JSON] = {
            "message_id": line.uuid or f"line-{self._lines}",
            "index": index,
            "text": flat([block]),
            "final": True,
            "role": "user",
        }
        origin = self._origin(line, payload["text"])
        if origin:
            payload["origin"] = origin
        if line.scope is None and payload["text"].startswith(_INTERRUPTED):
            self._interrupted = self._lines
        draft = Draft("agent_output", payload, line.at, line.scope)
        if kind in _MEDIA_BLOCKS:
            draft.whole = media_of([block])
        self._texts.told(line.uuid, draft)
        return draft

    def _origin(self, line: Line, text: str) -> str:  # noqa: ARG002 - the transcript tells it by the text
        """Who wrote a text in the user's name."""
        return origin_of(line)

    def _stream_event(self, line: Line) -> list[Draft]:
        event = mapping(line.found.get("event"))
        named = string(line.found.get("api_message_id"))
        drafts = self._texts.stream(event, named, line.scope, line.at)
        if drafts is None:
            return [self._raw(line, f"unknown stream event {shortened(string(event.get('type')), 100)!r}")]
        if event.get("type") == "message_delta":
            return [*drafts, *self._streamed_usage(event, named, line)]
        return drafts

    def _streamed_usage(self, event: dict[str, JSON], named: str, line: Line) -> list[Draft]:
        """The true usage of a message that came in parts."""
        message_id, model = self._texts.streaming(line.scope)
        usage = self._ledger.message(message_id or named or line.uuid, event.get("usage"), model, final=True)
        return [Draft("usage_update", usage, line.at, line.scope)] if usage is not None else []

    def _result_line(self, line: Line) -> list[Draft]:
        found = line.found
        out = self._texts.settle(line.at) + self._denials(line)
        subtype = string(found.get("subtype"))
        ok = found.get("is_error") is not True and not subtype.startswith("error")
        usage, cost = self._ledger.result(found)
        self._turns += 1
        turn: dict[str, JSON] = {"turn": self._turns, "ok": ok}
        text = string(found.get("result"))
        if text and ok:
            turn["result"] = self._result = shortened(text, self._limit)
        if not ok:
            said = "; ".join(string(problem) for problem in items(found.get("errors")))
            turn["error"] = shortened(said or text or subtype or "the turn failed", self._limit)
            out += error("turn", turn["error"], line.at, code=_code(found))
        if usage:
            turn["usage"] = usage
        if cost is not None:
            turn["cost_usd"] = cost
        self._facts_of(found, turn)
        total = self._ledger.update()
        if total is not None:
            out.append(Draft("usage_update", total, line.at))
        self._last = turn
        self._aborted = string(found.get("terminal_reason")).startswith("aborted")
        return [*out, Draft("run_iteration", turn, line.at)]

    def _facts_of(self, found: dict[str, JSON], turn: dict[str, JSON]) -> None:
        took = whole(found.get("duration_ms"))
        if took is not None:
            turn["duration_ms"] = took
            self._spent_ms += took
        for name in ("num_turns", "stop_reason", "terminal_reason", "subtype"):
            value = found.get(name)
            if type(value) is str or type(value) is int:
                turn[name] = value

    def _denials(self, line: Line) -> list[Draft]:
        """Denied calls that no ``permission_denied`` line told, as in older versions."""
        out: list[Draft] = []
        if not line.found.get("permission_denials"):
            return out
        for denial in map(mapping, items(line.found["permission_denials"])):
            tool_use_id = string(denial.get("tool_use_id"))
            if tool_use_id and tool_use_id in self._denied:
                continue
            self._denied.add(tool_use_id)
            name = string(denial.get("tool_name")) or string(denial.get("tool")) or "a tool"
            out += error("warning", f"{name} was denied", line.at, code="permission_denied", tool_use_id=tool_use_id)
        return out

    def _raw(self, line: Line, reason: str, data: JSON = None) -> Draft:
        kept = line.found if data is None else data
        return Draft("raw", {"format": self.name, "reason": reason, "data": kept}, line.at, line.scope)


def _code(found: dict[str, JSON]) -> str:
    """The most telling word about a failed turn."""
    status = whole(found.get("api_error_status"))
    if status is not None:
        return str(status)
    subtype = string(found.get("subtype"))
    return subtype if subtype.startswith("error") else string(found.get("terminal_reason")) or subtype


#: Lines that come in such numbers that they are looked at before anything else is done with them.
_HOT: dict[str, Callable[[Claude, dict[str, JSON], Moment], list[Draft] | None]] = {
    "stream_event": Claude._hot_part,  # noqa: SLF001 - the class's own table
    "system": Claude._hot_state,  # noqa: SLF001 - the class's own table
}

_READERS: dict[str, Callable[[Claude, Line], list[Draft]]] = {
    "assistant": Claude._assistant,  # noqa: SLF001 - the class's own table
    "result": Claude._result_line,  # noqa: SLF001 - the class's own table
    "stream_event": Claude._stream_event,  # noqa: SLF001 - the class's own table
    "system": Claude._system,  # noqa: SLF001 - the class's own table
    "user": Claude._user,  # noqa: SLF001 - the class's own table
}
