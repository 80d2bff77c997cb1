"""Calls and results as Claude Code tells them; how they are paired and told is `agentpipe.parse.vocabulary.calls`.

The rule this module keeps: what a result changes (files, plans) is told right after it, and only when it succeeded.
"""

import re

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.claude.files import file_change
from agentpipe.parse.claude.line import Line
from agentpipe.parse.claude.todo import Todo
from agentpipe.parse.claude.tools import FILE_TOOLS, PLAN_TOOLS, kind_of, title_of
from agentpipe.parse.vocabulary.calls import Calls
from agentpipe.parse.vocabulary.content import flat, media_of
from agentpipe.parse.vocabulary.fields import mapping, string

__all__ = ["ClaudeCalls"]

_EXIT_CODE = re.compile(r"(?:Error: )?Exit code (\d+)")

#: Texts in a result's structured form that are details; longer ones are contents.
_DETAIL_CHARACTERS = 200

#: Repeated by the event itself, by the call or by the content.
_NO_DETAIL = frozenset({
    "content", "filePath", "newString", "new_source", "old_source", "oldString", "originalFile",
    "originalFileContents", "plan", "prompt", "result", "stderr", "stdout", "type",
})  # fmt: skip

_NEEDS_INPUT = FILE_TOOLS | PLAN_TOOLS


class ClaudeCalls:
    """The calls of one run. *limit* bounds contents and inputs in bytes."""

    def __init__(self, calls: Calls, todo: Todo, limit: int) -> None:
        # given
        self._calls = calls
        self._todo = todo
        self._limit = limit
        # changing
        self._nameless: list[str] = []  # made-up ids of calls that came without one

    def call(self, block: dict[str, JSON], line: Line, message: str, index: int) -> Draft:
        """A tool is called; the message's name and the block's index in it stand in for an id that is missing."""
        name, given = string(block.get("name")) or "unknown", mapping(block.get("input"))
        tool_use_id = block.get("id")
        if type(tool_use_id) is not str or not tool_use_id:
            tool_use_id = f"{message}:{index}"
            self._nameless.append(tool_use_id)
        return self._calls.call(
            line,
            tool_use_id,
            name,
            kind_of(name),
            title_of(name, given),
            given,
            background=given.get("run_in_background") is True,
            keep=name in _NEEDS_INPUT,
        )

    def result(
        self,
        block: dict[str, JSON],
        structured: JSON,
        meta: dict[str, JSON],
        line: Line,
        duration_ms: int | None = None,
    ) -> list[Draft]:
        """A tool gave something back. *structured* is the line's own form of it, None when it is not this result's;
        *duration_ms* is what the line says about how long it took.
        """
        tool_use_id = block.get("tool_use_id")
        if type(tool_use_id) is not str or not tool_use_id:
            tool_use_id = self._oldest_nameless()
        call = self._calls.take(tool_use_id, line)
        detail: dict[str, JSON] = {}
        if type(structured) is dict:
            detail = _detail(structured)
            if structured.get("detachedToolCall") is True:  # it goes on in the background; more comes in a later turn
                self._calls.reopened(tool_use_id, call)
        ok = block.get("is_error") is not True
        content = block.get("content")
        text = content if type(content) is str else flat(content)
        if meta and type(meta.get("non_execution_kind")) is str:
            detail["non_execution_kind"] = meta["non_execution_kind"]
        out = self._calls.result(
            line,
            tool_use_id,
            call,
            text,
            ok=ok,
            exit_code=None if ok else _exit_code(text, structured),
            duration_ms=duration_ms,
            detail=detail,
            whole=media_of(content) if type(content) is list else (),
        )
        if ok and call.input is not None:
            out += self._consequences(call.name, call.input, tool_use_id, structured, text, line)
        if call.kind == "think" and mapping(structured).get("status") != "async_launched":
            self._todo.close(tool_use_id)  # a sub-agent's, if it is one
        return out

    def _consequences(
        self, name: str, given: dict[str, JSON], tool_use_id: str, structured: JSON, text: str, line: Line
    ) -> list[Draft]:
        if name in PLAN_TOOLS:
            return self._todo.succeeded(name, given, structured, text, line.scope, line.at)
        return file_change(name, given, mapping(structured), text, tool_use_id, self._limit, line)

    def _oldest_nameless(self) -> str:
        return self._nameless.pop(0) if self._nameless else "unknown"


def _exit_code(text: str, structured: JSON) -> int | None:
    said = _EXIT_CODE.match(text) or _EXIT_CODE.match(string(structured))
    return int(said[1][:9]) if said is not None else None


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
