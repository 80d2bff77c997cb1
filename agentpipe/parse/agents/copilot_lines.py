"""The small lines of the Copilot CLI: what is silent by rule, logged, a warning, or a question to a human.

The rule this module keeps: they are about the program, not the work; none of them changes what is known of the run.
"""

from collections.abc import Callable

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import mapping, string, whole
from agentpipe.parse.vocabulary.stamp import Stamp

__all__ = ["SILENT", "is_small", "small_line"]

#: What says nothing to a viewer: the program's own state, or what another line repeats.
SILENT = frozenset({
    "assistant.idle", "assistant.message_start", "assistant.server_tool_progress", "assistant.streaming_delta",
    "assistant.tool_call_delta", "assistant.turn_end", "assistant.turn_start", "auto_mode_switch.completed",
    "auto_mode_switch.requested", "capabilities.changed", "command.completed", "command.execute", "command.queued",
    "commands.changed", "elicitation.completed", "exit_plan_mode.completed", "external_tool.completed",
    "external_tool.requested", "hook.progress", "hook.start", "mcp.headers_refresh_completed",
    "mcp.headers_refresh_required", "mcp.oauth_completed", "mcp.prompts.list_changed", "mcp.resources.list_changed",
    "mcp.tools.list_changed", "mcp_app.tool_call_complete", "model.call_start", "pending_messages.modified",
    "permission.completed", "sampling.completed", "sampling.requested", "session.auto_mode_resolved",
    "session.autopilot_objective_changed", "session.background_tasks_changed", "session.canvas.closed",
    "session.canvas.opened", "session.canvas.recorded", "session.canvas.registry_changed", "session.canvas.removed",
    "session.canvas.unavailable", "session.custom_agents_updated", "session.extensions.attachments_pushed",
    "session.extensions_loaded", "session.idle", "session.managed_settings_enforced",
    "session.managed_settings_resolved", "session.mcp_servers_loaded", "session.mode_changed",
    "session.permissions_changed", "session.plan_changed", "session.remote_steerable_changed",
    "session.schedule_cancelled", "session.schedule_created", "session.schedule_rearmed",
    "session.session_limits_changed", "session.skills_loaded", "session.title_changed", "session.todos_changed",
    "session.usage_checkpoint", "session.workspace_file_changed", "session_limits_exhausted.completed",
    "subagent.deselected", "subagent.selected", "system.message", "tool.execution_partial_result",
    "tool.execution_progress", "tool.user_requested", "tool_search.activated", "user_input.completed",
})  # fmt: skip

#: Types told as a log entry: the level, and the fields that may say it, the first that is there.
_LOGGED = {
    "assistant.intent": ("info", ("intent",)),
    "session.compaction_start": ("info", ()),
    "session.custom_notification": ("info", ("message", "content", "name")),
    "session.handoff": ("info", ("summary", "context")),
    "session.info": ("info", ("message",)),
    "session.snapshot_rewind": ("info", ()),
    "session.truncation": ("info", ()),
    "skill.invoked": ("info", ("name",)),
    "subagent.started": ("info", ("agentDisplayName", "agentName")),
    "system.notification": ("info", ("content",)),
}

#: The agent waits for a human: what for, and the field of the data that says it.
_ASKING = {
    "elicitation.requested": ("elicitation", "message"),
    "exit_plan_mode.requested": ("exit_plan_mode", "summary"),
    "mcp.oauth_required": ("mcp_oauth", "serverName"),
    "session_limits_exhausted.requested": ("session_limits", "message"),
    "user_input.requested": ("ask_user", "question"),
}


def is_small(kind: str) -> bool:
    """Whether lines of the type *kind* are told here."""
    return kind in _LOGGED or kind in _ASKING or kind in _LINES


def small_line(kind: str, data: dict[str, JSON], stamp: Stamp) -> list[Draft] | None:
    """The drafts of a small line; None when its type is not one of them."""
    if kind in _LOGGED:
        return _logged(kind, data, stamp)
    if kind in _ASKING:
        return _asked(kind, data, stamp)
    reader = _LINES.get(kind)
    return reader(data, stamp) if reader is not None else None


def _server(data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
    if data.get("status") != "failed":
        return []
    said = string(data.get("error")) or "could not be reached"
    return error("warning", f"MCP server {string(data.get('serverName'))}: {said}", stamp.at, stamp.scope)


def _warned(data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
    said = next((string(data.get(name)) for name in ("message", "errorMessage", "error") if data.get(name)), "")
    code = string(data.get("warningType")) or string(data.get("errorCode"))
    return error(
        "warning", said or "a call of the model failed", stamp.at, stamp.scope,
        code=code, status=whole(data.get("statusCode")),
    )  # fmt: skip


def _compacted(data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
    if data.get("success") is False:
        said = string(data.get("error")) or "the conversation could not be compacted"
        return error("warning", said, stamp.at, stamp.scope)
    removed = whole(data.get("tokensRemoved"))
    more = f": {removed} tokens removed" if removed else ""
    return log("info", f"compacted the conversation{more}", stamp.at, "session.compaction_complete")


def _hooked(data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
    if data.get("success") is not False:
        return []
    said = string(mapping(data.get("error")).get("message")) or "failed"
    return error("warning", f"hook {string(data.get('hookType'))}: {said}", stamp.at, stamp.scope)


def _task_complete(data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
    """The task's summary, which the call told already; its failure is not told elsewhere."""
    if data.get("success") is not False:
        return []
    return error("warning", string(data.get("summary")) or "the task was not completed", stamp.at, stamp.scope)


def _logged(kind: str, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
    level, names = _LOGGED[kind]
    said = next((string(data.get(name)) for name in names if string(data.get(name))), "")
    what = kind.split(".", 1)[1].replace("_", " ")
    return log(level, f"{what}: {said}" if said else what, stamp.at, kind)


def _asked(kind: str, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
    name, field = _ASKING[kind]
    return _permission({"name": name, "input": data, "reason": string(data.get(field))}, data, stamp)


def _permit(data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
    if data.get("resolvedByHook") is True:
        return []  # nobody is asked
    asked = mapping(data.get("permissionRequest")) or data
    reason = string(asked.get("intention")) or string(asked.get("fullCommandText"))
    return _permission({"name": string(asked.get("kind")) or "tool", "input": asked, "reason": reason}, asked, stamp)


def _permission(payload: dict[str, JSON], asked: dict[str, JSON], stamp: Stamp) -> list[Draft]:
    call_id = string(asked.get("toolCallId"))
    if call_id:
        payload["tool_use_id"] = call_id
    return [Draft("permission_request", {k: v for k, v in payload.items() if v or k == "input"}, stamp.at, stamp.scope)]


_LINES: dict[str, Callable[[dict[str, JSON], Stamp], list[Draft]]] = {
    "hook.end": _hooked,
    "model.call_failure": _warned,
    "permission.requested": _permit,
    "session.compaction_complete": _compacted,
    "session.mcp_server_status_changed": _server,
    "session.task_complete": _task_complete,
    "session.warning": _warned,
}
