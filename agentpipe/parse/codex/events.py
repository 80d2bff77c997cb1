"""What Codex's core tells of itself (``EventMsg``): printed as ``{"id", "msg"}`` by ``codex exec --json`` before
September 2025, and kept as ``event_msg`` in rollouts to this day.

The rules this module keeps: what begins and ends is a call and its result, by ``call_id``; parts of a command's output
and repeats of what was told say nothing.
"""

from collections.abc import Callable
from typing import TypeAlias

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.codex.account import CodexAccount
from agentpipe.parse.codex.acts import Act, mcp_act
from agentpipe.parse.codex.changes import mapped
from agentpipe.parse.codex.usage import tokens_of
from agentpipe.parse.codex.words import (
    as_object,
    duration_ms,
    mcp_result,
    search_text,
    steps_of,
    unwrapped,
)
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.stamp import Stamp

__all__ = ["EVENTS", "SILENT", "Reader", "mcp_of", "permission", "questions"]

Found: TypeAlias = dict[str, JSON]
Reader: TypeAlias = Callable[[CodexAccount, Found, Stamp], list[Draft]]

#: Beginnings without news, parts of outputs, repeats of what was told, answers to a user interface.
SILENT = frozenset({
    "agent_reasoning_section_break", "exec_command_output_delta", "get_history_entry_response",
    "image_generation_begin", "item_started", "list_custom_prompts_response", "list_skills_response",
    "mcp_list_tools_response", "mcp_startup_complete", "mcp_startup_update", "patch_apply_updated",
    "raw_response_item", "shutdown_complete", "terminal_interaction", "thread_goal_updated", "thread_name_updated",
    "turn_diff", "web_search_begin",
})  # fmt: skip


def _configured(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG001 - one shape for all
    account.model = string(found.get("model")) or account.model
    account.learn(session_id=string(found.get("session_id")), model=account.model, cwd=string(found.get("cwd")))
    return []


def _began(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG001 - one shape for all
    account.turn_began()
    return []


def _completed(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    """A turn that failed ends so too: its last message is missing then, after an error."""
    last, took = string(found.get("last_agent_message")), whole(found.get("duration_ms"))
    why = string(mapping(found.get("error")).get("message")) or ("" if last else account.failure)
    account.answer = last or account.answer
    return account.turn_ended(stamp, ok=not why, failed=why, duration_ms=took)


def _aborted(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    reason = string(found.get("reason")) or "aborted"
    took = whole(found.get("duration_ms"))
    return account.turn_ended(stamp, ok=False, failed=f"the turn was {reason}", duration_ms=took, cancelled=True)


def _failed(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    return account.failed(string(found.get("message")), stamp)


def _warned(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG001 - one shape for all
    return error("warning", string(found.get("message")) or string(found.get("summary")), stamp.at)


def _noted(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG001 - one shape for all
    return log("info", string(found.get("message")), stamp.at, "codex")


def _mode(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG001 - one shape for all
    return log("info", string(found.get("type")).replace("_", " "), stamp.at, "codex")


def _tokens(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    """``info`` is null at first; before August 2025 the figures of one answer stood there by themselves."""
    if "info" in found:
        info = mapping(found["info"])
        last = mapping(info.get("last_token_usage"))
        counts = tokens_of(info.get("total_token_usage"))
        return account.used(counts, "", stamp, whole(last.get("input_tokens")))
    counts = tokens_of(found)
    if counts:
        account.meter.add(counts)
    return []


def _said(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    account.answer = text = string(found.get("message"))
    return account.texts.final(stamp, "agent_output", account.text_id("message"), text)


def _said_part(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    return account.texts.part(stamp, "agent_output", account.open_text_id("message"), string(found.get("delta")))


def _thought(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    return account.texts.final(stamp, "agent_thinking", account.text_id("reasoning"), string(found.get("text")))


def _thought_part(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    return account.texts.part(stamp, "agent_thinking", account.open_text_id("reasoning"), string(found.get("delta")))


def _asked(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    text = string(found.get("message"))
    return account.texts.final(stamp, "agent_output", account.text_id("user"), text, role="user")


def _command(found: Found) -> Act:
    given: Found = {name: found[name] for name in ("command", "cwd") if name in found}
    return Act("shell", given, unwrapped(found.get("command")))


def _command_began(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    return [account.acts.called(stamp, string(found.get("call_id")), _command(found))]


def _command_ended(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    code = whole(found.get("exit_code"))
    both = string(found.get("stdout")) + string(found.get("stderr"))
    text = string(found.get("aggregated_output")) or both or string(found.get("formatted_output"))
    return account.acts.returned(
        stamp,
        string(found.get("call_id")),
        text,
        _command(found) if "command" in found else None,
        ok=code in (0, None),
        exit_code=code,
        duration_ms=duration_ms(found.get("duration")),
        failed="" if text.strip() else f"exit status {code}",
    )


def _patch(found: Found) -> Act | None:
    changes = found.get("changes")
    return Act("apply_patch", {"changes": changes}, edits=mapped(changes)) if type(changes) is dict else None


def _patch_began(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    act = _patch(found) or Act("apply_patch", {})
    return [account.acts.called(stamp, string(found.get("call_id")), act)]


def _patch_ended(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    ok = found.get("success") is not False
    told = string(found.get("stdout")), string(found.get("stderr"))
    text = (told[0] if ok else told[1]) or told[0] or told[1]
    return account.acts.returned(stamp, string(found.get("call_id")), text, _patch(found), ok=ok)


def mcp_of(found: Found) -> Act | None:
    """The call that ``invocation`` tells, in old versions the event itself."""
    told = mapping(found.get("invocation")) or found
    if type(told.get("tool")) is not str:
        return None
    return mcp_act(string(told.get("server")), told["tool"], as_object(told.get("arguments")))


def _mcp_began(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    act = mcp_of(found) or Act("mcp", {})
    return [account.acts.called(stamp, string(found.get("call_id")), act)]


def _mcp_ended(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    text, ok, media = mcp_result(found.get("result"), None)
    took = duration_ms(found.get("duration"))
    call_id = string(found.get("call_id"))
    return account.acts.returned(stamp, call_id, text, mcp_of(found), ok=ok, duration_ms=took, whole=media)


def _searched(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    text = search_text(found)
    given: Found = {name: found[name] for name in ("query", "action") if name in found}
    act = Act("web_search", given, text, "Web search")
    return account.acts.returned(stamp, string(found.get("call_id")), text, act, ok=True)


def _planned(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:
    return account.plans.replaced(steps_of(found.get("plan")), stamp.scope, stamp.at)


def permission(stamp: Stamp, name: str, given: Found, tool_use_id: str, reason: str) -> list[Draft]:
    """The agent waits for a human."""
    payload: Found = {"name": name, "input": given}
    payload |= {key: value for key, value in (("tool_use_id", tool_use_id), ("reason", reason)) if value}
    return [Draft("permission_request", payload, stamp.at, stamp.scope)]


def _approve_command(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG001 - one shape for all
    act, call_id = _command(found), string(found.get("call_id"))
    return permission(stamp, act.name, act.input, call_id, string(found.get("reason")))


def _approve_patch(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG001 - one shape for all
    given, call_id = {"changes": found.get("changes")}, string(found.get("call_id"))
    return permission(stamp, "apply_patch", given, call_id, string(found.get("reason")))


def questions(account: CodexAccount, found: Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG001 - one shape for all
    """The model asks its user."""
    asked = items(found.get("questions"))
    reason = " · ".join(string(mapping(one).get("question")) for one in asked)
    call_id = string(found.get("call_id"))
    return permission(stamp, "request_user_input", {"questions": asked}, call_id, reason)


EVENTS: dict[str, Reader] = {
    "agent_message": _said,
    "agent_message_delta": _said_part,
    "agent_reasoning": _thought,
    "agent_reasoning_delta": _thought_part,
    "agent_reasoning_raw_content": _thought,
    "agent_reasoning_raw_content_delta": _thought_part,
    "apply_patch_approval_request": _approve_patch,
    "background_event": _noted,
    "deprecation_notice": _warned,
    "entered_review_mode": _mode,
    "error": _failed,
    "exec_approval_request": _approve_command,
    "exec_command_begin": _command_began,
    "exec_command_end": _command_ended,
    "exited_review_mode": _mode,
    "mcp_tool_call_begin": _mcp_began,
    "mcp_tool_call_end": _mcp_ended,
    "model_reroute": _warned,
    "patch_apply_begin": _patch_began,
    "patch_apply_end": _patch_ended,
    "plan_update": _planned,
    "request_user_input": questions,
    "session_configured": _configured,
    "stream_error": _warned,
    "task_complete": _completed,
    "task_started": _began,
    "thread_rolled_back": _mode,
    "token_count": _tokens,
    "turn_aborted": _aborted,
    "turn_complete": _completed,
    "turn_started": _began,
    "user_message": _asked,
    "warning": _warned,
    "web_search_end": _searched,
}
