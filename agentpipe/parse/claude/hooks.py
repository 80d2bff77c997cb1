"""Claude Code's hooks: the payloads that its hook commands get on stdin, one a line, in arrays, or single.

The rules this module keeps: a call and its result are paired by ``tool_use_id``, and where old versions give none, by
the tool's name and its input; what a later payload repeats is told once; a result that no hook was told is not made up.
A payload has no time of its own: ``received_at`` beside it, which the hook command adds, is when it came.

Source: the hook inputs of ``@anthropic-ai/claude-agent-sdk``, and payloads of five versions; see
``docs/formats/claude.md``.
"""

from collections.abc import Callable, Mapping

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment, Outcome, Sureness, source_time
from agentpipe.parse.claude.calls import ClaudeCalls
from agentpipe.parse.claude.displayed import Displayed
from agentpipe.parse.claude.launches import LAUNCHERS, Launches
from agentpipe.parse.claude.line import Line
from agentpipe.parse.claude.notices import NOTICES, SILENT_HOOKS
from agentpipe.parse.claude.pairs import Pairs
from agentpipe.parse.claude.responses import content_of
from agentpipe.parse.claude.todo import Todo
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.content import capped, shortened
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole

__all__ = ["ClaudeHooks"]

#: What ``PostToolBatch`` says of a call that failed, where no other hook told its result.
_FAILED = ("<tool_use_error>", "Error: ", "Exit code ")


class ClaudeHooks(Account):
    """The adapter of hook payloads for one session; see `agentpipe.parse.adapter.Adapter`."""

    name = "claude-hooks"
    agent = "claude"
    suffix = "hooks"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # given
        self._made = ClaudeCalls(self.calls, Todo(self.plans), options.max_content)
        # changing
        self._launches = Launches()
        self._pairs = Pairs()
        self._displayed = Displayed(self.texts)
        self._batch: dict[str, tuple[dict[str, JSON], Line]] = {}  # what a batch says of calls without a result
        self._prompts = 0
        self._open = False  # whether a turn has begun that has not ended
        self._over = False  # whether the session has ended

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """Nobody else's lines have both words; a hook that is not known by name is likely a new one."""
        name = found.get("hook_event_name")
        if type(name) is not str or type(found.get("session_id")) is not str:
            return Sureness.NO
        return Sureness.SURE if name in _READERS or name in SILENT_HOOKS or name in NOTICES else Sureness.LIKELY

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Every payload has it, also inside a sub-agent."""
        return string(found.get("session_id"))

    def read(self, found: dict[str, JSON], moment: Moment, size: int) -> list[Draft]:
        """The drafts of one payload; *size* is its length in bytes."""
        name = string(found.get("hook_event_name"))
        if not self.ready:
            self.learn(session_id=string(found.get("session_id")), cwd=string(found.get("cwd")))
            self.ready = True
        line = self._line(found, moment, size)
        before = self.ticks(line, moment)
        reader = _READERS.get(name)
        if reader is not None:
            return [*before, *reader(self, line)]
        if name in SILENT_HOOKS:
            return before
        tell = NOTICES.get(name)
        return [*before, *(tell(found, line.at, line.scope) if tell is not None else [self._unknown(line, name)])]

    def finish(self, moment: Moment) -> list[Draft]:
        """Tell what batches said of calls that nobody answered, and whole the texts that were cut."""
        answers = self._answers()
        return [*answers, *self._displayed.finish(self.stamp(None, moment, 0)), *super().finish(moment)]

    def outcome(self) -> Outcome:
        """By the last ``Stop``; the account is whole once the turn or the session has ended."""
        if not self._open:
            ended = "" if self.turns.count or self._over else "no Stop from the agent"
            outcome = self.turns.outcome(incomplete=ended or None)
            return outcome if ended or self.turns.count else outcome._replace(incomplete=None)
        missing = "the session ended without a Stop" if self._over else "the last turn has no Stop"
        return self.turns.outcome(incomplete=missing)._replace(ok=None)

    def _line(self, found: dict[str, JSON], moment: Moment, size: int) -> Line:
        own = source_time(found["received_at"]) if "received_at" in found else None
        agent = found.get("agent_id")
        scope = self._launches.of_agent(agent, string(found.get("agent_type"))) if type(agent) is str else None
        return Line(self.clock.at(own, moment), own is not None, moment.now, size, scope, found=found)

    def _unknown(self, line: Line, name: str) -> Draft:
        return self.raw(line, f"unknown hook {shortened(name, 100)!r}", line.found)

    def _session_start(self, line: Line) -> list[Draft]:
        found = line.found
        self._over = False
        self.learn(model=string(found.get("model")), cwd=string(found.get("cwd")))
        source = string(found.get("source"))
        return [] if source in ("", "startup") else log("info", f"session started ({source})", line.at, "claude")

    def _session_end(self, line: Line) -> list[Draft]:
        self._over = True
        reason = string(line.found.get("reason")) or "other"
        return [*self._answers(), *log("info", f"session ended ({reason})", line.at, "claude")]

    def _prompt(self, line: Line) -> list[Draft]:
        """A text in the user's name; ``origin`` tells when it was no human who wrote it."""
        self._begin(line)
        self._prompts += 1
        text, source = string(line.found.get("prompt")), string(line.found.get("source"))
        if text.startswith("<task-notification>"):
            source = "task-notification"
        marks: dict[str, JSON] = {"origin": source} if source not in ("", "user") else {}
        return self.texts.final(line, "agent_output", f"prompt-{self._prompts}", text, 0, role="user", **marks)

    def _display(self, line: Line) -> list[Draft]:
        self._begin(line)
        return self._displayed.flush(line.found, line)

    def _pre(self, line: Line) -> list[Draft]:
        self._begin(line)
        found = line.found
        name, given = string(found.get("tool_name")) or "unknown", mapping(found.get("tool_input"))
        tool_use_id = self._pairs.called(string(found.get("tool_use_id")), name, given)
        return [self._call(tool_use_id, name, given, line)] if tool_use_id else []

    def _call(self, tool_use_id: str, name: str, given: dict[str, JSON], line: Line) -> Draft:
        if name in LAUNCHERS:
            self._launches.called(tool_use_id, given)
        return self._made.call({"id": tool_use_id, "name": name, "input": given}, line, "", 0)

    def _post(self, line: Line) -> list[Draft]:
        found = line.found
        response = found.get("tool_response")
        return self._returned(found, content_of(response), response, line, failed=False)

    def _failure(self, line: Line) -> list[Draft]:
        found = line.found
        structured = {"interrupted": True} if found.get("is_interrupt") is True else None
        return self._returned(found, string(found.get("error")), structured, line, failed=True)

    def _returned(
        self, found: dict[str, JSON], content: JSON, structured: JSON, line: Line, *, failed: bool
    ) -> list[Draft]:
        """A call has a result; one whose call no hook was told is told now, for its result says what it was."""
        name, given = string(found.get("tool_name")) or "unknown", mapping(found.get("tool_input"))
        tool_use_id, known = self._pairs.answered(string(found.get("tool_use_id")), name, given)
        if known is None:
            return []  # told already
        self._batch.pop(tool_use_id, None)
        before = [] if known else [self._call(tool_use_id, name, given, line)]
        if name in LAUNCHERS:
            self._launches.answered(tool_use_id, string(mapping(structured).get("agentId")))
        block = {"tool_use_id": tool_use_id, "content": content, "is_error": failed}
        took_ms = whole(found.get("duration_ms"))
        return [*before, *self._made.result(block, structured, {}, line, took_ms)]

    def _batched(self, line: Line) -> list[Draft]:
        """A batch repeats what the hooks of its calls were told; what they were not is told later, should none come."""
        out = self._answers()
        for entry in map(mapping, items(line.found.get("tool_calls"))):
            tool_use_id = string(entry.get("tool_use_id"))
            if tool_use_id and not self._pairs.is_answered(tool_use_id):
                self._batch[tool_use_id] = (entry, line)
        return out

    def _answers(self) -> list[Draft]:
        """Results that only a batch has told."""
        out: list[Draft] = []
        batch, self._batch = self._batch, {}
        for entry, line in batch.values():
            content = content_of(entry.get("tool_response"))
            failed = type(content) is str and content.startswith(_FAILED)
            out += self._returned(entry, content, None, line, failed=failed)
        return out

    def _permission(self, line: Line) -> list[Draft]:
        self._begin(line)
        found = line.found
        given = capped(mapping(found.get("tool_input")), self.limit)
        payload: dict[str, JSON] = {"name": string(found.get("tool_name")) or "unknown", "input": given}
        if string(found.get("tool_use_id")):
            payload["tool_use_id"] = found["tool_use_id"]
        return [Draft("permission_request", payload, line.at, line.scope)]

    def _elicitation(self, line: Line) -> list[Draft]:
        """A server of tools asks the human something."""
        found = line.found
        given: dict[str, JSON] = {key: found[key] for key in ("mode", "url", "requested_schema") if key in found}
        name = string(found.get("mcp_server_name")) or "Elicitation"
        payload: dict[str, JSON] = {"name": name, "input": capped(given, self.limit)}
        payload["reason"] = string(found.get("message"))
        return [Draft("permission_request", payload, line.at, line.scope)]

    def _stop(self, line: Line) -> list[Draft]:
        """The turn has ended well; its last text is told here when no ``MessageDisplay`` was."""
        said = string(line.found.get("last_assistant_message"))
        out = [*self._answers(), *self._displayed.last(said, f"stop-{self.turns.count + 1}", line)]
        self._open = False
        self._pairs.forget()
        return [*out, *self.turns.ended(line, ok=True, result=said)]

    def _stop_failure(self, line: Line) -> list[Draft]:
        found = line.found
        kind = string(found.get("error")) or "unknown"
        said = string(found.get("last_assistant_message"))
        details = string(found.get("error_details")) or said or kind
        out = [*self._answers(), *error("agent", details, line.at, line.scope, code=kind)]
        self._open = False
        self._pairs.forget()
        return [*out, *self.turns.ended(line, ok=False, failed=details, code=kind)]

    def _agent_start(self, line: Line) -> list[Draft]:
        kind = string(line.found.get("agent_type")) or "agent"
        return self._agent_log("info", f"sub-agent started: {kind}", line)

    def _agent_stop(self, line: Line) -> list[Draft]:
        """A sub-agent has ended, and its last text is told; old versions name no agent, and say nothing of it."""
        found = line.found
        agent, said = string(found.get("agent_id")), string(found.get("last_assistant_message"))
        out = self._displayed.last(said, f"agent-{agent}", line) if line.scope is not None else []
        kind = string(found.get("agent_type")) or "agent"
        return [*out, *self._agent_log("info", f"sub-agent stopped: {kind}", line)]

    def _agent_log(self, level: str, message: str, line: Line) -> list[Draft]:
        drafts = log(level, message, line.at, "task", task_id=string(line.found.get("agent_id")))
        for draft in drafts:
            draft.parent_id = line.scope
        return drafts

    def _task(self, line: Line) -> list[Draft]:
        """The task tools tell it themselves, unless another process made the task."""
        if any(call.name in ("TaskCreate", "TaskUpdate") for call in self.calls.open.values()):
            return []
        found = line.found
        done = "completed" if found.get("hook_event_name") == "TaskCompleted" else "created"
        mate = string(found.get("teammate_name"))
        message = f"task {done}: {string(found.get('task_subject'))}" + (f" ({mate})" if mate else "")
        return log("info", message, line.at, "task", task_id=string(found.get("task_id")))

    def _file(self, line: Line) -> list[Draft]:
        """A watched file changed on disk, whoever did it."""
        changes = {"add": "created", "change": "modified", "unlink": "deleted"}
        path, change = string(line.found.get("file_path")), changes.get(string(line.found.get("event")))
        if not path or change is None:
            return [self._unknown(line, "FileChanged")]
        return [Draft("file_changed", {"path": path, "change": change, "source": "watch"}, line.at, line.scope)]

    def _model(self, line: Line) -> list[Draft]:
        self.learn(model=string(line.found.get("to_model")))
        return []

    def _begin(self, line: Line) -> None:
        """Something of a turn was told: it is open until a ``Stop``."""
        if line.scope is None:
            self._open = True
            self._over = False


_READERS: dict[str, Callable[[ClaudeHooks, Line], list[Draft]]] = {
    "Elicitation": ClaudeHooks._elicitation,  # noqa: SLF001 - the class's own table
    "FileChanged": ClaudeHooks._file,  # noqa: SLF001 - the class's own table
    "MessageDisplay": ClaudeHooks._display,  # noqa: SLF001 - the class's own table
    "PermissionRequest": ClaudeHooks._permission,  # noqa: SLF001 - the class's own table
    "PostModelSwitch": ClaudeHooks._model,  # noqa: SLF001 - the class's own table
    "PostToolBatch": ClaudeHooks._batched,  # noqa: SLF001 - the class's own table
    "PostToolUse": ClaudeHooks._post,  # noqa: SLF001 - the class's own table
    "PostToolUseFailure": ClaudeHooks._failure,  # noqa: SLF001 - the class's own table
    "PreToolUse": ClaudeHooks._pre,  # noqa: SLF001 - the class's own table
    "SessionEnd": ClaudeHooks._session_end,  # noqa: SLF001 - the class's own table
    "SessionStart": ClaudeHooks._session_start,  # noqa: SLF001 - the class's own table
    "Stop": ClaudeHooks._stop,  # noqa: SLF001 - the class's own table
    "StopFailure": ClaudeHooks._stop_failure,  # noqa: SLF001 - the class's own table
    "SubagentStart": ClaudeHooks._agent_start,  # noqa: SLF001 - the class's own table
    "SubagentStop": ClaudeHooks._agent_stop,  # noqa: SLF001 - the class's own table
    "TaskCompleted": ClaudeHooks._task,  # noqa: SLF001 - the class's own table
    "TaskCreated": ClaudeHooks._task,  # noqa: SLF001 - the class's own table
    "UserPromptSubmit": ClaudeHooks._prompt,  # noqa: SLF001 - the class's own table
}
