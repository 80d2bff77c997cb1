"""The explicit, sorted tables: commands, stages, adapters, dialects.

A row names where a thing lives and says in one line what it is for; nothing is imported until it is asked for, because
start-up is paid once for every process of a pipe.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from agentpipe.stage import StageSpec

__all__ = ["ADAPTERS", "COMMANDS", "STAGES", "Row", "stage_spec"]


class Row(NamedTuple):
    """Where a thing lives (``module:name``) and what it is for, in one line."""

    place: str
    summary: str

    def load(self) -> Any:
        """Import the module and return the named thing."""
        module, name = self.place.split(":")
        return getattr(import_module(module), name)


STAGES = {
    "buffer": Row("agentpipe.buffer:SPEC", "Hold events between bursts and a slow reader, bounded, spilling to disk."),
    "parse": Row("agentpipe.parse:SPEC", "Turn an agent's own output into events."),
    "throttle": Row("agentpipe.throttle:SPEC", "Limit how fast events pass, losing none undeclared."),
}

ADAPTERS = {
    "acp": Row("agentpipe.parse.agents.acp:Acp", "Agent Client Protocol: JSON-RPC lines of one side or both"),
    "amp": Row("agentpipe.parse.agents.amp:Amp", "Amp: stream-json"),
    "claude": Row("agentpipe.parse.claude.stream:Claude", "Claude Code: stream-json, json"),
    "claude-hooks": Row("agentpipe.parse.claude.hooks:ClaudeHooks", "Claude Code: payloads of its hooks"),
    "claude-transcript": Row("agentpipe.parse.claude.transcript:ClaudeTranscript", "Claude Code: session files"),
    "codex": Row("agentpipe.parse.codex.stream:Codex", "Codex: exec --json"),
    "codex-rollout": Row("agentpipe.parse.codex.rollout:CodexRollout", "Codex: session files (rollouts)"),
    "copilot": Row("agentpipe.parse.agents.copilot:Copilot", "GitHub Copilot CLI: output-format json, session files"),
    "cursor": Row("agentpipe.parse.agents.cursor:Cursor", "Cursor: stream-json, json"),
    "gemini": Row("agentpipe.parse.gemini.stream:Gemini", "Gemini CLI: stream-json, json"),
    "gemini-chat": Row("agentpipe.parse.gemini.chat:GeminiChat", "Gemini CLI: saved chats"),
    "goose": Row("agentpipe.parse.agents.goose:Goose", "Goose: stream-json, json"),
    "kimi": Row("agentpipe.parse.agents.kimi:Kimi", "Kimi CLI: stream-json"),
    "opencode": Row("agentpipe.parse.agents.opencode:OpenCode", "OpenCode: run --format json"),
    "pi": Row("agentpipe.parse.agents.pi:Pi", "pi: mode json"),
    "plain": Row("agentpipe.parse.agents.plain:Plain", "any text, line by line"),
    "qwen": Row("agentpipe.parse.agents.qwen:Qwen", "Qwen Code: stream-json, json"),
    "qwen-transcript": Row("agentpipe.parse.agents.qwen_transcript:QwenTranscript", "Qwen Code: session files"),
}

COMMANDS = {
    "buffer": Row("agentpipe_cli.filters:buffer", STAGES["buffer"].summary),
    "hook": Row("agentpipe_cli.hook:hook", "Take Claude Code's hooks, as its hook command."),
    "parse": Row("agentpipe_cli.filters:parse", STAGES["parse"].summary),
    "publish": Row("agentpipe_cli.publish:publish", "Send events to a hub over WebSocket."),
    "replay": Row("agentpipe_cli.replay:replay", "Play a saved log with its own timing."),
    "run": Row("agentpipe_cli.run:run", "Run an agent and stream its output, line by line."),
    "schema": Row("agentpipe_cli.schema:schema", "Print the JSON Schema of the events."),
    "serve": Row("agentpipe_cli.serve:serve", "Serve the hub and its dashboard."),
    "stats": Row("agentpipe_cli.stats:stats", "Show what happened in logs: tools, files, tokens, cost, time."),
    "subscribe": Row("agentpipe_cli.subscribe:subscribe", "Print the events of a hub as they come."),
    "throttle": Row("agentpipe_cli.filters:throttle", STAGES["throttle"].summary),
}


def stage_spec(name: str) -> "StageSpec[Any]":
    """The specification of the stage called *name*. Raises KeyError when there is none."""
    return cast("StageSpec[Any]", STAGES[name].load())
