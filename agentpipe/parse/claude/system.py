"""The ``system`` lines of Claude Code, and the small line types around the conversation.

The rule this module keeps: each subtype is either told, or named in the list of those that say nothing by rule; one
that is in neither is not known, and the caller keeps it as ``raw``.
"""

from collections.abc import Callable
from typing import TypeAlias

from agentpipe.event import JSON, timestamp
from agentpipe.parse.adapter import Draft
from agentpipe.parse.claude.tools import question_of
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import mapping, number, string, whole

__all__ = ["SILENT_LINES", "SILENT_SUBTYPES", "small_line", "system_line"]

Reader: TypeAlias = Callable[[dict[str, JSON], str], "list[Draft]"]

#: Heartbeats, states that repeat what other lines say, and matters of the client's own screen.
SILENT_SUBTYPES = frozenset({
    "background_tasks_changed", "commands_changed", "control_request_progress", "elicitation_complete",
    "files_persisted", "hook_progress", "hook_started", "memory_recall", "plugin_install", "post_turn_summary",
    "session_metadata", "session_state_changed", "status", "task_progress", "task_summary", "thinking_tokens",
})  # fmt: skip

#: Line types that say nothing by rule.
SILENT_LINES = frozenset({
    "active_goal", "autocompact_state", "control_cancel_request", "control_response", "keep_alive",
    "prompt_suggestion", "tool_progress",
})  # fmt: skip

_SILENT_REQUESTS = frozenset(
    {"hook_callback", "initialize", "interrupt", "mcp_message", "set_model", "set_permission_mode"}
)


def system_line(found: dict[str, JSON], at: str) -> list[Draft] | None:
    """The drafts of a ``system`` line other than ``init``; None when its subtype is not known."""
    subtype = string(found.get("subtype"))
    if subtype in SILENT_SUBTYPES:
        return []
    reader = _SUBTYPES.get(subtype)
    return reader(found, at) if reader is not None else None


def small_line(kind: str, found: dict[str, JSON], at: str) -> list[Draft] | None:
    """The drafts of a line that is neither ``system`` nor part of the conversation; None when it is not known."""
    if kind in SILENT_LINES:
        return []
    reader = _LINES.get(kind)
    if reader is not None:
        return reader(found, at)
    return _control_request(found, at) if kind == "control_request" else None


def _api_retry(found: dict[str, JSON], at: str) -> list[Draft]:
    kind = string(found.get("error")) or "unknown"
    status = whole(found.get("error_status"))
    attempt, most = whole(found.get("attempt")), whole(found.get("max_retries"))
    shown = f"{kind} (HTTP {status})" if status is not None else kind
    return error(
        "warning",
        f"the API failed: {shown}; attempt {attempt} of {most}",
        at,
        code=kind,
        retry_in_ms=whole(found.get("retry_delay_ms")),
        attempt=attempt,
    )


def _permission_denied(found: dict[str, JSON], at: str) -> list[Draft]:
    message = string(found.get("message")) or f"{string(found.get('tool_name'))} was denied"
    return error("warning", message, at, code="permission_denied", tool_use_id=string(found.get("tool_use_id")))


def _informational(found: dict[str, JSON], at: str) -> list[Draft]:
    message, level = string(found.get("content")), string(found.get("level")) or "info"
    return error("warning", message, at) if level == "warning" else log(level, message, at, "claude")


def _hook_response(found: dict[str, JSON], at: str) -> list[Draft]:
    """A hook that went well says nothing by rule."""
    status, outcome = whole(found.get("exit_code")), string(found.get("outcome"))
    if outcome in ("", "success") and not status:
        return []
    name = string(found.get("hook_name")) or string(found.get("hook_event")) or "hook"
    said = string(found.get("stderr")) or string(found.get("output")) or outcome
    return error("warning", f"{name} hook: {said.strip() or 'failed'}", at, code=f"hook_{outcome or 'error'}")


def _compact_boundary(found: dict[str, JSON], at: str) -> list[Draft]:
    facts = mapping(found.get("compact_metadata"))
    before, after = whole(facts.get("pre_tokens")), whole(facts.get("post_tokens"))
    size = f": {before} → {after} tokens" if after is not None else f": {before} tokens before"
    return log("info", f"context compacted ({string(facts.get('trigger')) or 'auto'}){size}", at, "compact")


def _task_started(found: dict[str, JSON], at: str) -> list[Draft]:
    where = " in the background" if found.get("is_backgrounded") is True else ""
    return _task("info", f"started{where}: {string(found.get('description'))}", found, at)


def _task_updated(found: dict[str, JSON], at: str) -> list[Draft]:
    """Only what no notification repeats: a task that failed, was killed or paused."""
    patch = mapping(found.get("patch"))
    status = string(patch.get("status"))
    if status not in ("failed", "killed", "paused"):
        return []
    said = string(patch.get("error"))
    return _task("warning", f"{status}{': ' if said else ''}{said}", found, at)


def _task_notification(found: dict[str, JSON], at: str) -> list[Draft]:
    status = string(found.get("status")) or "ended"
    said = string(found.get("summary")) or string(found.get("reason"))
    return _task("info" if status == "completed" else "warning", f"{status}: {said}", found, at)


def _task(level: str, message: str, found: dict[str, JSON], at: str) -> list[Draft]:
    ids = {name: string(found.get(name)) for name in ("task_id", "tool_use_id", "output_file")}
    return log(level, f"task {message}", at, "task", **ids)


def _notification(found: dict[str, JSON], at: str) -> list[Draft]:
    return log("notice", string(found.get("text")), at, "claude")


def _local_command(found: dict[str, JSON], at: str) -> list[Draft]:
    return log("info", string(found.get("content")), at, "command")


def _lost_writes(found: dict[str, JSON], at: str) -> list[Draft]:
    subtype = string(found.get("subtype"))
    said = string(found.get("error")) or string(found.get("message")) or string(found.get("reason"))
    return error("warning", f"{subtype.replace('_', ' ')}{': ' if said else ''}{said}", at, code=subtype)


def _refusal(found: dict[str, JSON], at: str) -> list[Draft]:
    return error("warning", string(found.get("content")) or "the model refused", at, code=string(found.get("subtype")))


def _rate_limit(found: dict[str, JSON], at: str) -> list[Draft]:
    """``allowed`` is noise."""
    facts = mapping(found.get("rate_limit_info"))
    status = string(facts.get("status"))
    if status in ("", "allowed"):
        return []
    resets = number(facts.get("resetsAt"))
    until = f", resets at {timestamp(resets)}" if resets is not None and 0 < resets < 1e11 else ""
    kind = string(facts.get("rateLimitType")) or "plan"
    return error("warning", f"rate limit {kind}: {status}{until}", at, code=f"rate_limit_{status}")


def _auth_status(found: dict[str, JSON], at: str) -> list[Draft]:
    said = string(found.get("error"))
    return error("agent", said, at, code="auth") if said else []


def _tool_summary(found: dict[str, JSON], at: str) -> list[Draft]:
    return log("info", string(found.get("summary")), at, "tools")


def _reset(found: dict[str, JSON], at: str) -> list[Draft]:
    return log("info", f"conversation reset ({string(found.get('trigger')) or 'unknown'})", at, "claude")


def _control_request(found: dict[str, JSON], at: str) -> list[Draft] | None:
    request = mapping(found.get("request"))
    subtype = string(request.get("subtype"))
    if subtype != "can_use_tool":
        return [] if subtype in _SILENT_REQUESTS else None
    payload: dict[str, JSON] = {"name": string(request.get("tool_name")), "input": mapping(request.get("input"))}
    said = (string(request.get(name)) for name in ("decision_reason", "description", "title"))
    reason = next(filter(None, said), "") or question_of(payload["input"])
    more = {"tool_use_id": string(request.get("tool_use_id")), "reason": reason}
    payload.update({key: value for key, value in more.items() if value})
    return [Draft("permission_request", payload, at)]


_SUBTYPES: dict[str, Reader] = {
    "api_retry": _api_retry,
    "compact_boundary": _compact_boundary,
    "hook_response": _hook_response,
    "informational": _informational,
    "local_command_output": _local_command,
    "mirror_error": _lost_writes,
    "model_refusal_fallback": _refusal,
    "model_refusal_no_fallback": _refusal,
    "notification": _notification,
    "permission_denied": _permission_denied,
    "session_writes_lost": _lost_writes,
    "task_notification": _task_notification,
    "task_started": _task_started,
    "task_updated": _task_updated,
    "worker_shutting_down": _lost_writes,
}

_LINES: dict[str, Reader] = {
    "auth_status": _auth_status,
    "conversation_reset": _reset,
    "rate_limit_event": _rate_limit,
    "tool_use_summary": _tool_summary,
}
