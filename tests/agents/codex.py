"""The real Codex CLI: which one, how it is run, and what it is asked to do."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.agents.install import Package
from tests.agents.sandbox import Sandbox
from tests.agents.scenarios import Failure, Scenario, Text, Thinking, Tool, turn

__all__ = ["CODEX", "SCENARIOS", "CodexSandbox", "codex_version", "server_options"]


def codex_version(version: str) -> Package:
    """The package at *version*; until 0.1xx the binaries of all platforms lay in the package itself."""
    name = "@openai/codex"
    inside = "vendor/{machine}-unknown-linux-musl"
    return Package("codex", name, version, (f"{name}-linux-{{cpu}}/{inside}/bin/codex", f"{name}/{inside}/codex/codex"))


#: Pinned: its quirks are what the tests know.
CODEX = codex_version("0.169.0")

#: A model by whose name the CLI offers apply_patch.
_MODEL = "gpt-5.5"


class CodexSandbox(Sandbox):
    """Codex with a provider on loopback, without analytics and plugins."""

    __slots__ = ()

    def prepare(self) -> None:
        """Make the folder in which it keeps its settings and sessions."""
        (self.home / ".codex").mkdir(exist_ok=True)

    def settings(self) -> dict[str, str]:
        """Its account; all else is on its command line."""
        return {"CODEX_HOME": str(self.home / ".codex"), "MOCK_API_KEY": "sk-dummy"}

    def command(self, scenario: Scenario, form: str = "json", options: Sequence[str] = ()) -> list[str]:
        """``exec --json``; the retries of a request are few, so that a failure is final soon."""
        provider = f'{{name="mock",base_url="{self.url}/v1",wire_api="responses",env_key="MOCK_API_KEY",'
        provider += "request_max_retries=1,stream_max_retries=1}"
        # Without plugins it looks up nothing at start; versions whose binary is in the package itself know none.
        quiet = [] if "codex" in self.binary.parent.parts[-1:] else ["--disable", "plugins"]
        model = [] if "-m" in options else ["-m", _MODEL]
        return [
            str(self.binary), "exec", "--json", *quiet, "--skip-git-repo-check",
            "--dangerously-bypass-approvals-and-sandbox", "-c", "analytics.enabled=false", "-c", "model_provider=mock",
            "-c", f"model_providers.mock={provider}", *model, *options, scenario.prompt,
        ]  # fmt: skip


def shell(command: str, *, ok: bool = True) -> Tool:
    """The model runs a command."""
    return Tool("shell", {"command": command}, ok)


def patch_of(*hunks: str) -> Tool:
    """The model edits files; *hunks* are parts of a patch in the CLI's own form."""
    return Tool("apply_patch", {"patch": "\n".join(["*** Begin Patch", *hunks, "*** End Patch", ""])})


def plan(*items: tuple[str, str]) -> Tool:
    """The model writes down its plan: (step, status)."""
    return Tool("update_plan", {"plan": [{"step": step, "status": status} for step, status in items]})


def hello(_workspace: Path) -> Scenario:
    """One short answer, no tools."""
    return Scenario(prompt="Say hello", main=(turn(Text("Hello from the mock model. One short answer.")),))


def tools(_workspace: Path) -> Scenario:
    """A command, a file that is made and edited, a command that fails, a last word."""
    return Scenario(
        prompt="Keep notes of this project",
        files={"README.md": "# shop\n\nA small shopping cart.\n"},
        main=(
            turn(
                Thinking("**Looking around**\n\nThe README comes first."),
                Text("I'll look at the project first."),
                shell("cat README.md"),
            ),
            turn(Text("Creating notes."), patch_of("*** Add File: notes.txt", "+alpha", "+beta", "+gamma")),
            turn(patch_of("*** Update File: notes.txt", "@@", " alpha", "-beta", "+BETA", " gamma")),
            turn(Text("One more look."), shell("cat missing.txt; exit 3", ok=False)),
            turn(Text("All done. The notes are written; one file was missing.")),
        ),
    )


def planned(_workspace: Path) -> Scenario:
    """A plan that moves while a command is run; only older versions offer it."""
    return Scenario(
        prompt="Work by a plan",
        main=(
            turn(plan(("Read", "completed"), ("Run", "in_progress"), ("Report", "pending"))),
            turn(shell("echo working")),
            turn(plan(("Read", "completed"), ("Run", "completed"), ("Report", "completed"))),
            turn(Text("Worked by the plan.")),
        ),
    )


def parallel(_workspace: Path) -> Scenario:
    """Three commands in one answer."""
    return Scenario(
        prompt="Run three commands at once",
        main=(
            turn(
                Text("Three things at once."),
                shell("sleep 0.6; echo first"),
                shell("echo second"),
                shell("sleep 0.3; echo third"),
            ),
            turn(Text("All three are done.")),
        ),
    )


def slow(workspace: Path) -> Scenario:
    """A command that runs for minutes, longer than any test waits; it says on disk when it has begun."""
    begun = workspace / "tool.begun"
    return Scenario(
        prompt="Run the long job",
        main=(
            turn(Text("Starting a long job."), shell(f"touch {begun}; sleep 300; echo over")),
            turn(Text("The long job is over.")),
        ),
    )


def big(_workspace: Path) -> Scenario:
    """A command that prints 3 MB."""
    return Scenario(
        prompt="Print 3 MB",
        main=(turn(shell("head -c 3000000 /dev/zero | tr '\\0' z | fold -w 99")), turn(Text("Printed."))),
    )


def served(_workspace: Path) -> Scenario:
    """A tool of an MCP server, which answers once and fails once."""
    return Scenario(
        prompt="Ask the server",
        main=(
            turn(Text("Asking the server."), Tool("echo", {"text": "hi from the model"})),
            turn(Tool("fail", {"text": "x"}, ok=False)),
            turn(Text("The server was asked.")),
        ),
    )


def overloaded(_workspace: Path) -> Scenario:
    """The API fails twice, then answers: the CLI asks again in silence once, then says that it does."""
    answer = turn(Text("Recovered."), failure=Failure(500, times=2))
    return Scenario(prompt="Say something", main=(answer,))


def unavailable(_workspace: Path) -> Scenario:
    """The API never answers: the run fails."""
    return Scenario(prompt="Say something", main=(turn(Text("never said"), failure=Failure(500, times=1000)),))


#: What the model can be asked to do.
SCENARIOS: dict[str, Callable[[Path], Scenario]] = {
    "big": big,
    "hello": hello,
    "overloaded": overloaded,
    "parallel": parallel,
    "planned": planned,
    "served": served,
    "slow": slow,
    "tools": tools,
    "unavailable": unavailable,
}


def server_options() -> list[str]:
    """The options by which the CLI starts the server of ``mcp_server.py``; a model that it does not know is offered
    the server's tools one by one.
    """
    server = Path(__file__).with_name("mcp_server.py")
    told = f'{{command="{sys.executable}",args=["{server}"]}}'
    return ["-m", "mock-model", "-c", f"mcp_servers.demo={told}"]
