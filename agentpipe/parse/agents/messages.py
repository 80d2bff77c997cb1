"""Agents that print messages of the Messages API as Claude Code does, with tools of their own: Qwen Code, Amp.

The rules this module keeps: an ``assistant`` line is whole, and what streamed before it as parts is replaced by it, in
its place; each line is a message of its own, whatever its blocks; a result ends a turn, never the run. What differs
(tools, tokens, how failures are worded) is the adapter's.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment, source_time
from agentpipe.parse.claude.line import NOISE, blocks_of, is_result
from agentpipe.parse.claude.system import small_line
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.calls import Call
from agentpipe.parse.vocabulary.content import flat, media_of, shortened
from agentpipe.parse.vocabulary.drafts import error
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.texts import TextType
from agentpipe.parse.vocabulary.titles import title_of
from agentpipe.parse.vocabulary.usage import Tokens, Totals, tokens, update

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["Found", "Messages", "Returned"]

#: A decoded line, or a part of one.
Found = dict[str, JSON]

_TEXTS: dict[str, tuple[TextType, str]] = {
    "text": ("agent_output", "text"),
    "thinking": ("agent_thinking", "thinking"),
    "text_delta": ("agent_output", "text"),
    "thinking_delta": ("agent_thinking", "thinking"),
}
_SILENT_EVENTS = frozenset({"content_block_stop", "message_delta", "ping", "tool_progress"})
_SILENT_DELTAS = frozenset({"citations_delta", "input_json_delta", "signature_delta"})
_MEDIA_BLOCKS = frozenset({"image", "document"})


class Returned(msgspec.Struct, gc=False):
    """What a result means: whether the call went well, the exit status if its text tells one, and what the tool gave
    back when that is not the text itself.
    """

    ok: bool
    exit_code: int | None = None
    text: str | None = None


class _Stream:
    """A message that comes in parts: its name, the next index, and the texts whose whole has not come."""

    __slots__ = ("name", "next", "pending")

    def __init__(self, name: str) -> None:
        self.name = name
        self.next = 0
        self.pending: list[tuple[TextType, int]] = []

    def open(self, type: TextType) -> int:  # noqa: A002 - the event's field
        """A new text; its index."""
        self.pending.append((type, self.next))
        self.next += 1
        return self.next - 1

    def take(self, type: TextType) -> int | None:  # noqa: A002 - the event's field
        """The index of the oldest text of *type* whose whole has not come; it has now."""
        for place in self.pending:
            if place[0] == type:
                self.pending.remove(place)
                return place[1]
        return None


class Messages(Account):
    """What such adapters share; one states its tools, its tokens and its own kinds of line."""

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # changing
        self._streams: dict[str | None, _Stream] = {}  # by scope
        self._before = Totals()  # what was used when the last turn ended
        self.lines = 0  # of the agent that were read

    def read(self, found: Found, moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        self.lines += 1
        kind = string(found.get("type"))
        if kind == "stream_event" and self.ready and NOISE[kind](found):
            return []
        own = source_time(found["timestamp"]) if "timestamp" in found else None
        scope = found.get("parent_tool_use_id")
        stamp = self.stamp(own, moment, size, scope if type(scope) is str else None)
        if not self.sessions:
            self.learn(session_id=string(found.get("session_id")))
        self.ready = self.ready or kind != "system" or found.get("subtype") == "init"
        before = self.ticks(stamp, moment)
        reader = _READERS.get(kind)
        told = reader(self, found, stamp) if reader is not None else small_line(kind, found, stamp.at)
        if told is None:
            self.lines -= 1  # somebody else's: what it stands between is called the same without it
            told = [self.raw(stamp, f"unknown type {shortened(kind, 100)!r}", found)]
        return [*before, *told] if before else told

    # ---- what an adapter may know better

    def kind_of(self, name: str) -> "Kind":  # noqa: ARG002 - the adapter's shape
        """The kind of the tool called *name*."""
        return "other"

    def title_of(self, name: str, given: Found) -> str:
        """How a call reads on one line."""
        return title_of(name, given)

    def keeps_input(self, name: str) -> bool:  # noqa: ARG002 - the adapter's shape
        """Whether what a result means depends on the call's input."""
        return False

    def meaning(self, call: Call, text: str, *, failed: bool) -> Returned:  # noqa: ARG002 - the adapter's shape
        """What a result says with *text*; *failed* is the line's own word."""
        return Returned(not failed)

    def effects(self, stamp: Stamp, tool_use_id: str, call: Call, text: str) -> list[Draft]:  # noqa: ARG002 - the adapter's shape
        """What a call that went well has changed."""
        return []

    def tokens_of(self, usage: Found) -> Tokens:
        """The tokens of a message or a result; the API counts its input without the cache."""
        read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
        return tokens(usage.get("input_tokens"), usage.get("output_tokens"), read, written)

    def facts_of(self, found: Found) -> Found:
        """What ``system/init`` tells besides the session, the folder and the tools."""
        return {"model": string(found.get("model"))}

    def system_line(self, found: Found, stamp: Stamp) -> list[Draft] | None:  # noqa: ARG002 - the adapter's shape
        """The drafts of another ``system`` line; None when it is not known."""
        return None

    def api_failure(self, message: Found) -> str:  # noqa: ARG002 - the adapter's shape
        """What *message* says of an API that failed for good, or the empty string."""
        return ""

    def result_line(self, found: Found, stamp: Stamp) -> list[Draft]:
        """The end of a turn, when open texts and denials are told. What it used is what its messages used, or what it
        says itself when they did not.
        """
        totals = self.turns.totals
        if not totals.counts:
            totals.add(self.tokens_of(mapping(found.get("usage"))))
        used, _ = self._before.grown(totals.counts)
        subtype, problem = string(found.get("subtype")), found.get("error")
        failed = found.get("is_error") is True or subtype.startswith("error")
        said = problem if type(problem) is str else string(mapping(problem).get("message"))
        ended = self.turns.ended(
            stamp,
            ok=not failed,
            result=string(found.get("result")),
            failed=said or string(found.get("result")) or subtype,
            code=subtype if failed else "",
            usage=used,
            duration_ms=whole(found.get("duration_ms")),
            num_turns=whole(found.get("num_turns")),
        )
        return [*update(stamp, totals.counts, cumulative=True), *ended]

    # ---- lines

    def _system(self, found: Found, stamp: Stamp) -> list[Draft]:
        if found.get("subtype") == "init":
            tools = [tool for tool in items(found.get("tools")) if type(tool) is str]
            names = {name: string(found.get(name)) for name in ("session_id", "cwd")}
            self.learn(**names, **self.facts_of(found), tools=tools)
            return []
        told = self.system_line(found, stamp)
        if told is not None:
            return told
        return [self.raw(stamp, f"unknown subtype {shortened(string(found.get('subtype')), 100)!r}", found)]

    def _assistant(self, found: Found, stamp: Stamp) -> list[Draft]:
        message = mapping(found.get("message"))
        failed = self.api_failure(message)
        if failed:
            self._stream(stamp).pending.clear()
            parts = self.texts.settle(stamp)
            return [*parts, *error("agent", failed, stamp.at, stamp.scope)]
        name = string(message.get("id")) or string(found.get("uuid")) or f"message-{self.lines}"
        out: list[Draft] = []
        for index, block in enumerate(blocks_of(message.get("content"))):
            out += self._block(block, name, index, stamp)
        counts = self.tokens_of(mapping(message.get("usage")))
        if any(counts.values()):
            self.turns.totals.add(counts)
            context = sum(counts.values()) - counts.get("output_tokens", 0)
            model = string(message.get("model"))
            out += update(stamp, counts, cumulative=False, model=model, context=context)
        return out

    def _block(self, block: Found, name: str, index: int, stamp: Stamp) -> list[Draft]:
        kind = string(block.get("type"))
        if kind in ("text", "thinking"):
            type_, field = _TEXTS[kind]
            return self._whole(type_, string(block.get(field)), name, index, stamp)
        if kind == "redacted_thinking":
            payload = {"message_id": name, "index": index, "text": "", "final": True, "redacted": True}
            return [Draft("agent_thinking", payload, stamp.at, stamp.scope)]
        if kind == "tool_use":
            return [self._call(block, name, index, stamp)]
        return [self.raw(stamp, f"unknown block {shortened(kind, 100)!r}", block)]

    def _whole(self, type: TextType, text: str, name: str, index: int, stamp: Stamp) -> list[Draft]:  # noqa: A002 - the event's field
        """A whole text, in the place of its parts if it had any."""
        stream = self._streams.get(stamp.scope)
        place = stream.take(type) if stream is not None else None
        if stream is None or place is None:
            return self.texts.final(stamp, type, name, text, index)
        return self.texts.final(stamp, type, stream.name, text or None, place)

    def _call(self, block: Found, name: str, index: int, stamp: Stamp) -> Draft:
        tool, given = string(block.get("name")) or "unknown", mapping(block.get("input"))
        call_id = string(block.get("id")) or f"{name}:{index}"
        background = given.get("is_background") is True or given.get("run_in_background") is True
        return self.calls.call(
            stamp,
            call_id,
            tool,
            self.kind_of(tool),
            self.title_of(tool, given),
            given,
            background=background,
            keep=self.keeps_input(tool),
        )

    def _user(self, found: Found, stamp: Stamp) -> list[Draft]:
        message = found.get("message")
        name = string(found.get("uuid")) or f"message-{self.lines}"
        out: list[Draft] = []
        for index, block in enumerate(blocks_of(mapping(message).get("content") if type(message) is dict else message)):
            kind = string(block.get("type"))
            if is_result(block):
                out += self._returned(block, stamp)
            elif kind == "text" or kind in _MEDIA_BLOCKS:
                told = self.texts.final(stamp, "agent_output", name, flat([block]), index, role="user")
                for draft in told:
                    draft.whole = media_of([block])
                out += told
            else:
                out.append(self.raw(stamp, f"unknown block {shortened(kind, 100)!r}", block))
        return out

    def _returned(self, block: Found, stamp: Stamp) -> list[Draft]:
        call_id = string(block.get("tool_use_id")) or "unknown"
        call, content = self.calls.take(call_id, stamp), block.get("content")
        text = content if type(content) is str else flat(content)
        meant = self.meaning(call, text, failed=block.get("is_error") is True)
        media = media_of(content)
        shown = text if meant.text is None else meant.text
        out = self.calls.result(stamp, call_id, call, shown, ok=meant.ok, exit_code=meant.exit_code, whole=media)
        if call.kind == "think":
            self.plans.close(call_id)  # a sub-agent's, if it is one
        return out + self.effects(stamp, call_id, call, text) if meant.ok else out

    def _result(self, found: Found, stamp: Stamp) -> list[Draft]:
        self._streams.clear()
        out = self.texts.settle_all(stamp.at)
        for denial in items(found.get("permission_denials")):
            row = mapping(denial)
            name = string(row.get("tool_name")) or string(denial) or "a tool"
            call_id = string(row.get("tool_use_id"))
            out += error("warning", f"{name} was denied", stamp.at, code="permission_denied", tool_use_id=call_id)
        return out + self.result_line(found, stamp)

    # ---- parts

    def _stream(self, stamp: Stamp) -> _Stream:
        """The message that streams in the stamp's scope; one whose start was lost begins here."""
        stream = self._streams.get(stamp.scope)
        if stream is None:
            stream = self._streams[stamp.scope] = _Stream(f"message-{self.lines}")
        return stream

    def _stream_event(self, found: Found, stamp: Stamp) -> list[Draft]:
        event = mapping(found.get("event"))
        kind = string(event.get("type"))
        if kind == "content_block_delta":
            return self._delta(mapping(event.get("delta")), stamp)
        if kind == "content_block_start":
            block = mapping(event.get("content_block"))
            if block.get("type") not in ("text", "thinking"):
                return []
            type_, field = _TEXTS[block["type"]]
            index = self._stream(stamp).open(type_)
            return self._part(type_, string(block.get(field)), index, stamp)
        if kind == "message_start":
            return self._message_start(mapping(event.get("message")), stamp)
        if kind == "message_stop":
            stream = self._streams.pop(stamp.scope, None)
            return self.texts.settle(stamp) if stream is not None else []
        if kind in _SILENT_EVENTS:
            return []
        return [self.raw(stamp, f"unknown stream event {shortened(kind, 100)!r}", found)]

    def _message_start(self, message: Found, stamp: Stamp) -> list[Draft]:
        """A new message; what a cut one left open is said anew, so it is taken back."""
        cut = self._streams.get(stamp.scope)
        self._streams[stamp.scope] = _Stream(string(message.get("id")) or f"message-{self.lines}")
        out: list[Draft] = []
        for type_, index in cut.pending if cut is not None else ():
            if cut is not None and self.texts.is_open(type_, cut.name, index, stamp.scope):
                out += self.texts.final(stamp, type_, cut.name, "", index, retracted=True)
        return out

    def _delta(self, delta: Found, stamp: Stamp) -> list[Draft]:
        kind = string(delta.get("type"))
        if kind in _SILENT_DELTAS:
            return []
        if kind not in _TEXTS:
            return [self.raw(stamp, f"unknown delta {shortened(kind, 100)!r}", delta)]
        type_, field = _TEXTS[kind]
        stream = self._stream(stamp)
        last = stream.pending[-1] if stream.pending else None
        index = last[1] if last is not None and last[0] == type_ else stream.open(type_)
        return self._part(type_, string(delta.get(field)), index, stamp)

    def _part(self, type: TextType, text: str, index: int, stamp: Stamp) -> list[Draft]:  # noqa: A002 - the event's field
        return self.texts.part(stamp, type, self._stream(stamp).name, text, index)


_READERS: dict[str, Callable[[Messages, Found, Stamp], list[Draft]]] = {
    "assistant": Messages._assistant,  # noqa: SLF001 - the class's own table
    "result": Messages._result,  # noqa: SLF001 - the class's own table
    "stream_event": Messages._stream_event,  # noqa: SLF001 - the class's own table
    "system": Messages._system,  # noqa: SLF001 - the class's own table
    "user": Messages._user,  # noqa: SLF001 - the class's own table
}
