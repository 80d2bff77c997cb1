"""The lines of a session file around its conversation: which say something, and what.

The rule this module keeps: each type and subtype is told, or named in the list of those that say nothing by rule; one
that is in neither is not known, and the adapter keeps it as ``raw``.

Sources: the schema of ``d-kimuson/claude-code-viewer`` and session files of nine versions.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole

__all__ = ["ENVELOPE", "SILENT", "STATE", "origin_of_text", "state_line", "system_entry"]

_Reader: TypeAlias = Callable[[dict[str, JSON], str], list[Draft]]

#: Types whose lines are links of the conversation's tree.
ENVELOPE = frozenset({"assistant", "attachment", "progress", "system", "user"})

#: State of the client, copies of what was sent to the API, and titles: nothing that the agent did. A ``summary`` is of
#: another session; what was queued comes as a ``user`` line or as an attachment.
SILENT = frozenset({
    "agent-color", "agent-name", "agent-setting", "ai-title", "api-request", "api-request-blob", "api-request-shape",
    "atis-latch", "attribution-snapshot", "bridge-session", "content-replacement", "custom-title",
    "file-history-snapshot", "last-prompt", "mode", "permission-mode", "queue-operation", "summary", "tag",
    "task-summary", "tools-used", "worktree-state",
})  # fmt: skip

#: Types of lines outside the tree that nobody else writes, once they have a session or their own mark.
STATE = SILENT | {"cost-state", "pr-link"}

_SILENT_SUBTYPES = frozenset(
    {"api_metrics", "bridge_status", "file_snapshot", "memory_saved", "thinking", "turn_duration"}
)

#: How a text in the user's name begins that the CLI wrote, and what it is.
_ORIGINS = (
    ("<command-name>", "command"),
    ("<command-message>", "command"),
    ("<bash-input>", "command"),
    ("<local-command-stdout>", "command_output"),
    ("<local-command-stderr>", "command_output"),
    ("<bash-stdout>", "command_output"),
    ("<bash-stderr>", "command_output"),
    ("<local-command-caveat>", "caveat"),
    ("Caveat: The messages below were generated", "caveat"),
    ("<system-reminder>", "reminder"),
    ("<task-notification>", "task-notification"),
    ("[Request interrupted by user", "interrupt"),
)


def origin_of_text(found: Mapping[str, JSON], text: str) -> str:
    """Who wrote *text* in the user's name, by the envelope of its line and by how it begins; empty for a human."""
    if found.get("isCompactSummary") is True:
        return "compact_summary"
    origin = next((name for start, name in _ORIGINS if text.startswith(start)), "")
    if origin:
        return origin
    if found.get("isMeta") is True:
        return "meta"
    kind = string(mapping(found.get("origin")).get("kind"))
    return "" if kind == "human" else kind


def state_line(found: dict[str, JSON], at: str) -> list[Draft] | None:
    """The drafts of a line outside the tree; None when its type is not known."""
    kind = string(found.get("type"))
    if kind in SILENT:
        return []
    if kind == "pr-link":
        url = string(found.get("prUrl"))
        return log("info", f"pull request {url or found.get('prNumber')}", at, "claude", url=url)
    return None


def system_entry(found: dict[str, JSON], at: str) -> list[Draft] | None:
    """The drafts of a ``system`` line; None when its subtype is not known. Old ones have none but a text."""
    subtype = string(found.get("subtype"))
    if subtype in _SILENT_SUBTYPES:
        return []
    reader = _SUBTYPES.get(subtype)
    return reader(found, at) if reader is not None else None


def _said(found: dict[str, JSON], at: str) -> list[Draft]:
    message, level = string(found.get("content")), string(found.get("level")) or "info"
    return error("warning", message, at) if level in ("warning", "error") else log(level, message, at, "claude")


def _compacted(found: dict[str, JSON], at: str) -> list[Draft]:
    facts = mapping(found.get("compactMetadata"))
    before, after = whole(facts.get("preTokens")), whole(facts.get("postTokens"))
    size = "" if before is None else f": {before} tokens before" if after is None else f": {before} → {after} tokens"
    return log("info", f"context compacted ({string(facts.get('trigger')) or 'auto'}){size}", at, "compact")


def _api_error(found: dict[str, JSON], at: str) -> list[Draft]:
    problem = mapping(found.get("error"))
    status = whole(problem.get("status"))
    said = string(problem.get("formatted")) or string(problem.get("message")) or f"HTTP {status}"
    attempt, most = whole(found.get("retryAttempt")), whole(found.get("maxRetries"))
    return error(
        "warning",
        f"the API failed: {said}; attempt {attempt} of {most}",
        at,
        code=str(status) if status is not None else "",
        retry_in_ms=whole(found.get("retryInMs")),
        attempt=attempt,
    )


def _stop_hooks(found: dict[str, JSON], at: str) -> list[Draft]:
    """Hooks that went well say nothing by rule."""
    problems = [string(problem) or string(mapping(problem).get("error")) for problem in items(found.get("hookErrors"))]
    out = [draft for said in problems for draft in error("warning", f"Stop hook: {said}", at, code="hook_error")]
    if found.get("preventedContinuation") is True:
        reason = string(found.get("stopReason"))
        out += log("notice", f"a Stop hook ended the turn{': ' if reason else ''}{reason}", at, "claude")
    return out


def _command(found: dict[str, JSON], at: str) -> list[Draft]:
    return log("info", string(found.get("content")), at, "command")


_SUBTYPES: dict[str, _Reader] = {
    "": _said,
    "api_error": _api_error,
    "away_summary": _said,
    "compact_boundary": _compacted,
    "informational": _said,
    "local_command": _command,
    "microcompact_boundary": _said,
    "notification": _said,
    "stop_hook_summary": _stop_hooks,
}
