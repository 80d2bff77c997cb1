"""How the program itself noted the end of a call: as an event, in the newest rollouts as an item of the turn.

The rule this module keeps: nothing is told here. An item is read as the event that older versions keep, and what was
noted makes the model's own result better: the exit status, the whole text, the true diff.
"""

from collections.abc import Callable
from typing import TypeAlias

from agentpipe.event import JSON
from agentpipe.parse.codex.acts import Act
from agentpipe.parse.codex.changes import mapped
from agentpipe.parse.codex.output import Output, parts_of
from agentpipe.parse.codex.said import spoken
from agentpipe.parse.codex.words import duration_ms, mcp_result
from agentpipe.parse.vocabulary.fields import string, whole

__all__ = ["bettered", "ended_event"]

_Found: TypeAlias = dict[str, JSON]


def ended_event(item: _Found) -> _Found | None:
    """The event that an older version would have kept for *item*; None when there is none."""
    reader = _ITEMS.get(string(item.get("type")))
    return reader(item) if reader is not None else None


def _agent_message(item: _Found) -> _Found:
    texts = parts_of(item.get("content"))[0]
    return {"type": "agent_message", "id": item.get("id"), "message": texts, "phase": item.get("phase")}


def _user_message(item: _Found) -> _Found:
    return {"type": "user_message", "message": spoken(item.get("content"))}


def _reasoning(item: _Found) -> _Found:
    texts = item.get("summary_text") or item.get("raw_content")
    return {"type": "agent_reasoning", "id": item.get("id"), "text": texts if type(texts) is list else []}


def _command(item: _Found) -> _Found:
    return {**item, "type": "exec_command_end", "call_id": item.get("id")}


def _files(item: _Found) -> _Found:
    ok = item.get("status") in ("completed", None)
    return {**item, "type": "patch_apply_end", "call_id": item.get("id"), "success": ok}


def _mcp(item: _Found) -> _Found:
    failure = item.get("error")
    result = {"Err": failure} if failure is not None else item.get("result")
    return {**item, "type": "mcp_tool_call_end", "call_id": item.get("id"), "result": result}


def _search(item: _Found) -> _Found:
    return {**item, "type": "web_search_end", "call_id": item.get("id")}


def _sleep(item: _Found) -> _Found:
    return {"type": "background_event", "message": f"slept {item.get('duration_ms')} ms"}


def _compaction(item: _Found) -> _Found:  # noqa: ARG001 - one shape for all
    return {"type": "context_compacted"}


_ITEMS: dict[str, Callable[[_Found], _Found]] = {
    "AgentMessage": _agent_message,
    "CommandExecution": _command,
    "ContextCompaction": _compaction,
    "FileChange": _files,
    "McpToolCall": _mcp,
    "Reasoning": _reasoning,
    "Sleep": _sleep,
    "UserMessage": _user_message,
    "WebSearch": _search,
}


def bettered(output: Output, act: Act | None, event: dict[str, JSON]) -> tuple[Output, Act | None]:
    """*output* and *act* with what the program noted: the exit status, the whole text, the true diff."""
    took = duration_ms(event.get("duration"))
    output = output._replace(duration_ms=took if took is not None else output.duration_ms)
    kind = event["type"]
    if kind == "exec_command_end":
        code = whole(event.get("exit_code"))
        text = string(event.get("aggregated_output")) or output.text
        failed = output.ok is False if code is None else code != 0
        return output._replace(text=text, exit_code=code if code is not None else output.exit_code, ok=not failed), act
    if kind == "patch_apply_end":
        edits = mapped(event.get("changes"))
        ok = event.get("success") is not False and output.ok is not False
        bettered = Act(act.name, act.input, edits=edits) if act is not None and edits else act
        return output._replace(ok=ok), bettered
    _, ok, _ = mcp_result(event.get("result"), event.get("error"))
    return output._replace(ok=ok and output.ok is not False), act
