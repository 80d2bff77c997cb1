"""Calls of tools and their results: paired by id, in whatever order they come.

The rule this module keeps: a result is told even when its call was never seen, and a call stays open until its own
result comes. A failed tool is told twice, as the result that is not ``ok`` and as an ``error`` of rank ``tool``.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from agentpipe.event import JSON, encode, seconds
from agentpipe.parse.adapter import Draft, Whole
from agentpipe.parse.vocabulary.content import capped, cut, shortened
from agentpipe.parse.vocabulary.drafts import error
from agentpipe.parse.vocabulary.stamp import Stamp

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["Call", "Calls"]

#: Shorter lines hold no image that is worth a look.
_SMALL_BYTES = 1024

#: An error's message is a line for people; the whole is in the result's content.
_ERROR_BYTES = 500


class Call(msgspec.Struct, gc=False):
    """A call whose result has not come; *input* is there when the result's meaning depends on it."""

    name: str
    kind: "Kind"
    at: str
    own: bool  # whether the source itself told the time
    read: float
    input: dict[str, JSON] | None = None


class Calls:
    """The calls of one run. *limit* bounds contents and inputs in bytes; what is cut is handed on whole beside it."""

    def __init__(self, limit: int) -> None:
        # given
        self._limit = limit
        # changing
        self._open: dict[str, Call] = {}

    def __contains__(self, tool_use_id: str) -> bool:
        return tool_use_id in self._open

    @property
    def open(self) -> Mapping[str, Call]:
        """The calls without a result, by id, in the order in which they were made."""
        return self._open

    def call(
        self,
        stamp: Stamp,
        tool_use_id: str,
        name: str,
        kind: "Kind",
        title: str,
        given: dict[str, JSON],
        *,
        background: bool = False,
        keep: bool = False,
    ) -> Draft:
        """A tool is called with *given*; *keep* remembers the input for the result."""
        self._open[tool_use_id] = Call(name, kind, stamp.at, stamp.own, stamp.read, given if keep else None)
        small = stamp.size <= self._limit and stamp.size <= _SMALL_BYTES
        payload: dict[str, JSON] = {
            "tool_use_id": tool_use_id,
            "name": name,
            "kind": kind,
            "input": given if small else capped(given, self._limit),
            "title": title,
        }
        if background:
            payload["background"] = True
        draft = Draft("agent_tool_call", payload, stamp.at, stamp.scope)
        if not small and payload["input"] != given:
            draft.whole = (Whole("application/json", encode(given).decode()),)
        return draft

    def take(self, tool_use_id: str, stamp: Stamp, name: str = "unknown", kind: "Kind" = "other") -> Call:
        """The call that *tool_use_id* answers, which is closed by that; one made of *name* and *kind* when it never
        came.
        """
        return self._open.pop(tool_use_id, None) or Call(name, kind, stamp.at, stamp.own, stamp.read)

    def reopened(self, tool_use_id: str, call: Call) -> None:
        """The call goes on although it has a result: another one will come."""
        self._open[tool_use_id] = call

    def result(
        self,
        stamp: Stamp,
        tool_use_id: str,
        call: Call,
        text: str,
        *,
        ok: bool,
        exit_code: int | None = None,
        duration_ms: int | None = None,
        detail: Mapping[str, JSON] | None = None,
        whole: Sequence[Whole] = (),
        failed: str = "",
    ) -> list[Draft]:
        """*call* gave *text* back. *duration_ms* is the source's own, else it is measured; *whole* are images and
        files of the result; *failed* is what the error says when it is not the text.
        """
        size = len(text)
        content, truncated = text, False
        if size > self._limit or not text.isascii():
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
        if exit_code is not None:
            payload["exit_code"] = exit_code
        if detail:
            payload["detail"] = detail
        took_ms = duration_ms if duration_ms is not None else _took_ms(call, stamp)
        if took_ms is not None:
            payload["duration_ms"] = took_ms
        draft = Draft("agent_tool_result", payload, stamp.at, stamp.scope)
        if truncated or whole:
            draft.whole = (Whole("text/plain", text), *whole) if truncated else tuple(whole)
        if ok:
            return [draft]
        message = shortened(failed.strip() or text.strip() or f"{call.name} failed", _ERROR_BYTES)
        return [draft, *error("tool", message, stamp.at, stamp.scope, tool_use_id=tool_use_id, name=call.name)]


def _took_ms(call: Call, stamp: Stamp) -> int | None:
    """How long a call took, by times of one kind: the source's own, else those of reading.

    Two lines of one read tell no time apart, so nothing is said about them.
    """
    own = stamp.own
    if own is not call.own:
        took_s = stamp.read - call.read
        return round(took_s * 1000) if took_s > 0 else None
    start, end = call.at, stamp.at
    if start == end:
        return 0 if own else None
    if start[19::4] == end[19::4] == ".Z":  # in milliseconds, as mostly
        took_ms = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() * 1000
    else:
        took_ms = (seconds(end) - seconds(start)) * 1000
    return round(took_ms) if took_ms > 0 or (own and took_ms == 0) else None
