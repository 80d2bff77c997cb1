"""Calls of tools and their results: paired by id, in whatever order they come.

The rule this module keeps: a result is told even when its call was never seen, and a call stays open until its own
result comes. What a result changes (files, plans) is told right after it, and only when it succeeded.
"""

import re
from typing import TYPE_CHECKING

import msgspec

from agentpipe.event import JSON, seconds
from agentpipe.parse.adapter import Clock, Draft
from agentpipe.parse.claude_line import Line
from agentpipe.parse.claude_system import error
from agentpipe.parse.content import capped, cut, flat, shortened
from agentpipe.parse.fields import mapping, string
from agentpipe.parse.files import file_change
from agentpipe.parse.plans import Plans
from agentpipe.parse.tools import FILE_TOOLS, PLAN_TOOLS, kind_of, title_of

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["Calls"]

_EXIT_CODE = re.compile(r"(?:Error: )?Exit code (\d+)")

#: Texts in a result's structured form that are details; longer ones are contents.
_DETAIL_CHARACTERS = 200

#: Repeated by the event itself, by the call or by the content.
_NO_DETAIL = frozenset({
    "content", "filePath", "newString", "new_source", "old_source", "oldString", "originalFile",
    "originalFileContents", "plan", "prompt", "result", "stderr", "stdout", "type",
})  # fmt: skip

#: An error's message is a line for people; the whole is in the result's content.
_ERROR_BYTES = 500

_NEEDS_INPUT = FILE_TOOLS | PLAN_TOOLS


class _Call(msgspec.Struct, gc=False):
    """A call without its result: its input is kept only for tools whose result does not repeat it."""

    name: str
    kind: "Kind"
    input: dict[str, JSON] | None
    at: str
    own: bool  # whether the source itself told the time
    read: float


class Calls:
    """The calls of one run. *limit* bounds contents and inputs in bytes."""

    def __init__(self, clock: Clock, plans: Plans, limit: int) -> None:
        # given
        self._clock = clock
        self._plans = plans
        self._limit = limit
        # changing
        self._open: dict[str, _Call] = {}
        self._nameless: list[str] = []  # made-up ids of calls that came without one

    def call(self, block: dict[str, JSON], line: Line, message: str, index: int) -> Draft:
        """A tool is called; the message's name and the block's index in it stand in for an id that is missing."""
        name, given = string(block.get("name")) or "unknown", mapping(block.get("input"))
        tool_use_id = string(block.get("id"))
        if not tool_use_id:
            tool_use_id = f"{message}:{index}"
            self._nameless.append(tool_use_id)
        kind = kind_of(name)
        kept = given if name in _NEEDS_INPUT else None
        self._open[tool_use_id] = _Call(name, kind, kept, line.at, line.own is not None, line.moment.now)
        payload: dict[str, JSON] = {
            "tool_use_id": tool_use_id,
            "name": name,
            "kind": kind,
            "input": given if line.size <= self._limit else capped(given, self._limit),
            "title": title_of(name, given),
        }
        if given.get("run_in_background") is True:
            payload["background"] = True
        return Draft("agent_tool_call", payload, line.at, line.scope)

    def result(self, block: dict[str, JSON], structured: JSON, meta: dict[str, JSON], line: Line) -> list[Draft]:
        """A tool gave something back. *structured* is the line's own form of it, None when it is not this result's."""
        tool_use_id = string(block.get("tool_use_id")) or self._oldest_nameless()
        at, scope = line.at, line.scope
        call = self._open.pop(tool_use_id, None) or _unseen(line)
        ok = block.get("is_error") is not True
        content = block.get("content")
        text = content if type(content) is str else flat(content)
        payload = self._payload(tool_use_id, call, ok, text, structured, meta)
        took_ms = _took_ms(call, line)
        if took_ms is not None:
            payload["duration_ms"] = took_ms
        out = [Draft("agent_tool_result", payload, at, scope)]
        if not ok:
            message = shortened(text.strip() or f"{call.name} failed", _ERROR_BYTES)
            out += error("tool", message, at, scope, tool_use_id=tool_use_id, name=call.name)
        elif call.input is not None:
            out += self._consequences(call, tool_use_id, structured, text, scope, at)
        if call.kind == "think" and mapping(structured).get("status") != "async_launched":
            self._plans.close(tool_use_id)  # a sub-agent's, if it is one
        return out

    def _payload(
        self, tool_use_id: str, call: _Call, ok: bool, text: str, structured: JSON, meta: dict[str, JSON]
    ) -> dict[str, JSON]:
        content, size, truncated = cut(text, self._limit)
        payload: dict[str, JSON] = {
            "tool_use_id": tool_use_id,
            "name": call.name,
            "kind": call.kind,
            "ok": ok,
            "content": content,
            "bytes": size,
            "truncated": truncated,
        }
        if not ok:
            said = _EXIT_CODE.match(text) or _EXIT_CODE.match(string(structured))
            if said is not None:
                payload["exit_code"] = int(said[1][:9])
        detail = _detail(structured) if type(structured) is dict else {}
        if meta and type(meta.get("non_execution_kind")) is str:
            detail["non_execution_kind"] = meta["non_execution_kind"]
        if detail:
            payload["detail"] = detail
        return payload

    def _consequences(
        self, call: _Call, tool_use_id: str, structured: JSON, text: str, scope: str | None, at: str
    ) -> list[Draft]:
        given = call.input or {}
        if call.name in PLAN_TOOLS:
            return self._plans.succeeded(call.name, given, structured, text, scope, at)
        change = file_change(call.name, given, mapping(structured), text, tool_use_id, self._limit)
        return [Draft("file_changed", change, at, scope)] if change is not None else []

    def _oldest_nameless(self) -> str:
        return self._nameless.pop(0) if self._nameless else "unknown"


def _unseen(line: Line) -> _Call:
    """Stands in for the call of a result whose call never came."""
    return _Call("unknown", "other", None, line.at, line.own is not None, line.moment.now)


def _took_ms(call: _Call, line: Line) -> int | None:
    """How long a call took, by times of one kind: the source's own, else those of reading.

    Two lines of one read tell no time apart, so nothing is said about them.
    """
    own = line.own is not None
    if own is not call.own:
        took_s = line.moment.now - call.read
        return round(took_s * 1000) if took_s > 0 else None
    took_ms = _between(call.at, line.at)
    return round(took_ms) if took_ms > 0 or (own and took_ms == 0) else None


def _between(start: str, end: str) -> float:
    """Milliseconds from *start* to *end*, which mostly lie in one minute, so that their seconds tell the difference."""
    if start[:17] == end[:17] and start[19::4] == end[19::4] == ".Z":  # ``2026-11-20T07:00:12.345Z``
        return int(end[17:19] + end[20:23]) - int(start[17:19] + start[20:23])
    return (seconds(end) - seconds(start)) * 1000


def _detail(structured: dict[str, JSON]) -> dict[str, JSON]:
    """The small facts of a structured result: numbers, short texts, and what is true."""
    return {
        key: value
        for key, value in structured.items()
        if (
            0 < len(value) <= _DETAIL_CHARACTERS
            if type(value) is str
            else value is True or type(value) is int or type(value) is float
        )
        and key not in _NO_DETAIL
    }
