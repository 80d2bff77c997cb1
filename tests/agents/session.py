"""One session of the real CLI for a test: scenario, mocked API, sandbox, and the pipes that it is run through.

The rule this module keeps: the parts are real: real processes joined by real pipes, an environment of their own, and
a mark in it by which every descendant is found, in whatever process group or session it went to live.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agentpipe.event import Event, peek
from tests.agents.mock_model import MockModel
from tests.agents.sandbox import Sandbox
from tests.agents.scenarios import Scenario

__all__ = ["AGENTPIPE", "PARSE", "Done", "Session", "events", "wait_until"]

AGENTPIPE = str(Path(sys.executable).parent / "agentpipe")
PARSE = [AGENTPIPE, "parse"]

#: Far more than anything here takes, so that a busy machine decides nothing.
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Done:
    """What a pipe left: the last command's *output*, the *statuses* in order, and everything said on stderr."""

    output: bytes
    statuses: list[int]
    stderr: str


@dataclass(slots=True)
class Session:
    """A scenario about to be played. ``mark`` is in the environment of every process of the session."""

    scenario: Scenario
    sandbox: Sandbox
    mock: MockModel
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def workspace(self) -> Path:
        """Where the agent works."""
        return self.sandbox.workspace

    def run(self, *options: str, agent: Sequence[str] = ()) -> list[str]:
        """The command line ``agentpipe run OPTIONS -- AGENT …``."""
        return [AGENTPIPE, "run", *options, "--", *self.sandbox.command(self.scenario, options=agent)]

    def start(
        self, command: Sequence[str], *, stdin: int | None = None, stdout: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """Start one process of the session, its stderr in a file of the home folder."""
        environment = self.sandbox.environment(AGENTPIPE_TEST_MARK=self.mark)
        with self.stderr_path.open("ab") as stderr:
            process = subprocess.Popen(
                list(command),
                cwd=self.workspace,
                env=environment,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=stdout,
                stderr=stderr,
            )
        self._started.append(process)
        return process

    @property
    def stderr_path(self) -> Path:
        """Where the processes' complaints are collected."""
        return self.sandbox.home / "stderr"

    def chain(self, *commands: Sequence[str]) -> list[subprocess.Popen[bytes]]:
        """Start *commands* as a pipe; the last one's output is ours to read."""
        processes: list[subprocess.Popen[bytes]] = []
        for command in commands:
            source = processes[-1].stdout if processes else None
            processes.append(self.start(command, stdin=source.fileno() if source else None))
            if source:
                source.close()  # ours; the process that reads it has its own
        return processes

    def pipe(self, *commands: Sequence[str]) -> Done:
        """Run *commands* as a pipe to its end."""
        processes = self.chain(*commands)
        output, _ = processes[-1].communicate(timeout=PATIENCE_S)
        statuses = [process.wait(PATIENCE_S) for process in processes]
        return Done(output, statuses, self.stderr_path.read_text())

    def descendants(self) -> dict[int, str]:
        """Every living process of this session, wherever it went: process id and command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                try:
                    if self.mark.encode() in (entry / "environ").read_bytes():
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue  # it ended while we looked
        return found

    def close(self) -> None:
        """End what a failed test left behind."""
        for process_id in self.descendants():
            try:
                os.kill(process_id, 9)
            except ProcessLookupError:
                pass  # it ended by itself
        for process in self._started:
            process.wait(PATIENCE_S)
            if process.stdout is not None:
                process.stdout.close()


def events(output: bytes) -> list[Event]:
    """The events of a pipe's output."""
    return [peek(line) for line in output.split(b"\n") if line]


def wait_until(claim: Callable[[], object], what: str) -> None:
    """Wait until *claim* holds; fails, naming *what*, when that takes longer than anything here should."""
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline, f"still waiting until {what}"
        time.sleep(0.02)
