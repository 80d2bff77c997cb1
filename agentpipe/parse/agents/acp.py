"""Agent Client Protocol: the JSON-RPC lines of one side or of both, version 1 and the draft of version 2.

The rules this module keeps: the answer to ``session/prompt`` ends a turn (version 2: the state ``idle``), paired by its
id when the question was seen and known by its ``stopReason`` when not; chunks have no end, so a message ends with what
comes next; a call is told when it is known what it is given or that it runs.

Source: the schemas of ``@agentclientprotocol/sdk``; see ``docs/formats/acp.md``.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment, Sureness
from agentpipe.parse.agents.acp_texts import MESSAGES, Messages
from agentpipe.parse.agents.acp_tools import Terminals, ToolState
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.content import shortened
from agentpipe.parse.vocabulary.drafts import error, log
from agentpipe.parse.vocabulary.fields import items, mapping, number, string, whole
from agentpipe.parse.vocabulary.plans import step
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.usage import Tokens, tokens

__all__ = ["Acp"]

_Found: TypeAlias = dict[str, JSON]

#: What an agent asks of its client and the other way round. What the files and terminals of the client are used for is
#: told by the calls that use them.
_METHODS = frozenset({
    "authenticate", "elicitation/complete", "elicitation/create", "fs/read_text_file", "fs/write_text_file",
    "initialize", "logout", "session/cancel", "session/close", "session/delete", "session/fork", "session/list",
    "session/load", "session/new", "session/prompt", "session/request_permission", "session/resume",
    "session/set_config_option", "session/set_mode", "session/set_model", "session/update", "terminal/create",
    "terminal/kill", "terminal/output", "terminal/release", "terminal/wait_for_exit",
})  # fmt: skip

#: Updates that say nothing to a viewer.
_SILENT = frozenset({
    "available_commands_update", "compaction_summary_chunk", "config_option_update", "current_mode_update",
    "plan_removed", "session_info_update",
})  # fmt: skip

#: The code of a request that was cancelled.
_CANCELLED = -32800

_STOPS_WELL = frozenset({"end_turn"})


class Acp(Account):
    """The adapter of the Agent Client Protocol for the lines of one session."""

    name = "acp"
    agent = "acp"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # changing
        self._asked: dict[tuple[bool, str], tuple[str, _Found]] = {}  # by (whether the agent asks, id)
        self._tools: dict[str, ToolState] = {}  # calls that have not ended
        self._ended: set[str] = set()
        self._terminals = Terminals()
        self._messages = Messages(self.texts)
        self._cost = 0.0

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """JSON-RPC with the protocol's own methods; an answer is only likely, unless it says why a turn stopped."""
        if found.get("jsonrpc") != "2.0":
            return Sureness.NO
        method = found.get("method")
        if type(method) is str:
            if method == "initialize":  # the language servers' and the Model Context Protocol have one too
                version = mapping(found.get("params")).get("protocolVersion")
                return Sureness.SURE if type(version) is int else Sureness.NO
            return Sureness.SURE if method in _METHODS else Sureness.NO
        if "id" not in found or ("result" not in found and "error" not in found):
            return Sureness.NO
        return Sureness.SURE if "stopReason" in mapping(found.get("result")) else Sureness.LIKELY

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """In the parameters of every line about a session, and in the answer that makes one."""
        params = found.get("params")
        place = params if type(params) is dict else mapping(found.get("result"))
        return string(place.get("sessionId"))

    def read(self, found: _Found, moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        stamp = self.stamp(None, moment, size)
        ticks = self.ticks(stamp, moment)
        session = self.session_of(found)
        if session:
            self.learn(session_id=session)
            self.ready = True
        method = found.get("method")
        if type(method) is not str:
            told = self._answer(found, stamp)
        elif method == "session/update":
            told = self._update(found, stamp)
        elif method in _METHODS:
            told = self._request(method, found, stamp)
        else:
            told = [self.raw(stamp, f"unknown method {shortened(method, 100)!r}", found)]
        return ticks + told if ticks else told

    def finish(self, moment: Moment) -> list[Draft]:
        """Tell the calls that never began and whole what was cut."""
        stamp = self.stamp(None, moment, 0)
        return [*self._messages.settled(stamp, aborted=True), *self._held_calls(stamp), *super().finish(moment)]

    # ---- questions and answers

    def _request(self, method: str, found: _Found, stamp: Stamp) -> list[Draft]:
        params = mapping(found.get("params"))
        by_agent = method.startswith(("fs/", "terminal/", "elicitation/")) or method == "session/request_permission"
        if "id" in found:
            self._asked[by_agent, str(found["id"])] = method, params
        if method == "session/prompt":
            return self._messages.prompted(items(params.get("prompt")), stamp)
        if method == "session/request_permission":
            return self._permission(params, stamp)
        if method == "elicitation/create":
            reason = string(params.get("message"))
            payload = {"name": "elicitation", "input": params, **({"reason": reason} if reason else {})}
            return [*self._messages.settled(stamp), Draft("permission_request", payload, stamp.at)]
        if method == "session/cancel":
            return log("info", "the client cancels the turn", stamp.at, method)
        if method in ("session/load", "session/new", "session/resume"):
            self.learn(cwd=string(params.get("cwd")))
        return []

    def _answer(self, found: _Found, stamp: Stamp) -> list[Draft]:
        result = mapping(found.get("result"))
        method, params = self._question(found, result)
        if "stopReason" in result:
            return self._stopped(string(result["stopReason"]), mapping(result.get("usage")), stamp)
        if "error" in found:
            return self._refused(method, mapping(found["error"]), stamp)
        if method == "session/request_permission":
            return self._permitted(params, mapping(result.get("outcome")), stamp)
        if method.startswith("terminal/"):
            terminal = string(params.get("terminalId"))
            if type(result.get("output")) is str:
                self._terminals.put(terminal, result["output"])
            self._terminals.ended(terminal, mapping(result.get("exitStatus")) or result)
        agent = mapping(result.get("agentInfo"))
        self.learn(
            agent=string(agent.get("name")),
            agent_version=string(agent.get("version")),
            model=string(mapping(result.get("models")).get("currentModelId")),
        )
        return []

    def _question(self, found: _Found, result: _Found) -> tuple[str, _Found]:
        """What *found* answers. Each side counts its own questions, so that one id may stand for two."""
        number_ = str(found.get("id"))
        own = "outcome" in result or not (
            "stopReason" in result or "sessionId" in result or "protocolVersion" in result
        )
        for by_agent in (own, not own):
            if (by_agent, number_) in self._asked:
                return self._asked.pop((by_agent, number_))
        return ("session/request_permission", {}) if "outcome" in result else ("", {})

    def _refused(self, method: str, problem: _Found, stamp: Stamp) -> list[Draft]:
        said = string(problem.get("message")) or "the request failed"
        more = string(problem.get("data")) or string(mapping(problem.get("data")).get("details"))
        said = f"{said}: {more}" if more and more not in said else said
        code = whole(problem.get("code"))
        known = str(code) if code is not None else ""
        if method == "session/prompt":
            if code == _CANCELLED:
                return self._turn_ended(stamp, ok=False, failed=said, code=known, reason="cancelled")
            why = error("agent", said, stamp.at, code=known)  # a turn that only went badly has a reason to stop
            return [*why, *self._turn_ended(stamp, ok=False, failed=said, code=known, reason="")]
        rank = "warning" if method.startswith(("fs/", "terminal/", "elicitation/")) else "agent"
        return error(
            "warning" if rank == "warning" else "agent", f"{method}: {said}" if method else said, stamp.at, code=known
        )

    # ---- turns

    def _stopped(self, reason: str, usage: _Found, stamp: Stamp) -> list[Draft]:
        counts = _tokens(usage)
        self.turns.totals.add(counts)
        ok = reason in _STOPS_WELL
        return self._turn_ended(stamp, ok=ok, failed=reason, reason=reason, usage=counts)

    def _turn_ended(
        self, stamp: Stamp, *, ok: bool, failed: str = "", code: str = "", reason: str = "", usage: Tokens | None = None
    ) -> list[Draft]:
        out = self._messages.settled(stamp) + self._held_calls(stamp)
        said, self._messages.said = self._messages.said, ""
        cost, self._cost = self._cost, 0.0
        return out + self.turns.ended(
            stamp, ok=ok, result=said, failed=failed, code=code, usage=usage, cost_usd=cost or None,
            cancelled=reason == "cancelled", stop_reason=reason,
        )  # fmt: skip

    def _state(self, update: _Found, stamp: Stamp) -> list[Draft]:
        """Version 2 ends a turn by going idle; the first time that it does, it may not have had one."""
        if update.get("state") != "idle" or "stopReason" not in update:
            return []
        return self._stopped(string(update["stopReason"]) or "end_turn", mapping(update.get("usage")), stamp)

    # ---- permissions

    def _permission(self, params: _Found, stamp: Stamp) -> list[Draft]:
        asked = mapping(params.get("toolCall"))
        call_id = string(asked.get("toolCallId"))
        out = self._messages.settled(stamp)
        payload: _Found = {"name": "a tool", "input": {}}
        if call_id:
            tool = self._tool(call_id)
            if tool is not None:
                tool.update({**asked, "status": None}, stamp.size)
                out += self._called(tool, stamp)
                payload = {"name": tool.name, "input": tool.input, "reason": tool.title}
            payload["tool_use_id"] = call_id
        return [*out, Draft("permission_request", payload, stamp.at)]

    def _permitted(self, params: _Found, outcome: _Found, stamp: Stamp) -> list[Draft]:
        chosen = string(outcome.get("optionId"))
        kinds = {string(mapping(one).get("optionId")): mapping(one).get("kind") for one in items(params.get("options"))}
        if not string(kinds.get(chosen)).startswith("reject"):
            return []
        call_id = string(mapping(params.get("toolCall")).get("toolCallId"))
        return error("warning", "the call was denied", stamp.at, code="permission_denied", tool_use_id=call_id)

    # ---- updates

    def _update(self, found: _Found, stamp: Stamp) -> list[Draft]:
        update = mapping(mapping(found.get("params")).get("update"))
        kind = string(update.get("sessionUpdate"))
        if kind in _SILENT:
            return []
        if kind in MESSAGES:
            return self._messages.update(kind, update, stamp)
        reader = _UPDATES.get(kind)
        if reader is None:
            return [self.raw(stamp, f"unknown update {shortened(kind, 100)!r}", found)]
        return reader(self, update, stamp)

    # ---- tools

    def _tool(self, call_id: str) -> ToolState | None:
        """The call, which its first mention makes; None when it has ended."""
        if call_id not in self._tools:
            if call_id in self._ended:
                return None
            self._tools[call_id] = ToolState(call_id)
        return self._tools[call_id]

    def _tool_call(self, update: _Found, stamp: Stamp) -> list[Draft]:
        """A new call; an id that is used again is a new one as well, unless it says again that it ended."""
        if update.get("status") not in ("completed", "failed"):
            self._ended.discard(string(update.get("toolCallId")))
        return self._tool_update(update, stamp)

    def _tool_update(self, update: _Found, stamp: Stamp) -> list[Draft]:
        out = self._messages.settled(stamp)
        tool = self._tool(string(update.get("toolCallId")) or "unknown")
        if tool is None:
            return out
        tool.update(update, stamp.size)
        if tool.waits:
            return out
        out += self._called(tool, stamp)
        return out + (self._returned(tool, stamp) if tool.status in ("completed", "failed") else [])

    def _tool_chunk(self, update: _Found, stamp: Stamp) -> list[Draft]:
        out = self._messages.settled(stamp)
        tool = self._tool(string(update.get("toolCallId")) or "unknown")
        if tool is not None:
            tool.add(update.get("content"))
        return out

    def _called(self, tool: ToolState, stamp: Stamp) -> list[Draft]:
        if tool.told:
            return []
        tool.told = True
        scoped = Stamp(stamp.at, stamp.own, stamp.read, tool.size, tool.parent)
        return [self.calls.call(scoped, tool.call_id, tool.name, tool.kind, tool.title, tool.input)]

    def _returned(self, tool: ToolState, stamp: Stamp) -> list[Draft]:
        del self._tools[tool.call_id]
        self._ended.add(tool.call_id)
        stamp = Stamp(stamp.at, stamp.own, stamp.read, tool.size, tool.parent)
        text, status, media = tool.result(self._terminals)
        ok = tool.status == "completed" and not status
        call = self.calls.take(tool.call_id, stamp, tool.name, tool.kind)
        out = self.calls.result(stamp, tool.call_id, call, text, ok=ok, exit_code=status, whole=media)
        return out + list(tool.files(stamp)) if ok else out

    def _held_calls(self, stamp: Stamp) -> list[Draft]:
        """Calls that were announced and of which nothing more will come in this turn."""
        return [draft for tool in self._tools.values() for draft in self._called(tool, stamp)]

    def _terminal(self, update: _Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - every reader's shape
        self._terminals.updated(update)
        return []

    def _terminal_chunk(self, update: _Found, stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - every reader's shape
        self._terminals.add(string(update.get("terminalId")), update.get("data"))
        return []

    # ---- plans, usage, notices

    def _plan(self, update: _Found, stamp: Stamp) -> list[Draft]:
        plan = mapping(update.get("plan")) or update
        out = self._messages.settled(stamp)
        if type(plan.get("entries")) is not list:
            said = string(plan.get("content")) or string(plan.get("uri")) or "a plan"
            return out + log("info", said, stamp.at, "plan")
        entries = [mapping(entry) for entry in plan["entries"]]
        steps = [step(entry.get("content"), entry.get("status")) for entry in entries]
        return out + self.plans.replaced(steps, stamp.scope, stamp.at)

    def _usage(self, update: _Found, stamp: Stamp) -> list[Draft]:
        """How full the window is; the cost is the session's so far, of which only what it has grown by is told."""
        payload: _Found = {"input_tokens": 0, "output_tokens": 0, "cumulative": False}
        names = {"context_used": whole(update.get("used")), "context_size": whole(update.get("size"))}
        payload |= {name: value for name, value in names.items() if value is not None}
        cost = mapping(update.get("cost"))
        total = number(cost.get("amount")) if string(cost.get("currency")).upper() == "USD" else None
        if total is not None:
            _, grown = self.turns.totals.grown({}, total)
            payload["cost_usd"] = grown
            self._cost = round(self._cost + (grown or 0.0), 9)
        return [Draft("usage_update", payload, stamp.at)]

    def _notice(self, update: _Found, stamp: Stamp) -> list[Draft]:
        more = string(update.get("description"))
        said = ": ".join(part for part in (string(update.get("title")), more) if part) or "a notice"
        severity = string(update.get("severity"))
        if severity in ("error", "warning"):
            return error("warning", said, stamp.at, code=severity)
        return log("info", said, stamp.at, "notice")

    def _compaction(self, update: _Found, stamp: Stamp) -> list[Draft]:
        status = string(update.get("status"))
        said = string(update.get("error")) or string(mapping(update.get("error")).get("message"))
        if said or status == "failed":
            return error("warning", said or "the conversation could not be compacted", stamp.at, code="compaction")
        return log("info", f"compaction {status}".strip(), stamp.at, "compaction")


def _tokens(usage: _Found) -> Tokens:
    """A turn's tokens. Whether the input counts the cache, the total shows."""
    names = ("inputTokens", "outputTokens", "cachedReadTokens", "cachedWriteTokens")
    given, output, cache_read, cache_write = (usage.get(name) for name in names)
    total = whole(usage.get("totalTokens"))
    includes = total is not None and total == (whole(given) or 0) + (whole(output) or 0)
    return tokens(given, output, cache_read, cache_write, includes_cache=includes)


_UPDATES: dict[str, Callable[[Acp, _Found, Stamp], list[Draft]]] = {
    "compaction_update": Acp._compaction,  # noqa: SLF001 - the class's own table
    "notice": Acp._notice,  # noqa: SLF001 - the class's own table
    "plan": Acp._plan,  # noqa: SLF001 - the class's own table
    "plan_update": Acp._plan,  # noqa: SLF001 - the class's own table
    "state_update": Acp._state,  # noqa: SLF001 - the class's own table
    "terminal_output_chunk": Acp._terminal_chunk,  # noqa: SLF001 - the class's own table
    "terminal_update": Acp._terminal,  # noqa: SLF001 - the class's own table
    "tool_call": Acp._tool_call,  # noqa: SLF001 - the class's own table
    "tool_call_content_chunk": Acp._tool_chunk,  # noqa: SLF001 - the class's own table
    "tool_call_update": Acp._tool_update,  # noqa: SLF001 - the class's own table
    "usage_update": Acp._usage,  # noqa: SLF001 - the class's own table
}
