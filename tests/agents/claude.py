"""The real Claude Code CLI: which one, and how it is run."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.agents.install import Package
from tests.agents.sandbox import Sandbox
from tests.agents.scenarios import Scenario

__all__ = ["CLAUDE", "HOOKS", "OLD_HOOKS", "SERVER_OPTIONS", "ClaudeSandbox", "claude_version", "hook_settings"]

#: Without a list, tools for plans and searches are hidden behind a tool search.
_TOOLS = "Bash,Read,Edit,Write,Task,TaskCreate,TaskUpdate,TaskList,Glob,Grep"


def claude_version(version: str) -> Package:
    """The package at *version*: today's binaries come as optional dependencies made for the platform,
    versions before 2.1.1xx as a script for node.
    """
    name = "@anthropic-ai/claude-code"
    return Package("claude", name, version, (f"{name}-linux-{{cpu}}/claude", ".bin/claude"))


#: Pinned: its quirks are what the tests know.
CLAUDE = claude_version("2.1.328")


#: The options by which it starts the server of ``mcp_server.py``.
SERVER_OPTIONS = [
    "--mcp-config",
    json.dumps(
        {"mcpServers": {"demo": {"command": sys.executable, "args": [str(Path(__file__).with_name("mcp_server.py"))]}}}
    ),
]


#: The events of hooks, for tools, texts, sub-agents and the session. The CLI runs no hook at all when its settings name
#: one that it does not know, so `OLD_HOOKS` are those of all versions since 1.0.
HOOKS = (
    "MessageDisplay", "PostToolBatch", "PostToolUse", "PostToolUseFailure", "PreToolUse", "SessionEnd", "SessionStart",
    "Stop", "SubagentStart", "SubagentStop", "UserPromptSubmit",
)  # fmt: skip
OLD_HOOKS = ("PostToolUse", "PreToolUse", "SessionEnd", "SessionStart", "Stop", "SubagentStop", "UserPromptSubmit")


def hook_settings(home: Path, names: Sequence[str] = HOOKS) -> Path:
    """Settings by which each hook appends its payload to ``hooked`` in *home*, one at a time."""
    log = home / "hooked"
    command = f"flock {log} sh -c '{{ cat; echo; }} >> {log}'"
    hooks = {name: [{"matcher": "*", "hooks": [{"type": "command", "command": command}]}] for name in names}
    path = home / "settings.json"
    path.write_text(json.dumps({"hooks": hooks}))
    return path


class ClaudeSandbox(Sandbox):
    """Claude Code with one API key and no traffic but that to its API."""

    __slots__ = ()

    def prepare(self) -> None:
        """Make the folder in which it keeps its settings and sessions."""
        (self.home / "config").mkdir(parents=True, exist_ok=True)

    def settings(self) -> dict[str, str]:
        """Its account and what it must not do."""
        return {
            "CLAUDE_CONFIG_DIR": str(self.home / "config"),
            "CLAUDE_CODE_TMPDIR": str(self.tmp),
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "sk-dummy",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "2",
            # It keeps what a server's tool gave out of the conversation when it is long, unless it is told otherwise.
            "MAX_MCP_OUTPUT_TOKENS": "2000000",
            # It refuses to skip permissions as root unless it is told that nothing of value is in reach.
            "IS_SANDBOX": "1",
        }

    def command(self, scenario: Scenario, form: str = "stream-json", options: Sequence[str] = ()) -> list[str]:
        """``-p``, all permissions, the tools of the scenarios."""
        verbose = ["--verbose"] if form == "stream-json" else []
        permissions = [] if "--permission-mode" in options else ["--dangerously-skip-permissions"]
        tools = [] if self.binary.parent.name == ".bin" else ["--tools", _TOOLS]  # versions before 2.1 do not know it
        said = [scenario.prompt] if scenario.prompt else []
        return [
            str(self.binary), "-p", *said, "--output-format", form, *verbose, *permissions, *tools, *options,
        ]  # fmt: skip
