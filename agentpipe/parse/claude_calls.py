"""Calls of tools and their results: paired by id, in whatever order they come.

The rule this module keeps: a result is told even when its call was never seen, and a call stays open until its own
result comes. What a result changes (files, plans) is told right after it, and only when it succeeded.
"""

import re

from agentpipe.event import JSON, seconds
from agentpipe.parse.adapter import Clock, Draft, Moment
from agentpipe.parse.claude_system import error
from agentpipe.parse.content import capped, cut, flat, shortened
from agentpipe.parse.fields import mapping, string
from agentpipe.parse.files import file_change
from agentpipe.parse.plans import Plans
from agentpipe.parse.tools import FILE_TOOLS, PLAN_TOOLS, kind_of, title_of
from agentpipe.payload import Kind

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


class _Call:
    """A call without its result: its input is kept only for tools whose result does not repeat it."""

    __slots__ = ("at", "input", "kind", "name", "own", "read")

    def __init__(self, name: str, kind: Kind, given: dict[str, JSON] | None, at: str, own: bool, read: float) -> None:
        self.name = name
        self.kind = kind
        self.input = given
        self.at = at
        self.own = own  # whether the source itself told the time
        self.read = read


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

    def call(
        self, block: dict[str, JSON], scope: str | None, at: str, own: str | None, moment: Moment, size: int, place: str
    ) -> Draft:
        """A tool is called. *size* is that of the whole line in bytes, *place* stands in for an id that is missing."""
        name, given = string(block.get("name")) or "unknown", mapping(block.get("input"))
        tool_use_id = string(block.get("id"))
        if not tool_use_id:
            tool_use_id = place
            self._nameless.append(place)
        kind = kind_of(name)
        kept = given if name in _NEEDS_INPUT else None
        self._open[tool_use_id] = _Call(name, kind, kept, at, own is not None, moment.now)
        payload: dict[str, JSON] = {
            "tool_use_id": tool_use_id,
            "name": name,
            "kind": kind,
            "input": given if size <= self._limit else capped(given, self._limit),
            "title": title_of(name, given),
        }
        if given.get("run_in_background") is True:
            payload["background"] = True
        return Draft("agent_tool_call", payload, at, scope)

    def result(
        self,
        block: dict[str, JSON],
        structured: JSON,
        meta: dict[str, JSON],
        scope: str | None,
        at: str,
        own: str | None,
        moment: Moment,
    ) -> list[Draft]:
        """A tool gave something back. *structured* is the line's own form of it, None when it is not this result's."""
        tool_use_id = string(block.get("tool_use_id")) or self._oldest_nameless()
        call = self._open.pop(tool_use_id, None) or _Call("unknown", "other", None, at, own is not None, moment.now)
        ok = block.get("is_error") is not True
        text = flat(block.get("content"))
        payload = self._payload(tool_use_id, call, ok, text, structured, meta)
        took_ms = _took_ms(call, at, own, moment)
        if took_ms is not None:
            payload["duration_ms"] = took_ms
        out = [Draft("agent_tool_result", payload, at, scope)]
        if not ok:
            message = shortened(text.strip() or f"{call.name} failed", _ERROR_BYTES)
            out += error("tool", message, at, tool_use_id=tool_use_id, name=call.name)
            out[-1] = out[-1]._replace(parent_id=scope)
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
        if type(meta.get("non_execution_kind")) is str:
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


def _took_ms(call: _Call, at: str, own: str | None, moment: Moment) -> int | None:
    """How long a call took, by times of one kind: the source's own, else those of reading.

    Two lines of one read tell no time apart, so nothing is said about them.
    """
    alike = (own is not None) == call.own
    took_s = _between(call.at, at) if alike else moment.now - call.read
    told = own is not None and call.own
    return round(took_s * 1000) if took_s > 0 or (told and took_s == 0) else None


def _between(start: str, end: str) -> float:
    """Seconds from *start* to *end*, which mostly lie in one minute, so that their seconds tell the difference."""
    if start[:17] == end[:17] and len(start) == len(end) == 24:
        return round(float(end[17:23]) - float(start[17:23]), 3)
    return seconds(end) - seconds(start)


def _detail(structured: dict[str, JSON]) -> dict[str, JSON]:
    """The small facts of a structured result: numbers, short texts, and what is true."""
    return {
        key: value
        for key, value in structured.items()
        if key not in _NO_DETAIL
        and (
            type(value) in (int, float)
            or value is True
            or (type(value) is str and 0 < len(value) <= _DETAIL_CHARACTERS)
        )
    }
