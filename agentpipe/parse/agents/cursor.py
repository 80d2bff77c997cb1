"""Cursor: ``cursor-agent -p --output-format stream-json``, with and without ``--stream-partial-output``, and ``json``.

The rules this module keeps: once a text came in parts, a line that repeats it whole is its end and never a second text;
a message ends with the next call, thought, words of the user or result; a result that the tool did not wrap in
``success`` is a failure.

Source: cursor.com "CLI output format" and notes that measured the program; see ``docs/formats/cursor.md``.
"""

from collections.abc import Callable, Mapping

from agentpipe.event import JSON, timestamp
from agentpipe.parse.adapter import Clock, Draft, Moment, Sureness
from agentpipe.parse.agents.cursor_tools import FILE_TOOLS, TODO_TOOL, Tool, file_of, result_of, steps_of, tool_of
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.content import flat, media_of, shortened
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import mapping, number, string, whole
from agentpipe.parse.vocabulary.files import FilesMet
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.titles import title_of
from agentpipe.parse.vocabulary.usage import tokens, update

__all__ = ["Cursor"]

_Found = dict[str, JSON]

#: Subtypes that make a type that others print too Cursor's own.
_OWN = {
    "connection": ("reconnected", "reconnecting"),
    "interaction_query": ("request", "response"),
    "retry": ("resuming", "scheduled", "starting"),
    "thinking": ("completed", "delta"),
    "tool_call": ("completed", "started"),
}

#: Marks of Claude Code and of what is built like it; Cursor's lines have none of them.
_FOREIGN = ("claude_code_version", "num_turns", "parent_tool_use_id", "qwen_code_version", "total_cost_usd", "uuid")

#: The latest time that a timestamp can tell, in milliseconds.
_LATEST_MS = 253_402_300_799_000


class Cursor(Account):
    """The adapter of Cursor's CLI for the lines of one run."""

    name = "cursor"
    agent = "cursor"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # changing
        self._partial = False  # whether texts come in parts
        self._messages = 0  # that have begun: a message has no id of its own
        self._thoughts = 0
        self._parts: list[str] = []  # of the message that is open
        self._last = ""  # the last whole text
        self._all: list[str] = []  # every whole text of the turn, which a recap may join
        self._unnamed: list[str] = []  # made-up ids of calls that came without one
        self._calls_made = 0
        self._met = FilesMet()

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """Cursor's own words are sure; lines like Claude Code's are likely when they have none of its marks."""
        kind = found.get("type")
        if type(kind) is not str or any(name in found for name in _FOREIGN):
            return Sureness.NO
        if kind in _OWN:
            mine = found.get("subtype") in _OWN[kind] and (kind != "tool_call" or type(found.get("tool_call")) is dict)
            return Sureness.SURE if mine else Sureness.NO
        if kind == "system":
            mine = found.get("subtype") == "init" and "tools" not in found
            return (Sureness.SURE if "apiKeySource" in found else Sureness.LIKELY) if mine else Sureness.NO
        if kind == "result":
            mine = type(found.get("is_error")) is bool and "session_id" in found
            own = "request_id" in found or "duration_api_ms" in found  # Claude Code counts its turns beside the latter
            return (Sureness.SURE if own else Sureness.LIKELY) if mine else Sureness.NO
        return _of_message(kind, found)

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Every line has it."""
        return string(found.get("session_id"))

    def read(self, found: _Found, moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        kind = string(found.get("type"))
        stamp = self.stamp(_time_of(found), moment, size)
        ticks = self.ticks(stamp, moment)
        if not self.sessions:
            self.learn(session_id=string(found.get("session_id")))
        self.ready = True
        reader = _READERS.get(kind)
        told = reader(self, found, stamp) if reader is not None else None
        if told is None:
            said = shortened(f"{kind} {string(found.get('subtype'))}".strip(), 100)
            told = [self.raw(stamp, f"unknown type {said!r}", found)]
        return ticks + told if ticks else told

    # ---- session

    def _system(self, found: _Found, stamp: Stamp) -> list[Draft] | None:  # noqa: ARG002 - every reader's shape
        if found.get("subtype") != "init":
            return None
        self.learn(
            session_id=string(found.get("session_id")), model=string(found.get("model")), cwd=string(found.get("cwd"))
        )
        return []

    def _connection(self, found: _Found, stamp: Stamp) -> list[Draft] | None:
        subtype = found.get("subtype")
        if subtype == "reconnected":
            return log("info", "reconnected", stamp.at, "connection")
        if subtype != "reconnecting":
            return None
        said = "reconnecting"
        place = string(found.get("endpoint_url"))
        return error(
            "warning", f"{said} to {place}" if place else said, stamp.at,
            code="reconnecting", attempt=whole(found.get("attempt")),
        )  # fmt: skip

    def _retry(self, found: _Found, stamp: Stamp) -> list[Draft]:
        """What was being told is told anew by the next attempt, unless that goes on where it was cut."""
        out = [] if found.get("is_resume") is True else self._settled(stamp, aborted=True)
        subtype = string(found.get("subtype"))
        return out + error(
            "warning", f"retry {subtype}".strip(), stamp.at, code="retry", attempt=whole(found.get("attempt")),
            retry_in_ms=whole(found.get("delay_ms")),
        )  # fmt: skip

    def _query(self, found: _Found, stamp: Stamp) -> list[Draft]:
        """What the program asks and answers itself; only that it was refused is news."""
        body = mapping(found.get("response")) or mapping(found.get("query"))
        refused = next(
            (mapping(one["result"]).get("rejected") for one in body.values() if "result" in mapping(one)), None
        )
        if found.get("subtype") != "response" or refused is None:
            return []
        what = string(found.get("query_type")) or "a question"
        said = string(mapping(refused).get("reason"))
        return error(
            "warning", f"{what} was rejected: {said}" if said else f"{what} was rejected", stamp.at,
            code="permission_denied",
        )  # fmt: skip

    # ---- texts

    def _user(self, found: _Found, stamp: Stamp) -> list[Draft]:
        out = self._settled(stamp)
        self._messages += 1
        content = mapping(found.get("message")).get("content")
        told = self.texts.final(stamp, "agent_output", f"message-{self._messages}", flat(content), role="user")
        for draft in told:
            draft.whole = media_of(content)
        return out + told

    def _assistant(self, found: _Found, stamp: Stamp) -> list[Draft]:
        text = _joined(mapping(found.get("message")).get("content"))
        if "timestamp_ms" in found and "model_call_id" not in found:
            self._partial = True
            return self._part(text, stamp)
        if not self._partial:
            return self._whole(text, stamp)
        return self._recap(text, stamp)

    def _part(self, text: str, stamp: Stamp) -> list[Draft]:
        out = self._thought(stamp) if not self._parts else []
        if not self._parts and text:
            self._messages += 1
        self._parts += [text] if text else []
        return out + self.texts.part(stamp, "agent_output", f"message-{self._messages}", text)

    def _recap(self, text: str, stamp: Stamp) -> list[Draft]:
        """A text that came in parts, again: the end of the open one, or nothing new."""
        if self._parts:
            mine = "".join(self._parts)
            whole_turn = text != mine and text == "".join([*self._all, mine])
            return self._settled(stamp, mine if whole_turn else text)
        if text in (self._last, "".join(self._all)):
            return []
        return self._whole(text, stamp)

    def _whole(self, text: str, stamp: Stamp) -> list[Draft]:
        out = self._settled(stamp)
        if not text:
            return out
        self._messages += 1
        self._last = text
        self._all.append(text)
        return out + self.texts.final(stamp, "agent_output", f"message-{self._messages}", text)

    def _settled(self, stamp: Stamp, text: str | None = None, **marks: JSON) -> list[Draft]:
        """Nothing more of the open thought and message will come; *text* is the whole message, if it was said."""
        out = self._thought(stamp)
        if self._parts:
            self._last = text if text is not None else "".join(self._parts)
            self._all.append(self._last)
            self._parts = []
            out += self.texts.final(stamp, "agent_output", f"message-{self._messages}", self._last, **marks)
        return out

    def _thinking(self, found: _Found, stamp: Stamp) -> list[Draft] | None:
        subtype, text = found.get("subtype"), string(found.get("text"))
        if subtype == "completed":
            return self._thought(stamp, text or None)
        if subtype != "delta":
            return None
        out = self._settled(stamp) if self._parts else []
        if not self.texts.is_open("agent_thinking", f"thinking-{self._thoughts}"):
            self._thoughts += 1
        return out + self.texts.part(stamp, "agent_thinking", f"thinking-{self._thoughts}", text)

    def _thought(self, stamp: Stamp, text: str | None = None) -> list[Draft]:
        """The open thought, whole."""
        name = f"thinking-{self._thoughts}"
        return (
            self.texts.final(stamp, "agent_thinking", name, text) if self.texts.is_open("agent_thinking", name) else []
        )

    # ---- tools

    def _tool_call(self, found: _Found, stamp: Stamp) -> list[Draft] | None:
        body, subtype = mapping(found.get("tool_call")), found.get("subtype")
        tool = tool_of(body)
        call_id = string(found.get("call_id")) or string(body.get("toolCallId"))
        if subtype == "started":
            return [*self._settled(stamp), self._called(call_id, tool, stamp)]
        if subtype == "completed":
            return self._settled(stamp) + self._returned(call_id, tool, stamp)
        return None

    def _called(self, call_id: str, tool: Tool, stamp: Stamp) -> Draft:
        self._calls_made += 1
        if not call_id:
            call_id = f"call-{self._calls_made}"
            self._unnamed.append(call_id)
        return self.calls.call(
            stamp, call_id, tool.name, tool.kind, title_of(tool.name, tool.given), tool.given, keep=True
        )

    def _returned(self, call_id: str, tool: Tool, stamp: Stamp) -> list[Draft]:
        call_id = call_id or (self._unnamed.pop(0) if self._unnamed else "unknown")
        call = self.calls.take(call_id, stamp, tool.name, tool.kind)
        tool = tool._replace(given=tool.given or call.input or {})
        result = result_of(tool.result)
        out = self.calls.result(
            stamp, call_id, call, result.text, ok=result.ok, exit_code=result.exit_code, detail=result.detail,
            whole=media_of(result.body.get("content")), failed=result.failed,
        )  # fmt: skip
        paths = {path for path in (string(result.body.get("path")), string(tool.given.get("path"))) if path}
        known = result.ok and self._met.meet(*paths)
        if result.ok and tool.name in FILE_TOOLS:
            out += file_of(stamp, call_id, tool, result.body, self.limit, known=known)
        elif result.ok and tool.name == TODO_TOOL:
            steps = steps_of(tool.given, result.body)
            out += self.plans.replaced(steps, stamp.scope, stamp.at) if steps else []
        return out

    # ---- the end

    def _result(self, found: _Found, stamp: Stamp) -> list[Draft]:
        out = self._settled(stamp)
        self._all = []
        subtype = string(found.get("subtype"))
        ok = found.get("is_error") is not True and not subtype.startswith("error")
        said = string(found.get("result"))
        usage = mapping(found.get("usage"))
        counts = tokens(*(usage.get(f"{name}Tokens") for name in ("input", "output", "cacheRead", "cacheWrite")))
        self.turns.totals.add(counts)
        out += update(stamp, counts, cumulative=False)
        return out + self.turns.ended(
            stamp,
            ok=ok,
            result=said,
            failed=said or string(found.get("error")) or subtype,
            code=subtype if subtype != "success" else "",
            usage=counts,
            duration_ms=whole(found.get("duration_ms")),
            subtype=subtype,
        )

    def finish(self, moment: Moment) -> list[Draft]:
        """Tell whole the texts that were cut."""
        self._parts = []
        return super().finish(moment)


def _of_message(kind: str, found: Mapping[str, JSON]) -> Sureness:
    """Whether a line of a user or an assistant is Cursor's: its message is a role and texts, nothing more."""
    message = found.get("message")
    if kind not in ("assistant", "user") or type(message) is not dict:
        return Sureness.NO
    if kind == "assistant" and ("model_call_id" in found or "timestamp_ms" in found):
        return Sureness.SURE
    plain = message.keys() <= {"content", "role"} and type(message.get("content")) is list
    return Sureness.LIKELY if plain and "session_id" in found and "timestamp" not in found else Sureness.NO


def _joined(content: JSON) -> str:
    """The text of a message; its blocks are pieces of one."""
    if type(content) is list and all(type(mapping(block).get("text")) is str for block in content):
        return "".join(block["text"] for block in content)
    return flat(content)


def _time_of(found: _Found) -> str | None:
    told = number(found.get("timestamp_ms"))
    return timestamp(told / 1000 + 0.0005) if told is not None and 0 < told < _LATEST_MS else None


_READERS: dict[str, Callable[[Cursor, _Found, Stamp], list[Draft] | None]] = {
    "assistant": Cursor._assistant,  # noqa: SLF001 - the class's own table
    "connection": Cursor._connection,  # noqa: SLF001 - the class's own table
    "interaction_query": Cursor._query,  # noqa: SLF001 - the class's own table
    "result": Cursor._result,  # noqa: SLF001 - the class's own table
    "retry": Cursor._retry,  # noqa: SLF001 - the class's own table
    "system": Cursor._system,  # noqa: SLF001 - the class's own table
    "thinking": Cursor._thinking,  # noqa: SLF001 - the class's own table
    "tool_call": Cursor._tool_call,  # noqa: SLF001 - the class's own table
    "user": Cursor._user,  # noqa: SLF001 - the class's own table
}
