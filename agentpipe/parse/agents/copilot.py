"""GitHub Copilot CLI: ``copilot -p … --output-format json``, and the session file that it keeps (the same lines).

The rules this module keeps: a full message replaces its parts, whichever of the two lines that repeat a thought come;
the run's end is what ``result.exitCode`` says, because the process exits with 0 even when it failed; a premium request
is no money, so no cost is told; tokens that are not given are left out.

Source: the generated types of ``@github/copilot-sdk`` and recorded sessions of 1.0.36; see ``docs/formats/copilot.md``.
"""

from collections.abc import Callable, Mapping

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment, Outcome, Sureness, source_time
from agentpipe.parse.agents.checklist import steps_of
from agentpipe.parse.agents.copilot_lines import SILENT, is_small, small_line
from agentpipe.parse.agents.copilot_tools import FILE_TOOLS, TODO_TOOLS, exit_code_of, files_of, kind_of
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.content import flat, media_of, shortened
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.titles import title_of
from agentpipe.parse.vocabulary.usage import Tokens, tokens, update

__all__ = ["Copilot"]

#: Before these nothing of the run has happened, and its session may yet be named.
_BEFORE_START = SILENT | {"session.info", "session.mcp_server_status_changed"}

_CALLS = ("inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens")


class Copilot(Account):
    """The adapter of the Copilot CLI for the lines of one run."""

    name = "copilot"
    agent = "copilot"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # changing
        self._requested: dict[str, tuple[str, dict[str, JSON], Stamp]] = {}  # calls that have not started
        self._thinking: dict[str | None, str] = {}  # the thought of each scope that is open
        self._thought: dict[str | None, str] = {}  # the last one that was told whole
        self._agents: dict[str, str] = {}  # the call that started each sub-agent
        self._context: int | None = None  # tokens in the model's window
        self._output = 0  # tokens of messages, when nothing better is told
        self._said = ""  # the last text of the main agent
        self._problem = ""  # the last failure of the session
        self._aborted = False
        self._shut: bool | None = None  # whether the session's own end went well

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """A dotted type with ``data`` and ``parentId`` is nobody else's; the ``result`` is known by ``exitCode``."""
        kind = found.get("type")
        if type(kind) is not str:
            return Sureness.NO
        if kind == "result":
            return Sureness.SURE if "exitCode" in found and "sessionId" in found else Sureness.NO
        if type(found.get("data")) is not dict or "specversion" in found:
            return Sureness.NO
        if "parentId" in found and "id" in found:
            return Sureness.SURE if "." in kind or kind == "abort" else Sureness.LIKELY
        known = kind in _READERS or kind in SILENT or kind == "user.message" or is_small(kind)
        return Sureness.LIKELY if known else Sureness.NO

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Named at the start; the ``result`` names it too, but ends what its own lines did not name."""
        data = found.get("data")
        return string(data.get("sessionId")) if type(data) is dict and found.get("type") == "session.start" else ""

    def read(self, found: dict[str, JSON], moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        kind = string(found.get("type"))
        if kind in SILENT:
            return []
        data = mapping(found.get("data"))
        stamp = self.stamp(source_time(found.get("timestamp")), moment, size, self._scope(found, data))
        self.ready = self.ready or kind not in _BEFORE_START
        ticks = self.ticks(stamp, moment)
        reader = _READERS.get(kind)
        if reader is not None:
            told = reader(self, found if kind == "result" else data, stamp)
        elif kind == "user.message":
            told = self._user(data, string(found.get("id")), stamp)
        else:
            small = small_line(kind, data, stamp)
            told = small if small is not None else [self.raw(stamp, f"unknown type {shortened(kind, 100)!r}", found)]
        return ticks + told if ticks else told

    def finish(self, moment: Moment) -> list[Draft]:
        """Tell the calls that were asked for and never started, and the texts that were cut."""
        late = [self._called(call_id, *asked) for call_id, asked in self._requested.items()]
        self._requested.clear()
        return late + super().finish(moment)

    def outcome(self) -> Outcome:
        """How the run ended by the last ``result``; a session file has its shutdown instead."""
        outcome = self.turns.outcome(cancelled=self._aborted)
        if self.turns.count or self._shut is None:
            return outcome
        fields = dict(outcome.fields)
        if not self._shut:
            fields["error"] = self._problem or "the session ended with an error"
        elif self._said:
            fields["result"] = shortened(self._said, self.limit)
        return Outcome(self._shut, self._aborted, None, fields)

    def _scope(self, found: dict[str, JSON], data: dict[str, JSON]) -> str | None:
        """The call that started the sub-agent that speaks; None when the main agent does."""
        parent = data.get("parentToolCallId")
        if type(parent) is str and parent:
            return parent
        agent = found.get("agentId")
        if type(agent) is not str or not agent:
            return None
        if found.get("type") == "subagent.started" and string(data.get("toolCallId")):
            self._agents[agent] = string(data["toolCallId"])
        return self._agents.get(agent, agent)

    # ---- session

    def _start(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - every reader's shape
        context = mapping(data.get("context"))
        self.learn(
            session_id=string(data.get("sessionId")),
            agent_version=string(data.get("copilotVersion")),
            model=string(data.get("selectedModel")),
            cwd=string(context.get("cwd")) or string(data.get("cwd")),
        )
        return []

    def _tools(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        if stamp.scope is None:
            self.learn(model=string(data.get("model")) or string(data.get("newModel")))
        return []

    def _window(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - every reader's shape
        self._context = whole(data.get("currentTokens"))
        return []

    def _failed(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        self._problem = string(data.get("message")) or "the session failed"
        return error(
            "agent", self._problem, stamp.at, stamp.scope,
            code=string(data.get("errorType")), status=whole(data.get("statusCode")),
        )  # fmt: skip

    def _abort(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        self._aborted = True
        return log("warning", f"aborted: {string(data.get('reason')) or 'no reason given'}", stamp.at, "abort")

    def _shutdown(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        self._shut = data.get("shutdownType") != "error"
        out: list[Draft] = []
        if not self._shut:
            self._problem = string(data.get("errorReason")) or self._problem
            out = error("agent", self._problem or "the session ended with an error", stamp.at)
        total: Tokens = {}
        for row in mapping(data.get("modelMetrics")).values():
            for name, count in _tokens(mapping(mapping(row).get("usage"))).items():
                total[name] = total.get(name, 0) + count
        if total:
            self.turns.totals.counts = total
        return out + update(stamp, total, cumulative=True)

    def _agent_ended(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        self.plans.close(string(data.get("toolCallId")))
        name = string(data.get("agentDisplayName")) or string(data.get("agentName"))
        if "error" in data:
            return log("error", f"sub-agent {name} failed: {string(data['error'])}", stamp.at, "subagent.failed")
        return log("info", f"sub-agent {name} completed", stamp.at, "subagent.completed")

    # ---- messages

    def _user(self, data: dict[str, JSON], message_id: str, stamp: Stamp) -> list[Draft]:
        """A prompt; one without a text of its own is what the CLI itself says to the model."""
        said = string(data.get("content"))
        marks: dict[str, JSON] = {"role": "user"}
        if string(data.get("source")):
            marks["origin"] = data["source"]
        elif not said.strip():
            marks["origin"] = "synthetic"
        files = [_attached(mapping(one)) for one in items(data.get("attachments"))]
        if files:
            marks["attachments"] = files
        text = said if said.strip() else string(data.get("transformedContent"))
        return self.texts.final(stamp, "agent_output", message_id or "user", text, **marks)

    def _part(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        return self.texts.part(stamp, "agent_output", _message_id(data), string(data.get("deltaContent")))

    def _thought_part(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        thought = self._thinking[stamp.scope] = string(data.get("reasoningId")) or "reasoning"
        return self.texts.part(stamp, "agent_thinking", thought, string(data.get("deltaContent")))

    def _message(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        message_id = _message_id(data)
        thought = string(data.get("reasoningText"))
        out = self._thinks(thought, self._thinking.get(stamp.scope) or f"{message_id}/reasoning", stamp)
        said = data.get("content")
        text = said if type(said) is str else flat(said)
        if text or self.texts.is_open("agent_output", message_id, 0, stamp.scope):
            out += self.texts.final(stamp, "agent_output", message_id, text)
        if stamp.scope is None:
            self._said = text or self._said
            if string(data.get("model")) and "model" not in self.facts:
                self.learn(model=data["model"])
        self._output += whole(data.get("outputTokens")) or 0
        for asked in map(mapping, items(data.get("toolRequests"))):
            call_id = string(asked.get("toolCallId"))
            if call_id and call_id not in self.calls:
                self._requested[call_id] = (_shown(asked, "name"), _input(asked.get("arguments")), stamp)
        return out

    def _reasoning(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        thought = string(data.get("reasoningId")) or "reasoning"
        return self._thinks(string(data.get("content")), thought, stamp)

    def _thinks(self, text: str, thought: str, stamp: Stamp) -> list[Draft]:
        """A whole thought, unless it was told: the message and a line of its own repeat each other."""
        if not text or (text == self._thought.get(stamp.scope) and not self._is_thinking(stamp)):
            return []
        self._thought[stamp.scope] = text
        if self._is_thinking(stamp):
            thought = self._thinking[stamp.scope]
        self._thinking.pop(stamp.scope, None)
        return self.texts.final(stamp, "agent_thinking", thought, text)

    def _is_thinking(self, stamp: Stamp) -> bool:
        thought = self._thinking.get(stamp.scope)
        return thought is not None and self.texts.is_open("agent_thinking", thought, 0, stamp.scope)

    def _again(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """The model is asked anew: what it had begun to say was cut."""
        said = string(data.get("message")) or string(data.get("reason")) or "the model is asked anew"
        cut = self.texts.settle(stamp, aborted=True)
        return cut + error("warning", said, stamp.at, stamp.scope, code="retry", attempt=whole(data.get("attempt")))

    def _used(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        counts = _tokens(data)
        self.turns.totals.add(counts)
        return update(
            stamp, counts, cumulative=False, model=string(data.get("model")),
            context=self._context if stamp.scope is None else None,
        )  # fmt: skip

    # ---- tools

    def _call(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        call_id = string(data.get("toolCallId")) or "unknown"
        self._requested.pop(call_id, None)
        return [self._called(call_id, _shown(data, "toolName"), _input(data.get("arguments")), stamp)]

    def _called(self, call_id: str, name: str, given: dict[str, JSON], stamp: Stamp) -> Draft:
        keep = name in FILE_TOOLS or name in TODO_TOOLS
        return self.calls.call(stamp, call_id, name, kind_of(name), title_of(name, given), given, keep=keep)

    def _returned(self, data: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        call_id = string(data.get("toolCallId")) or "unknown"
        asked = self._requested.pop(call_id, None)
        out = [self._called(call_id, *asked)] if asked is not None else []
        call = self.calls.take(call_id, stamp)
        result, failure = mapping(data.get("result")), mapping(data.get("error"))
        content = result.get("content")
        text = content if type(content) is str else flat(content)
        text = text or string(failure.get("message")) or string(data.get("error"))
        status = exit_code_of(call.kind, text)
        ok = data.get("success") is not False and not status
        detail = {"code": failure["code"]} if string(failure.get("code")) else None
        media = media_of(result.get("contents") or content)
        out += self.calls.result(stamp, call_id, call, text, ok=ok, exit_code=status, detail=detail, whole=media)
        if ok and call.input is not None:
            if call.name in TODO_TOOLS:
                steps = steps_of(string(call.input.get("todos")))
                return out + (self.plans.replaced(steps, stamp.scope, stamp.at) if steps else [])
            out += files_of(stamp, call_id, call.input, string(result.get("detailedContent")), self.limit)
        return out

    # ---- the end

    def _result(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        self.learn(session_id=string(found.get("sessionId")))
        out = self.texts.settle(stamp)
        status = whole(found.get("exitCode")) or 0
        usage = mapping(found.get("usage"))
        changes = mapping(usage.get("codeChanges"))
        totals = self.turns.totals
        if totals.counts and self._shut is None:  # else the shutdown has told them
            out += update(stamp, totals.counts, cumulative=True)
        if not totals.counts and self._output:
            totals.counts = {"output_tokens": self._output}
        return out + self.turns.ended(
            stamp,
            ok=status == 0,
            result=self._said,
            failed=self._problem or f"exit code {status}",
            usage=totals.counts,
            duration_ms=whole(usage.get("sessionDurationMs")),
            cancelled=self._aborted,
            exit_code=status,
            api_duration_ms=whole(usage.get("totalApiDurationMs")),
            premium_requests=whole(usage.get("premiumRequests")),
            lines_added=whole(changes.get("linesAdded")),
            lines_removed=whole(changes.get("linesRemoved")),
            files_modified=[path for path in items(changes.get("filesModified")) if type(path) is str] or None,
        )


def _message_id(data: dict[str, JSON]) -> str:
    return string(data.get("messageId")) or "message"


def _shown(data: dict[str, JSON], field: str) -> str:
    """A tool's name; a server's tool as ``server/tool``."""
    server, tool = string(data.get("mcpServerName")), string(data.get("mcpToolName"))
    return f"{server}/{tool}" if server and tool else string(data.get(field)) or "unknown"


def _input(given: JSON) -> dict[str, JSON]:
    """What a tool was called with: an object, but for custom tools, which take a text."""
    return given if type(given) is dict else {} if given is None else {"input": given}


def _attached(one: dict[str, JSON]) -> str:
    return string(one.get("path")) or string(one.get("filePath")) or string(one.get("displayName")) or "attachment"


def _tokens(usage: dict[str, JSON]) -> Tokens:
    """Input counts what came from the cache and went into it, as the details of recorded sessions show."""
    given, output, cache_read, cache_write = (usage.get(name) for name in _CALLS)
    return tokens(given, output, cache_read, cache_write, includes_cache=True)


_READERS: dict[str, Callable[[Copilot, dict[str, JSON], Stamp], list[Draft]]] = {
    "abort": Copilot._abort,  # noqa: SLF001 - the class's own table
    "assistant.message": Copilot._message,  # noqa: SLF001 - the class's own table
    "assistant.message_delta": Copilot._part,  # noqa: SLF001 - the class's own table
    "assistant.reasoning": Copilot._reasoning,  # noqa: SLF001 - the class's own table
    "assistant.reasoning_delta": Copilot._thought_part,  # noqa: SLF001 - the class's own table
    "assistant.turn_retry": Copilot._again,  # noqa: SLF001 - the class's own table
    "assistant.usage": Copilot._used,  # noqa: SLF001 - the class's own table
    "result": Copilot._result,  # noqa: SLF001 - the class's own table
    "session.context_changed": Copilot._start,  # noqa: SLF001 - the class's own table
    "session.error": Copilot._failed,  # noqa: SLF001 - the class's own table
    "session.model_change": Copilot._tools,  # noqa: SLF001 - the class's own table
    "session.resume": Copilot._start,  # noqa: SLF001 - the class's own table
    "session.shutdown": Copilot._shutdown,  # noqa: SLF001 - the class's own table
    "session.start": Copilot._start,  # noqa: SLF001 - the class's own table
    "session.tools_updated": Copilot._tools,  # noqa: SLF001 - the class's own table
    "session.usage_info": Copilot._window,  # noqa: SLF001 - the class's own table
    "subagent.completed": Copilot._agent_ended,  # noqa: SLF001 - the class's own table
    "subagent.failed": Copilot._agent_ended,  # noqa: SLF001 - the class's own table
    "tool.execution_complete": Copilot._returned,  # noqa: SLF001 - the class's own table
    "tool.execution_start": Copilot._call,  # noqa: SLF001 - the class's own table
}
