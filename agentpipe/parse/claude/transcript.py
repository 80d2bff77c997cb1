"""Claude Code's session files: ``~/.claude/projects/…/<session>.jsonl`` and those of its sub-agents.

The rules this module keeps: what a message says is told as the stream tells it (`stream.Claude` reads both); a
sub-agent's lines find the call that started it, inside one file and in a file of their own; a session file has no end,
so that a turn is over when the next one begins, and the account is incomplete only when an answer is missing.

Sources: see `transcript_lines`, and ``docs/formats/claude.md``.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment, Outcome, Sureness, source_time
from agentpipe.parse.claude.launches import LAUNCHERS
from agentpipe.parse.claude.line import Line, blocks_of, is_result
from agentpipe.parse.claude.lineage import Lineage
from agentpipe.parse.claude.repeats import Repeats
from agentpipe.parse.claude.stream import Claude
from agentpipe.parse.claude.transcript_lines import ENVELOPE, SILENT, STATE, origin_of_text, state_line, system_entry
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.content import flat, media_of, shortened
from agentpipe.parse.vocabulary.drafts import error
from agentpipe.parse.vocabulary.fields import mapping, string, whole

if TYPE_CHECKING:
    from agentpipe.parse.vocabulary.stamp import Stamp

__all__ = ["ClaudeTranscript"]

#: Texts in the user's name that ask nothing of the agent.
_NO_PROMPTS = frozenset({"caveat", "command", "command_output", "compact_summary", "interrupt", "meta", "reminder"})


class ClaudeTranscript(Claude):
    """The adapter of session files for one session; see `agentpipe.parse.adapter.Adapter`.

    ``suffix`` is ``transcript``, or ``agent-<id>`` for the file of a sub-agent.
    """

    name = "claude-transcript"
    suffix = "transcript"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # changing
        self._lineage = Lineage()
        self._repeats = Repeats()
        self._pending: dict[str | None, tuple[str, dict[str, JSON], str, Stamp]] = {}  # usage that may grow, by scope
        self._waits = False  # whether something is left to be answered
        self._spoken = False  # whether the agent has said anything in this turn
        self._answer = ""  # the last text of the main agent in this turn
        self._problem = ("", "")  # why the turn failed, and its code
        self._at = ""  # when the last line of the conversation was written

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """``isSidechain`` is Claude Code's, unless a message has parts as Qwen Code's; a line outside the tree has its
        session, or a mark of its own.
        """
        kind = found.get("type")
        if type(kind) is not str:
            return Sureness.NO
        if kind in ENVELOPE:
            if "systemPayload" in found or "parts" in mapping(found.get("message")):
                return Sureness.NO
            if "isSidechain" in found:
                return Sureness.SURE
            linked = "parentUuid" in found and type(found.get("sessionId")) is str
            return Sureness.LIKELY if linked else Sureness.NO
        if kind not in STATE:
            return Sureness.NO
        if "leafUuid" in found or "snapshot" in found:
            return Sureness.SURE
        if type(found.get("sessionId")) is not str:
            return Sureness.NO
        return Sureness.SURE if "-" in kind else Sureness.LIKELY  # one word alone may be anybody's

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Every line of the tree has it; a ``summary`` may be of another session and names none."""
        return string(found.get("sessionId")) or string(found.get("session_id"))

    def read(self, found: dict[str, JSON], moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        kind = string(found.get("type"))
        if kind in SILENT:
            return self._silent(found, moment)
        if self._repeats.line(found):
            return []
        if "sessionId" not in found and "isSidechain" not in found:  # as the stream prints it: some logs hold both
            new = self._repeats.without(found)
            return super().read(new, moment, size) if new is not None else []
        self._learn(found)
        own = source_time(found["timestamp"]) if "timestamp" in found else None
        line = Line(self._clock.at(own, moment), own is not None, moment.now, size, self._scope(found), found=found)
        told = self._plans.tick(line.at) if self._plans.due_s is not None and own is not None else []
        return [*told, *self._told(kind, line)]

    def finish(self, moment: Moment) -> list[Draft]:
        """End the last turn, if nothing of it is missing."""
        out = self._settle_usage()
        if self._spoken and not self._waits:
            out += self._turn_over()
        return [*out, *super().finish(moment)]

    def outcome(self) -> Outcome:
        """How the last turn ended; incomplete when an answer is missing."""
        outcome = super().outcome()
        if self._waits:
            return outcome._replace(ok=None, incomplete="the last turn has no end")
        return outcome._replace(incomplete=None)

    def _silent(self, found: dict[str, JSON], moment: Moment) -> list[Draft]:
        """Nothing is told, but whose file it is and what time it is."""
        if not self.ready and "timestamp" in found:
            self._clock.at(source_time(found["timestamp"]), moment)
        if not self.sessions and string(found.get("sessionId")):
            self.sessions.add(found["sessionId"])
            self.facts = {**self.facts, "session_id": found["sessionId"]}
        return []

    def _learn(self, found: dict[str, JSON]) -> None:
        """Facts of the run: the first directory, and the version as it changes when a session is resumed."""
        session, version = string(found.get("sessionId")), string(found.get("version"))
        facts = {**self.facts}
        if session:
            self.sessions.add(session)
            facts.setdefault("session_id", session)
        if version:
            facts["agent_version"] = version
        if string(found.get("cwd")):
            facts.setdefault("cwd", found["cwd"])
        if facts != self.facts:
            self.facts = facts
        if not self.ready and "isSidechain" in found:
            self.ready = True
            agent = string(found.get("agentId"))
            if found["isSidechain"] is True and agent:
                self.suffix = f"agent-{agent}"
                self._lineage.own = agent

    def _scope(self, found: dict[str, JSON]) -> str | None:
        """The call that started the sub-agent which speaks; None for the main agent and for a file's own one."""
        return self._lineage.scope_of(found) if found.get("isSidechain") is True else None

    def _told(self, kind: str, line: Line) -> list[Draft]:
        reader = _READERS.get(kind)
        if reader is not None:
            return reader(self, line)
        drafts = state_line(line.found, line.at)
        return drafts if drafts is not None else [self._raw(line, f"unknown type {shortened(kind, 100)!r}")]

    def _message(self, line: Line) -> list[Draft]:
        """A line of the conversation, in the agent's or in the user's name."""
        found = self._repeats.without(line.found)
        if found is None:
            return []
        self._lines += 1
        line.found = found
        if found["type"] == "assistant":
            return self._spoke(line)
        line.found = {**found, "tool_use_result": found.get("toolUseResult")}
        before = self._asked(found, line)
        return [*before, *self._user(line)]

    def _spoke(self, line: Line) -> list[Draft]:
        found = line.found
        message = mapping(found.get("message"))
        failed = string(found.get("error")) or ("api_error" if found.get("isApiErrorMessage") is True else "")
        line.found = {**found, "error": failed, "api_error_status": found.get("apiErrorStatus")}
        blocks = blocks_of(message.get("content"))
        out = self._assistant(line)
        for block in blocks:
            if block.get("type") == "tool_use" and string(block.get("name")) in LAUNCHERS:
                self._lineage.launches.called(string(block.get("id")), mapping(block.get("input")))
        if line.scope is None:
            self._follow(message, blocks, failed, line)
        return out

    def _follow(self, message: dict[str, JSON], blocks: list[dict[str, JSON]], failed: str, line: Line) -> None:
        """What the main agent's line means for its turn."""
        self._at, self._spoken = line.at, True
        kinds = {string(block.get("type")) for block in blocks}
        self._waits = "tool_use" in kinds or message.get("stop_reason") == "tool_use" or kinds == {"thinking"}
        said = flat([block for block in blocks if block.get("type") == "text"])
        if failed:
            self._waits, self._problem = False, (said or failed, failed)
        elif said:
            self._answer, self._problem = said, ("", "")
        model = string(message.get("model"))
        if model and model != "<synthetic>" and self.facts.get("model") != model:
            self.facts = {**self.facts, "model": model}

    def _asked(self, found: dict[str, JSON], line: Line) -> list[Draft]:
        """What a line in the user's name means for the turn: the next one begins, or the tools have answered."""
        blocks = blocks_of(mapping(found.get("message")).get("content"))
        results = [block for block in blocks if is_result(block)]
        for block in results:
            agent = string(mapping(found.get("toolUseResult")).get("agentId"))
            self._lineage.launches.answered(string(block.get("tool_use_id")), agent)
        if line.scope is not None:
            return []
        self._at = line.at
        if results:
            self._waits = True
            return []
        origins = {origin_of_text(found, flat([block])) for block in blocks}
        if origins == {"interrupt"}:
            return self._settle_usage() + self._cancelled()
        if origins <= _NO_PROMPTS:
            return []
        out = self._settle_usage() + (self._turn_over() if self._spoken and not self._waits else [])
        self._waits = True
        return out

    def _cancelled(self) -> list[Draft]:
        """Somebody said stop."""
        self._problem, self._waits = ("interrupted by user", "interrupted"), False
        return self._turn_over()

    def _turn_over(self, duration_ms: int | None = None) -> list[Draft]:
        """The turn has ended with the last text, or with what went wrong."""
        self._turns += 1
        said, code = self._problem
        turn: dict[str, JSON] = {"turn": self._turns, "ok": not said}
        out: list[Draft] = []
        if said:
            turn["error"] = shortened(said, self._limit)
            out = error("turn", turn["error"], self._at, code=code)
        elif self._answer:
            turn["result"] = self._result = shortened(self._answer, self._limit)
        if duration_ms is not None:
            turn["duration_ms"] = duration_ms
            self._spent_ms += duration_ms
        self._last, self._spoken, self._answer, self._problem = turn, False, "", ("", "")
        return [*out, Draft("run_iteration", turn, self._at)]

    def _usage(self, message: dict[str, JSON], message_id: str, model: str, line: Line) -> list[Draft]:
        """The lines of a message repeat its usage while it grows: it is told once, as the last of them has it."""
        key = f"{message_id} {string(line.found.get('requestId'))}"
        usage = mapping(message.get("usage"))
        before = self._pending.get(line.scope)
        if before is not None and before[0] == key:
            grown = (whole(usage.get("output_tokens")) or 0) >= (whole(before[1].get("output_tokens")) or 0)
            self._pending[line.scope] = (key, usage if grown else before[1], model, line)
            return []
        out = self._settle_usage(line.scope) if before is not None else []
        self._pending[line.scope] = (key, usage, model, line)
        return out

    def _settle_usage(self, *scopes: str | None) -> list[Draft]:
        """Tell what the last messages have used, of all scopes when none is named."""
        out: list[Draft] = []
        for scope in scopes or tuple(self._pending):
            key, usage, model, stamp = self._pending.pop(scope)
            payload = self._ledger.message(key, usage, model, final=True)
            if payload is not None:
                self._ledger.add(payload)
                out.append(Draft("usage_update", payload, stamp.at, scope))
        return out

    def _origin(self, line: Line, text: str) -> str:
        if line.found.get("isSidechain") is True and not line.found.get("isMeta"):
            return "subagent_prompt"
        if "sessionId" not in line.found:
            return super()._origin(line, text)
        return origin_of_text(line.found, text)

    def _entry(self, line: Line) -> list[Draft]:
        """A ``system`` line; one about how long a turn took ends it."""
        found = line.found
        drafts = system_entry(found, line.at)
        if drafts is None:
            return [self._raw(line, f"unknown subtype {shortened(string(found.get('subtype')), 100)!r}")]
        for draft in drafts:
            draft.parent_id = line.scope
        if found.get("subtype") == "turn_duration" and line.scope is None and self._spoken:
            self._waits = False
            return [*self._settle_usage(), *drafts, *self._turn_over(whole(found.get("durationMs")))]
        return drafts

    def _attachment(self, line: Line) -> list[Draft]:
        """What is put beside a prompt for the model says nothing by rule, but for a text that was queued meanwhile, and
        the end of all turns.
        """
        given = mapping(line.found.get("attachment"))
        kind = given.get("type")
        if kind == "queued_command":
            return self._queued(given, line)
        if kind == "max_turns_reached" and line.scope is None:
            self._problem = (f"Reached maximum number of turns ({given.get('maxTurns')})", "error_max_turns")
            self._waits, self._at = False, line.at
            return self._settle_usage() + self._turn_over()
        return []

    def _queued(self, given: dict[str, JSON], line: Line) -> list[Draft]:
        prompt = given.get("prompt")
        mode = string(mapping(given.get("origin")).get("kind")) or string(given.get("commandMode"))
        payload: dict[str, Any] = {
            "message_id": line.uuid or f"line-{self._lines}",
            "index": 0,
            "text": prompt if type(prompt) is str else flat(prompt),
            "final": True,
            "role": "user",
        }
        if mode not in ("", "prompt", "human"):
            payload["origin"] = mode
        draft = Draft("agent_output", payload, line.at, line.scope)
        if type(prompt) is list:
            draft.whole = media_of(prompt)
        return [draft]

    def _progress(self, line: Line) -> list[Draft]:
        """A tool goes on: nothing by rule, but for the lines of a sub-agent that some versions wrote into its parent's
        file.
        """
        data = mapping(line.found.get("data"))
        inner = mapping(data.get("message"))
        if data.get("type") != "agent_progress" or inner.get("type") not in ("assistant", "user"):
            return []
        call = string(line.found.get("parentToolUseID"))
        if not call or self._repeats.line(inner):
            return []
        if string(data.get("agentId")):
            self._lineage.launches.joined(data["agentId"], call)
        line.scope = call
        line.found = {**inner, "isSidechain": True, "sessionId": line.found.get("sessionId")}
        return self._message(line)

    def _cost(self, line: Line) -> list[Draft]:
        """The process's own total, newer versions only."""
        found = line.found
        self._ledger.result({"modelUsage": found.get("modelUsage"), "total_cost_usd": found.get("totalCostUSD")})
        total = self._ledger.update()
        return [Draft("usage_update", total, line.at)] if total is not None else []


_READERS: dict[str, Callable[[ClaudeTranscript, Line], list[Draft]]] = {
    "assistant": ClaudeTranscript._message,  # noqa: SLF001 - the class's own table
    "attachment": ClaudeTranscript._attachment,  # noqa: SLF001 - the class's own table
    "cost-state": ClaudeTranscript._cost,  # noqa: SLF001 - the class's own table
    "progress": ClaudeTranscript._progress,  # noqa: SLF001 - the class's own table
    "system": ClaudeTranscript._entry,  # noqa: SLF001 - the class's own table
    "user": ClaudeTranscript._message,  # noqa: SLF001 - the class's own table
}
