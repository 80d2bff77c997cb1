"""The pipeline that is broken: ``run -- AGENT | parse | buffer --spill | publish``, four processes and three pipes.

The rule this module keeps: **the agent's log decides everything.** The agent prints the same marked lines whenever it
is started, with pauses, so a pipeline that fell down is started again for the same run and gives the same numbers. It
gets a new spill file each time: what an old one still holds is what the new agent prints again, and sent first it
leaves a hole for what died in the pipes (tests/faults/test_leftovers.py).
"""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.faults.lab.journal import mark

__all__ = ["Agent", "Pipeline"]

#: How long the rest of a pipe may take to fall down or to end.
PATIENCE_S = 60.0

STAGES = ("run", "parse", "buffer", "publish")

#: Prints its pieces one after the other, with a pause between them.
_SCRIPT = 'for piece in "$1"/*; do cat "$piece"; sleep "$2"; done'


class Agent:
    """A log in the format of Claude Code with *count* marked lines, in *pieces* files of *folder*.

    It tells no session and no model: an agent that is silent for its first second, which any is on a busy machine, is
    told as started before it is known, and what it says of itself later would take a number more.
    """

    def __init__(self, folder: Path, run: str, count: int, *, pieces: int, pause_s: float) -> None:
        folder.mkdir(parents=True)
        lines = [_marked(run, number) for number in range(1, count + 1)]
        lines.append(_line(type="result", subtype="success", is_error=False, num_turns=1, result="ok"))
        size = -(-len(lines) // pieces)
        for place in range(0, len(lines), size):
            (folder / f"{place:06}").write_text("".join(lines[place : place + size]))
        self.run, self.count = run, count
        self.command = ["sh", "-c", _SCRIPT, "agent", str(folder), str(pause_s)]


def _line(**fields: object) -> str:
    return json.dumps(fields) + "\n"


def _marked(run: str, number: int) -> str:
    """Line *number*: a text, or a call of a tool and then its result."""
    text = mark(run, number)
    call = f"t{number - 2 if number % 3 == 0 else number}"
    kinds = {
        0: ("user", {"type": "tool_result", "tool_use_id": f"t{number - 1}", "content": f"{text} ok"}),
        1: ("assistant", {"type": "text", "text": f"{text} some words of the agent about what it does next"}),
        2: ("assistant", {"type": "tool_use", "id": call, "name": "Bash", "input": {"command": f"true {text}"}}),
    }
    role, part = kinds[number % 3]
    message = {"id": f"m{number}", "type": "message", "role": role, "content": [part]}
    return _line(type=role, message=message)


class Pipeline:
    """One run of *agent* to *urls*. ``starts`` counts how often it was started; notes of all stages go to *folder*."""

    def __init__(
        self,
        agent: Agent,
        folder: Path,
        environment: Mapping[str, str],
        token_file: Path,
        urls: Sequence[str],
        *,
        outbox: Path | None = None,
    ) -> None:
        # given
        self.agent = agent
        self._folder = folder
        self._environment = environment
        publish = ["publish", "--token-file", str(token_file)]
        if outbox is not None:
            publish += ["--outbox", str(outbox)]
        self._publish = [*publish, *urls]
        # changing
        self.starts = 0
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start the four stages; the last one has to have ended."""
        assert self.ended, "it runs"
        self.starts += 1
        run = ["run", "--run-id", self.agent.run, "--agent", "lab", "--", *self.agent.command]
        spill = self._folder / f"{self.agent.run}-{self.starts}.spill"
        stages = (run, ["parse"], ["buffer", "--memory", "64KiB", "--spill", str(spill)], self._publish)
        source: int | IO[bytes] | None = subprocess.DEVNULL
        with (self._folder / f"{self.agent.run}.stderr").open("ab") as notes:
            for name, command in zip(STAGES, stages, strict=True):
                sink = subprocess.DEVNULL if name == "publish" else subprocess.PIPE
                process = subprocess.Popen(
                    ["agentpipe", *command], env=self._environment, stdin=source, stdout=sink, stderr=notes
                )
                if source is not None and not isinstance(source, int):
                    source.close()  # the pipe is theirs alone
                self.processes[name] = process
                source = process.stdout

    @property
    def ended(self) -> bool:
        """Every stage has ended."""
        return all([process.poll() is not None for process in self.processes.values()])  # noqa: C419 - polls each of them

    @property
    def notes(self) -> str:
        """What the stages said on stderr, over all starts."""
        return (self._folder / f"{self.agent.run}.stderr").read_text()

    def pids(self, stage: str) -> list[int]:
        """The process of a stage, if it runs."""
        process = self.processes.get(stage)
        return [process.pid] if process is not None and process.poll() is None else []

    def statuses(self) -> dict[str, int | None]:
        """How each stage ended; None for one that has not."""
        return {name: process.poll() for name, process in self.processes.items()}

    def fall(self) -> None:
        """Wait until it has ended, as a pipe does when one of its stages is gone."""
        limit = time.monotonic() + PATIENCE_S
        while not self.ended:
            assert time.monotonic() < limit, f"the pipe does not end: {self.statuses()}\n{self.notes}"
            time.sleep(0.01)

    def kill(self) -> None:
        """End what still runs; for the end of a test that failed."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
