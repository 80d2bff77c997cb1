"""Makes the recordings of ``tests/agents/recordings`` again: real outputs of several versions of the real CLIs.

The rule this module keeps: what is recorded is what was printed, but for names of the machine (`tests.agents.scrub`)
and for the makers' own prompts: reminders inside of results are cut, and of session files only those lines are kept
that hold what the mock, the user and the tools said.

    python -m tests.agents.record_versions
"""

import json
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.agents.agents import AGENTS
from tests.agents.claude import HOOKS, OLD_HOOKS, claude_version, hook_settings
from tests.agents.codex import codex_version
from tests.agents.gemini import GEMINI
from tests.agents.install import Package, install
from tests.agents.opencode import OPENCODE
from tests.agents.qwen import QWEN
from tests.agents.sandbox import Sandbox
from tests.agents.scrub import names_of, scrub

__all__ = ["RECORDINGS", "TARGET", "main"]

_ROOT = Path(__file__).parents[2]
TARGET = Path(__file__).with_name("recordings")

#: What is recorded of which version.
RECORDINGS: list[tuple[Package, tuple[str, ...]]] = [
    (claude_version("2.1.328"), ("tools", "unavailable")),
    (claude_version("2.1.197"), ("tools", "unavailable")),
    (claude_version("2.0.77"), ("tools", "unavailable")),
    (claude_version("1.0.128"), ("tools", "unavailable")),
    (codex_version("0.169.0"), ("tools", "unavailable")),
    (codex_version("0.96.0"), ("tools", "planned", "unavailable")),
    (codex_version("0.55.0"), ("tools", "planned", "unavailable")),
    (GEMINI, ("tools", "refused")),
    (OPENCODE, ("tools", "overloaded")),
    (QWEN, ("tools", "refused")),
]

#: The lines of a session file of Claude Code that hold what was said and done; the rest are prompts and tools of its
#: maker's (``attachment``, ``api-request-…``) and accounts.
_SAID = frozenset({"assistant", "user", "system", "summary"})

#: What the makers tell their model inside of a tool's result.
_REMINDER = re.compile("<system-reminder>.*?</system-reminder>")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One session: the lines of its output with the seconds at which each was there, and its end."""

    lines: list[bytes]
    arrived_s: list[float]
    status: int
    took_s: float


def main() -> None:
    """Record every version, one after the other, so that their times are their own."""
    for package, names in RECORDINGS:
        folder = TARGET / f"{package.name}-{package.version}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        binary = install(_ROOT / ".make" / "agents", package)
        for name in names:
            _record(package, binary, name, folder)
            print(folder.name, name)


def _record(package: Package, binary: Path, name: str, folder: Path) -> None:
    """Play one scenario and keep what it left."""
    agent = AGENTS[package.name]
    scratch = Path(tempfile.mkdtemp(prefix="agentpipe-record-"))
    workspace, home = scratch / "shop", scratch / "home"
    workspace.mkdir()
    home.mkdir()
    scenario = agent.scenarios[name](workspace)
    scenario.prepare(workspace)
    with agent.mock(scenario) as mock:
        sandbox = agent.sandbox(binary, home, workspace, mock.url, scratch / "tmp")
        options = _hooks(package, home)
        command = sandbox.command(scenario, options=options)
        done = _play(command, sandbox)
    names = names_of(sandbox, package.name)
    kept = {"": b"".join(done.lines), **_besides(home)}
    for kind, data in kept.items():
        text = _REMINDER.sub("<system-reminder>cut</system-reminder>", data.decode())
        (folder / f"{name}{kind}.jsonl").write_text(scrub(text, names))
    told = {
        "agent": package.name,
        "version": package.version,
        "command": [scrub(word.replace(str(home / "settings.json"), "settings.json"), names) for word in command],
        "status": done.status,
        "took_s": done.took_s,
        "arrived_s": done.arrived_s,
    }
    (folder / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
    shutil.rmtree(scratch, ignore_errors=True)


def _hooks(package: Package, home: Path) -> list[str]:
    """Options that let Claude Code run hooks which write their payloads down."""
    if package.name != "claude":
        return []
    return ["--settings", str(hook_settings(home, HOOKS if package.version == "2.1.328" else OLD_HOOKS))]


def _play(command: list[str], sandbox: Sandbox) -> Recorded:
    began = time.monotonic()
    lines, arrived = [], []
    with subprocess.Popen(
        command,
        cwd=sandbox.workspace,
        env=sandbox.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            arrived.append(round(time.monotonic() - began, 3))
    return Recorded(lines, arrived, process.returncode, round(time.monotonic() - began, 3))


def _besides(home: Path) -> dict[str, bytes]:
    """What Claude Code left beside its output: session files, and payloads of hooks."""
    kept = {}
    # Version 2.0 begins sub-agents that nobody asked for, to warm them up; their files lie beside the session's.
    transcripts = [path for path in home.glob("config/projects/*/*.jsonl") if not path.name.startswith("agent-")]
    for path in transcripts:
        lines = path.read_bytes().splitlines(keepends=True)
        kept[".transcript"] = b"".join(line for line in lines if _is_said(json.loads(line)))
    hooked = home / "hooked"
    if hooked.exists() and hooked.stat().st_size:
        kept[".hooks"] = hooked.read_bytes()
    return kept


def _is_said(line: dict[str, Any]) -> bool:
    return line.get("type") in _SAID and line.get("isMeta") is not True


if __name__ == "__main__":
    main()
