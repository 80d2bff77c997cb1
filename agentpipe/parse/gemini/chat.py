"""Gemini CLI's chats on disk: ``session-*.jsonl`` line by line, and the older ``session-*.json``, one document.

The rules this module keeps: a message is written again when it has grown (calls, then their results), and all of them
again when the history was rewritten, so whatever was told of a message, a call or a result is told once; a result
that is told twice, in the message and as a response to the model, is one.

Source: ``packages/core/src/services/chatRecordingService.ts`` of google-gemini/gemini-cli; see
``docs/formats/gemini.md``.
"""

from collections.abc import Callable, Mapping

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment, Outcome, Sureness, source_time
from agentpipe.parse.gemini.parts import (
    Part,
    calls_in,
    media_in,
    parts_of,
    response_of,
    responses_in,
    said,
    tokens_of,
)
from agentpipe.parse.gemini.tools import CANCELLED, Effects, exit_code_of, keeps_input, kind_of, title_of
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.content import flat, shortened
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, string
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.texts import TextType
from agentpipe.parse.vocabulary.usage import update

__all__ = ["GeminiChat"]

#: What the program puts before the user's first words.
_CONTEXT = "<session_context>"

#: Statuses of a call that is over.
_ENDED = frozenset({"cancelled", "error", "success"})

_TYPES = frozenset({"error", "gemini", "info", "user", "warning"})

#: Messages, calls and results that are remembered as told: a history is rewritten whole, and a longer one than this is
#: compressed before.
_REMEMBERED = 65536

#: A message's text and thoughts have an index each.
_THOUGHTS, _TEXT = 0, 1


class GeminiChat(Account):
    """The adapter of Gemini CLI's chats for the lines of one run; see `agentpipe.parse.adapter.Adapter`."""

    name = "gemini-chat"
    agent = "gemini"
    suffix = "transcript"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # given
        self._effects = Effects(self.plans, options.max_content)
        # changing
        self._told: dict[str, None] = {}  # texts, calls, results and tokens, by what they are and their id
        self._places: dict[str, list[tuple[TextType, int]]] = {}  # the texts of each message, in order
        self._problem = ""  # the error that was the last thing said

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """A header with the project's hash, a change of it, a way back, or a message of the program."""
        if "projectHash" in found:
            return Sureness.SURE if type(found.get("sessionId")) is str else Sureness.NO
        if "$set" in found or "$rewindTo" in found:
            known = type(found.get("$set")) is dict or type(found.get("$rewindTo")) is str
            return Sureness.SURE if known else Sureness.NO
        kind = found.get("type")
        if type(kind) is not str or kind not in _TYPES or "content" not in found or "uuid" in found:
            return Sureness.NO
        if type(found.get("id")) is not str or source_time(found.get("timestamp")) is None:
            return Sureness.NO
        return Sureness.SURE if kind == "gemini" else Sureness.LIKELY

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """The header tells it."""
        return string(found.get("sessionId"))

    def read(self, found: Part, moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line, or of a whole document; *size* is its length in bytes."""
        own = found.get("timestamp") or found.get("startTime")
        stamp = self.stamp(source_time(own), moment, size)
        before = self.ticks(stamp, moment)
        self.ready = True
        told = self._line(found, stamp, moment)
        return [*before, *told] if before else told

    def outcome(self) -> Outcome:
        """A chat says what was used, not how it ended; one whose last word is an error has failed."""
        counts = self.turns.totals.counts
        fields: dict[str, JSON] = {"usage": counts} if counts else {}
        if self._problem:
            return Outcome(False, False, None, {**fields, "error": shortened(self._problem, self.limit)})
        return Outcome(None, False, None, fields)

    def _line(self, found: Part, stamp: Stamp, moment: Moment) -> list[Draft]:
        if "projectHash" in found or "$set" in found:
            changed = mapping(found.get("$set")) if "$set" in found else found
            self.learn(session_id=string(changed.get("sessionId")))
            return self._history(items(changed.get("messages")), stamp, moment)
        if "$rewindTo" in found:
            return self._rewound(string(found["$rewindTo"]), stamp)
        return self._message(found, stamp)

    def _message(self, found: Part, stamp: Stamp) -> list[Draft]:
        kind = found.get("type")
        reader = _READERS.get(kind) if type(kind) is str else None
        if reader is not None and type(found.get("id")) is str:
            if kind in ("error", "gemini", "user"):
                self._problem = (flat(found.get("content")) or "unknown error") if kind == "error" else ""
            return reader(self, found, stamp)
        return [self.raw(stamp, f"unknown type {shortened(string(kind), 100)!r}", found)]

    def _history(self, messages: list[JSON], stamp: Stamp, moment: Moment) -> list[Draft]:
        """All messages of the session; what is new of them is told, each at its own time."""
        out: list[Draft] = []
        for message in messages:
            if type(message) is dict:
                own = self.stamp(source_time(message.get("timestamp")), moment, stamp.size)
                out += self._message(message, own)
            else:
                out.append(self.raw(stamp, "a message that is no object", message))
        return out

    def _user(self, found: Part, stamp: Stamp) -> list[Draft]:
        parts = parts_of(found.get("content"))
        out = [draft for response in responses_in(parts) for draft in self._responded(response, stamp)]
        shown = parts_of(found["displayContent"]) if found.get("displayContent") else parts
        text = said(shown, "\n")
        marks = {"role": "user", "origin": "synthetic"} if text.startswith(_CONTEXT) else {"role": "user"}
        told = self._text("agent_output", string(found["id"]), text, stamp, **marks)
        for draft in told:
            draft.whole = media_in(shown)
        return out + told

    def _gemini(self, found: Part, stamp: Stamp) -> list[Draft]:
        name, parts = string(found["id"]), parts_of(found.get("content"))
        thoughts = [mapping(thought) for thought in items(found.get("thoughts"))]
        lines = [": ".join(filter(None, map(string, (row.get("subject"), row.get("description"))))) for row in thoughts]
        out = self._text("agent_thinking", name, "\n".join(filter(None, lines)) or said(parts, thought=True), stamp)
        out += self._text("agent_output", name, said(parts), stamp)
        records = [_named(mapping(row), f"{name}:{place}") for place, row in enumerate(items(found.get("toolCalls")))]
        inner = [_named(call, f"{name}:part-{place}") for place, call in enumerate(calls_in(parts))]
        for call in (*records, *inner):  # all of them first: they began together
            out += self._called(call, stamp)
        out += self._used(found, name, stamp)
        return out + [draft for record in records for draft in self._ended(record, stamp)]

    def _text(self, type: TextType, name: str, text: str, stamp: Stamp, **marks: JSON) -> list[Draft]:  # noqa: A002 - the event's field
        if not text or not self._is_new(f"{type} {name}"):
            return []
        index = _THOUGHTS if type == "agent_thinking" else _TEXT
        self._places.setdefault(name, []).append((type, index))
        if len(self._places) > _REMEMBERED:
            del self._places[next(iter(self._places))]
        return self.texts.final(stamp, type, name, text, index, **marks)

    def _used(self, found: Part, name: str, stamp: Stamp) -> list[Draft]:
        row, model = mapping(found.get("tokens")), string(found.get("model"))
        self.learn(model=model)
        counts = tokens_of(
            row.get("input"), row.get("output"), row.get("thoughts"), row.get("cached"), row.get("total")
        )
        if not counts or not self._is_new(f"tokens {name}"):
            return []
        self.turns.totals.add(counts)
        context = sum(counts.values()) - counts.get("output_tokens", 0)
        return update(stamp, counts, cumulative=False, model=model, context=context)

    def _called(self, call: Part, stamp: Stamp) -> list[Draft]:
        """A call, the first time that it is met."""
        call_id, tool, given = string(call["id"]), string(call.get("name")), mapping(call.get("args"))
        if not self._is_new(f"call {call_id}"):
            return []
        tool = tool or "unknown"
        title, keep = title_of(tool, given), keeps_input(tool)
        return [self.calls.call(stamp, call_id, tool, kind_of(tool), title, given, keep=keep)]

    def _ended(self, record: Part, stamp: Stamp) -> list[Draft]:
        """The result of a call as the program keeps it, once it is there."""
        call_id, status = string(record["id"]), string(record.get("status"))
        if status not in _ENDED or not self._is_new(f"result {call_id}"):
            return []
        own = source_time(record.get("timestamp"))
        at = Stamp(own, True, stamp.read, stamp.size) if own is not None else stamp
        answered, failed = "", False
        for response in responses_in(parts_of(record.get("result"))):
            answered, failed = response_of(response)
            break
        agent = string(record.get("agentId"))
        detail: Part = {"agent_id": agent} if agent else {}
        if status == "cancelled":
            detail["cancelled"] = True
        bad = failed or status != "success"
        return self._result(call_id, string(record.get("name")), answered, record, at, detail, failed=bad)

    def _responded(self, response: Part, stamp: Stamp) -> list[Draft]:
        """What the model was told of a call; mostly the message of the call has told it before."""
        call_id = string(response.get("id"))
        if call_id and not self._is_new(f"result {call_id}"):
            return []
        call_id = call_id or "unknown"
        answered, failed = response_of(response)
        return self._result(call_id, string(response.get("name")), answered, {}, stamp, {}, failed=failed)

    def _result(
        self, call_id: str, name: str, answered: str, record: Part, stamp: Stamp, detail: Part, *, failed: bool
    ) -> list[Draft]:
        """*answered* is what the model got; what is shown to the user is nearer to what the tool gave back."""
        tool = name or "unknown"
        call = self.calls.take(call_id, stamp, tool, kind_of(tool))
        shown = record.get("resultDisplay")
        text = shown if type(shown) is str and shown else answered
        status = exit_code_of(call.name, answered)
        ok = not failed and not status and not answered.startswith(CANCELLED)
        why = answered if failed else ""
        out = self.calls.result(stamp, call_id, call, text, ok=ok, exit_code=status, detail=detail, failed=why)
        return out + self._effects.of(stamp, call_id, call, answered, shown) if ok else out

    def _notice(self, found: Part, stamp: Stamp) -> list[Draft]:
        """What the program says on its own screen."""
        if not self._is_new(f"notice {found['id']}"):
            return []
        text, kind = flat(found.get("content")) or "", found["type"]
        if kind == "info":
            return log("info", text, stamp.at, "gemini")
        return error("warning" if kind == "warning" else "agent", text or "unknown error", stamp.at)

    def _rewound(self, message_id: str, stamp: Stamp) -> list[Draft]:
        """The user went back to before a message: it and what follows is not said any more."""
        names = list(self._places)
        after = names[names.index(message_id) :] if message_id in self._places else []
        out = log("info", f"went back to before message {message_id}", stamp.at, "rewind")
        for name in after:
            for type_, index in self._places.pop(name):
                payload = {"message_id": name, "index": index, "text": "", "final": True, "retracted": True}
                out.append(Draft(type_, payload, stamp.at))
        return out

    def _is_new(self, what: str) -> bool:
        """Whether *what* is met for the first time."""
        if what in self._told:
            return False
        self._told[what] = None
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        return True


def _named(call: Part, otherwise: str) -> Part:
    """*call* with an id."""
    return call if string(call.get("id")) else {**call, "id": otherwise}


_READERS: dict[str, Callable[[GeminiChat, Part, Stamp], list[Draft]]] = {
    "error": GeminiChat._notice,  # noqa: SLF001 - the class's own table
    "gemini": GeminiChat._gemini,  # noqa: SLF001 - the class's own table
    "info": GeminiChat._notice,  # noqa: SLF001 - the class's own table
    "user": GeminiChat._user,  # noqa: SLF001 - the class's own table
    "warning": GeminiChat._notice,  # noqa: SLF001 - the class's own table
}
