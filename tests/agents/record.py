"""Makes the recorded samples of ``docs/samples`` again: the scenario ``tour``, played by the real CLI at its own pace.

The rule this module keeps: what is recorded is what was printed, but for names of the machine (`tests.agents.scrub`).

    python -m tests.agents.record
"""

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.agents.claude import CLAUDE, ClaudeSandbox
from tests.agents.install import install
from tests.agents.mock_anthropic import MockAnthropic
from tests.agents.scenarios import SCENARIOS
from tests.agents.scrub import names_of, scrub

__all__ = ["main"]

_ROOT = Path(__file__).parents[2]
_SAMPLES = _ROOT / "docs" / "samples"
_AGENTPIPE = Path(sys.executable).parent / "agentpipe"

#: Each sample: its name, the CLI's output format and further options, and the command that it is piped through.
_LIVE = ["--include-partial-messages", "--forward-subagent-text"]
_RUN = [str(_AGENTPIPE), "run", "--run-id", "tour", "--"]
_RECORDINGS: list[tuple[str, str, list[str], list[str]]] = [
    ("tour.ndjson", "stream-json", _LIVE, _RUN),
    ("tour.stream.jsonl", "stream-json", [], []),
    ("tour.json", "json", [], []),
]


def main() -> None:
    """Record every sample; they play at the same time, each with a workspace and an API of its own."""
    binary = install(_ROOT / ".make" / "agents", CLAUDE)
    _SAMPLES.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        for written in pool.map(lambda row: _record(binary, *row), _RECORDINGS):
            print(written, written.stat().st_size, "bytes")


def _record(binary: Path, name: str, form: str, options: list[str], through: list[str]) -> Path:
    scratch = Path(tempfile.mkdtemp(prefix="agentpipe-record-"))
    workspace = scratch / "shop"
    workspace.mkdir()
    scenario = SCENARIOS["tour"](workspace)
    scenario.prepare(workspace)
    with MockAnthropic(scenario, pace=1.0) as mock:
        sandbox = ClaudeSandbox(binary, scratch / "home", workspace, mock.url, scratch / "tmp")
        command = [*through, *sandbox.command(scenario, form, options)]
        output = subprocess.run(
            command,
            cwd=workspace,
            env=sandbox.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    shutil.rmtree(scratch)
    target = _SAMPLES / name
    target.write_text(scrub(output.decode(), names_of(sandbox, "claude")))
    return target


if __name__ == "__main__":
    main()
