"""Makes the recorded samples of ``docs/samples`` again: the scenario ``tour``, played by the real CLI at its own pace.

The rule this module keeps: what is recorded is what was printed; only names of this machine (paths, its user and host)
are replaced, by names of a made-up one, in whole strings and never by taking a line apart.

    python -m tests.agents.record
"""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.agents.claude import CLAUDE, ClaudeSandbox
from tests.agents.install import install
from tests.agents.mock_anthropic import MockAnthropic
from tests.agents.scenarios import SCENARIOS

__all__ = ["main", "scrub"]

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
    target.write_text(scrub(output.decode(), _names(sandbox)))
    return target


def scrub(text: str, names: dict[str, str]) -> str:
    """*text* with every one of *names* replaced, longest first. Raises ValueError when a trace of the machine is left.

    The CLI also writes paths with everything but letters and digits turned into dashes.
    """
    dashed = {
        re.sub(r"[^A-Za-z0-9]", "-", found): re.sub(r"[^A-Za-z0-9]", "-", made_up) for found, made_up in names.items()
    }
    for found, made_up in sorted((names | dashed).items(), key=lambda pair: -len(pair[0])):
        text = text.replace(found, made_up)
    for forbidden in ("sk-dummy", "127.0.0.1", tempfile.gettempdir() + "/", str(_ROOT), str(Path.home()) + "/"):
        at = text.find(forbidden)
        if at >= 0:
            raise ValueError(f"{forbidden} is left in the recording: {text[max(0, at - 60) : at + 60]}")
    if re.search(rf"\b{re.escape(socket.gethostname())}\b", text):
        raise ValueError("the name of the host is left in the recording")
    return text


def _names(sandbox: ClaudeSandbox) -> dict[str, str]:
    """What is this machine's in a recording, and what stands there instead."""
    return {
        str(sandbox.binary): "claude",
        str(sandbox.workspace): "/home/dev/shop",
        str(sandbox.home / "config"): "/home/dev/.claude",
        str(sandbox.tmp): "/home/dev/.cache",
        str(sandbox.home): "/home/dev",
    }


if __name__ == "__main__":
    main()
