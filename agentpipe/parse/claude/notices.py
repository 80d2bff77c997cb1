"""The hooks that only tell that something happened: log entries and warnings.

The rule this module keeps: each hook is told, or named in the list of those that say nothing by rule; one that is in
neither is not known, and the adapter keeps it as ``raw``.
"""

from collections.abc import Callable
from typing import TypeAlias

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.content import shortened
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import string

__all__ = ["NOTICES", "SILENT_HOOKS"]

_Notice: TypeAlias = Callable[[dict[str, JSON], str, str | None], list[Draft]]

#: What they ask before something happens, or what the event after them tells.
SILENT_HOOKS = frozenset({"InstructionsLoaded", "PreModelSwitch"})

#: A summary of a whole conversation beside a log entry.
_SUMMARY_BYTES = 4096


def _denied(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    name = string(found.get("tool_name")) or "a tool"
    message = string(found.get("reason")) or f"{name} was denied"
    return error(
        "warning", message, at, scope, code="permission_denied", tool_use_id=string(found.get("tool_use_id")), name=name
    )


def _notification(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    title, kind = string(found.get("title")), string(found.get("notification_type"))
    return _log("notice", string(found.get("message")), at, scope, title=title, notification_type=kind)


def _compacts(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    return _log("info", f"the context is being compacted ({_trigger(found)})", at, scope, source="compact")


def _compacted(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    summary = shortened(string(found.get("compact_summary")), _SUMMARY_BYTES)
    return _log("info", f"context compacted ({_trigger(found)})", at, scope, source="compact", summary=summary)


def _trigger(found: dict[str, JSON]) -> str:
    return string(found.get("trigger")) or "auto"


def _moved(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    where = string(found.get("new_cwd")) or string(found.get("cwd"))
    return _log("info", f"working directory: {where}", at, scope)


def _expanded(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    said = f"/{string(found.get('command_name')).removeprefix('/')} {string(found.get('command_args'))}"
    return _log("info", f"command {said.strip()}", at, scope, source="command")


def _changed(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    parts = (string(found.get("source")), string(found.get("file_path")))
    return _log("info", f"configuration changed: {' '.join(filter(None, parts))}".strip(": "), at, scope)


def _worktree(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    verb = "created" if found.get("hook_event_name") == "WorktreeCreate" else "removed"
    where = string(found.get("worktree_path")) or string(found.get("name")) or string(found.get("worktree_name"))
    return _log("info", f"worktree {verb}: {where}".strip(": "), at, scope)


def _directory(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    return _log("info", f"directory added: {string(found.get('directory'))}", at, scope)


def _idle(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    return _log("info", f"teammate idle: {string(found.get('teammate_name'))}".strip(": "), at, scope)


def _answered(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    server, action = string(found.get("mcp_server_name")) or "a server", string(found.get("action")) or "answered"
    return _log("info", f"question of {server}: {action}", at, scope)


def _set_up(found: dict[str, JSON], at: str, scope: str | None) -> list[Draft]:
    return _log("info", f"set up ({string(found.get('trigger')) or 'init'})", at, scope)


def _log(level: str, message: str, at: str, scope: str | None, source: str = "claude", **more: JSON) -> list[Draft]:
    drafts = log(level, message, at, source, **more)
    for draft in drafts:
        draft.parent_id = scope
    return drafts


NOTICES: dict[str, _Notice] = {
    "ConfigChange": _changed,
    "CwdChanged": _moved,
    "DirectoryAdded": _directory,
    "ElicitationResult": _answered,
    "Notification": _notification,
    "PermissionDenied": _denied,
    "PostCompact": _compacted,
    "PreCompact": _compacts,
    "Setup": _set_up,
    "TeammateIdle": _idle,
    "UserPromptExpansion": _expanded,
    "WorktreeCreate": _worktree,
    "WorktreeRemove": _worktree,
}
