"""The real Claude Code CLI: which one, and how it is run."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.agents.install import Package
from tests.agents.sandbox import Sandbox
from tests.agents.scenarios import Scenario

__all__ = ["CLAUDE", "SERVER_OPTIONS", "ClaudeSandbox", "claude_version"]

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
        said = [scenario.prompt] if scenario.prompt else []
        return [
            str(self.binary), "-p", *said, "--output-format", form, *verbose, *permissions, "--tools", _TOOLS, *options,
        ]  # fmt: skip
