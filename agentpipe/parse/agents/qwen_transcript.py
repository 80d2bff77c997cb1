"""Qwen Code's session files: ``chats/<session>.jsonl`` of a project, a line a record.

The rules this module keeps: a record is told once and by its own type; telemetry repeats what the other records say,
except that the API failed; a subtype is told, named as silent, or kept as ``raw``.

Source: ``packages/core/src/services/chatRecordingService.ts`` of QwenLM/qwen-code, and recordings; see
``docs/formats/qwen.md``.
"""

from collections.abc import Callable, Mapping

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment, Outcome, Sureness, source_time
from agentpipe.parse.gemini.parts import (
    Part,
    calls_in,
    media_in,
    parts_of,
    response_of,
    responses_in,
    said,
    tokens_of,
)
from agentpipe.parse.gemini.tools import CANCELLED, Effects, exit_code_of, keeps_input, kind_of, title_of
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.content import shortened
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.usage import update

__all__ = ["QwenTranscript"]

#: A message's thoughts and its text have an index each.
_THOUGHTS, _TEXT = 0, 1

#: What the program keeps for itself: to restore a session, to name it, to know who wrote which lines.
_SILENT = frozenset({
    "agent_bootstrap", "agent_launch_prompt", "agent_session_ready", "attribution_snapshot", "branch_checkpoint",
    "custom_title", "file_history_snapshot", "goal_runtime", "goal_state", "goal_turn_end", "managed_session_commit_v1",
    "managed_session_event_v1", "managed_session_header_v1", "omni_recall", "parent_session", "realtime_message",
    "session_approval_mode", "session_artifact_event", "session_artifact_snapshot", "session_execution_engine",
    "session_notes", "session_source", "session_sources_snapshot", "user_text_elements",
})  # fmt: skip


class QwenTranscript(Account):
    """The adapter of Qwen Code's session files for the lines of one run; see `agentpipe.parse.adapter.Adapter`."""

    name = "qwen-transcript"
    agent = "qwen"
    suffix = "transcript"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # given
        self._effects = Effects(self.plans, options.max_content)
        # changing
        self._problem = ""  # why the API failed, when nothing came after that

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """A record of the tree whose message has parts, or with a payload or a type that only this program writes."""
        kind = found.get("type")
        if type(kind) is not str or kind not in _READERS or type(found.get("sessionId")) is not str:
            return Sureness.NO
        if "uuid" not in found or "parentUuid" not in found:
            return Sureness.NO
        if kind == "system":
            subtype = found.get("subtype")
            known = type(subtype) is str and (subtype in _SILENT or subtype in _SUBTYPES)
            return Sureness.SURE if "systemPayload" in found else Sureness(known)
        return Sureness.SURE if "parts" in mapping(found.get("message")) else Sureness.NO

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Every record has it."""
        return string(found.get("sessionId"))

    def read(self, found: Part, moment: Moment, size: int) -> list[Draft]:
        """The drafts of one record; *size* is its length in bytes."""
        stamp = self.stamp(source_time(found.get("timestamp")), moment, size)
        before = self.ticks(stamp, moment)
        if not self.ready:
            self._begins(found)
        kind = found.get("type")
        reader = _READERS.get(kind) if type(kind) is str else None
        if reader is None:
            told = [self.raw(stamp, f"unknown type {shortened(string(kind), 100)!r}", found)]
        else:
            if kind != "system":
                self._problem = ""
            told = reader(self, found, stamp)
        return [*before, *told] if before else told

    def outcome(self) -> Outcome:
        """Only newer versions say how a turn ended; else a file that ends with a failure of the API has failed."""
        if self.turns.count:
            return self.turns.outcome()
        counts = self.turns.totals.counts
        fields: dict[str, JSON] = {"usage": counts} if counts else {}
        if self._problem:
            return Outcome(False, False, None, {**fields, "error": shortened(self._problem, self.limit)})
        return Outcome(None, False, None, fields)

    def _begins(self, found: Part) -> None:
        """The first record: the session, or the sub-agent whose own file this is."""
        self.ready = True
        names = {"session_id": "sessionId", "cwd": "cwd", "agent_version": "version", "model": "model"}
        self.learn(**{ours: string(found.get(theirs)) for ours, theirs in names.items()})
        agent = string(found.get("agentId"))
        if agent and found.get("isSidechain") is True:
            self.suffix = f"agent-{agent}"

    def _user(self, found: Part, stamp: Stamp) -> list[Draft]:
        parts = parts_of(mapping(found.get("message")).get("parts"))
        out = [draft for response in responses_in(parts) for draft in self._returned(response, {}, stamp)]
        shown = string(mapping(found.get("systemPayload")).get("displayText")) or said(parts, "\n")
        marks = {"role": "user", "origin": string(found.get("subtype"))}
        marks = {name: mark for name, mark in marks.items() if mark}
        told = (
            self.texts.final(stamp, "agent_output", string(found.get("uuid")), shown, _TEXT, **marks) if shown else []
        )
        for draft in told:
            draft.whole = media_in(parts)
        return out + told

    def _assistant(self, found: Part, stamp: Stamp) -> list[Draft]:
        name, parts = string(found.get("uuid")), parts_of(mapping(found.get("message")).get("parts"))
        model, usage = string(found.get("model")), mapping(found.get("usageMetadata"))
        self.learn(model=model)
        thoughts, text = said(parts, thought=True), said(parts)
        out = self.texts.final(stamp, "agent_thinking", name, thoughts, _THOUGHTS) if thoughts else []
        out += self.texts.final(stamp, "agent_output", name, text, _TEXT) if text else []
        for place, call in enumerate(calls_in(parts)):
            tool, given = string(call.get("name")) or "unknown", mapping(call.get("args"))
            call_id, keep = string(call.get("id")) or f"{name}:{place}", keeps_input(tool)
            title, background = title_of(tool, given), given.get("is_background") is True
            kind = kind_of(tool)
            out.append(self.calls.call(stamp, call_id, tool, kind, title, given, keep=keep, background=background))
        counts = tokens_of(
            usage.get("promptTokenCount"),
            usage.get("candidatesTokenCount"),
            usage.get("thoughtsTokenCount"),
            usage.get("cachedContentTokenCount"),
            usage.get("totalTokenCount"),
        )
        self.turns.totals.add(counts)
        context = sum(counts.values()) - counts.get("output_tokens", 0)
        return out + update(stamp, counts, cumulative=False, model=model, context=context)

    def _tool_result(self, found: Part, stamp: Stamp) -> list[Draft]:
        parts, record = parts_of(mapping(found.get("message")).get("parts")), mapping(found.get("toolCallResult"))
        responses = list(responses_in(parts)) or [{"id": record.get("callId")}]
        out: list[Draft] = []
        for response in responses:
            mine = len(responses) == 1 or response.get("id") == record.get("callId")
            out += self._returned(response, record if mine else {}, stamp)
        return out

    def _returned(self, response: Part, record: Part, stamp: Stamp) -> list[Draft]:
        """*response* is what the model got, *record* what the program keeps: its status, and what it showed."""
        call_id = string(response.get("id")) or string(record.get("callId")) or "unknown"
        tool = string(response.get("name")) or "unknown"
        call = self.calls.take(call_id, stamp, tool, kind_of(tool))
        answered, refused = response_of(response)
        shown, kind = record.get("resultDisplay"), string(record.get("errorType"))
        text = shown if type(shown) is str and shown else answered
        status = exit_code_of(call.name, answered)
        failed = refused or record.get("status") in ("error", "cancelled") or answered.startswith(CANCELLED)
        ok = not failed and not status
        detail = {"error_type": kind} if kind else None
        why = answered if failed else ""
        out = self.calls.result(stamp, call_id, call, text, ok=ok, exit_code=status, detail=detail, failed=why)
        return out + self._effects.of(stamp, call_id, call, answered, shown) if ok else out

    def _system(self, found: Part, stamp: Stamp) -> list[Draft]:
        subtype, payload = string(found.get("subtype")), mapping(found.get("systemPayload"))
        if subtype in _SILENT:
            return []
        if subtype == "session_model":
            self.learn(model=string(payload.get("modelId")))
            return []
        if subtype == "turn_result":
            return self._turn(payload, stamp)
        reader = _SUBTYPES.get(subtype)
        if reader is not None:
            told = reader(payload, stamp.at)
            if subtype == "ui_telemetry" and told:
                self._problem = string(told[0].payload["message"])
            return told
        return [self.raw(stamp, f"unknown subtype {shortened(subtype, 100)!r}", found)]

    def _turn(self, payload: Part, stamp: Stamp) -> list[Draft]:
        """How a turn ended, as newer versions keep it."""
        state, problem = payload.get("state"), mapping(payload.get("error"))
        began, ended = whole(payload.get("startedAt")), whole(payload.get("endedAt"))
        return self.turns.ended(
            stamp,
            ok=state == "completed",
            result=string(payload.get("resultText")),
            failed=string(problem.get("message")) or ("cancelled by the user" if state == "cancelled" else ""),
            code=string(problem.get("code")),
            duration_ms=ended - began if began is not None and ended is not None and ended >= began else None,
            cancelled=state == "cancelled",
            stop_reason=string(payload.get("stopReason")),
        )


def _telemetry(payload: Part, at: str) -> list[Draft]:
    """Answers and calls are told by their own records."""
    found = mapping(payload.get("uiEvent"))
    if not string(found.get("event.name")).endswith("api_error"):
        return []
    kind, status = string(found.get("error_type")), found.get("status_code")
    said_ = string(found.get("error_message")) or string(found.get("error")) or kind or "unknown error"
    return error("warning", f"the API failed: {said_}", at, code=str(status) if status else kind)


def _compression(payload: Part, at: str) -> list[Draft]:
    facts = mapping(payload.get("info"))
    before, after = whole(facts.get("originalTokenCount")), whole(facts.get("newTokenCount"))
    return log("info", f"context compacted: {before} → {after} tokens", at, "compact")


def _slash_command(payload: Part, at: str) -> list[Draft]:
    if payload.get("phase") == "invocation":
        return log("info", string(payload.get("rawCommand")), at, "command")
    texts = (string(mapping(row).get("text")) for row in items(payload.get("outputHistoryItems")))
    return [draft for text in texts if text for draft in log("info", text, at, "command")]


def _at_command(payload: Part, at: str) -> list[Draft]:
    said_ = string(payload.get("message"))
    if payload.get("status") == "error":
        return error("warning", said_ or "a file of the prompt could not be read", at)
    read = ", ".join(filter(None, map(string, items(payload.get("filesRead")))))
    return log("info", said_ or f"read {read}", at, "command")


def _notification(payload: Part, at: str) -> list[Draft]:
    task = mapping(payload.get("backgroundTask"))
    said_ = string(payload.get("displayText")) or f"task {string(task.get('status')) or 'ended'}"
    ids = {"task_id": string(task.get("taskId")), "tool_use_id": string(task.get("toolUseId"))}
    return log("warning" if task.get("status") == "failed" else "info", said_, at, "task", **ids)


def _rewind(payload: Part, at: str) -> list[Draft]:
    return log("info", f"went back by {whole(payload.get('truncatedCount'))} messages", at, "rewind")


def _retry(payload: Part, at: str) -> list[Draft]:
    return log("info", f"sub-agent goes on, attempt {whole(payload.get('attempt'))}", at, "task")


_SUBTYPES: dict[str, Callable[[Part, str], list[Draft]]] = {
    "agent_retry": _retry,
    "at_command": _at_command,
    "background_task_completed": _notification,
    "chat_compression": _compression,
    "cron": _notification,
    "notification": _notification,
    "rewind": _rewind,
    "slash_command": _slash_command,
    "ui_telemetry": _telemetry,
}

_READERS: dict[str, Callable[[QwenTranscript, Part, Stamp], list[Draft]]] = {
    "assistant": QwenTranscript._assistant,  # noqa: SLF001 - the class's own table
    "system": QwenTranscript._system,  # noqa: SLF001 - the class's own table
    "tool_result": QwenTranscript._tool_result,  # noqa: SLF001 - the class's own table
    "user": QwenTranscript._user,  # noqa: SLF001 - the class's own table
}
