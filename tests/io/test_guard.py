"""``run`` ended by SIGKILL, either of its two processes: the other ends what the agent has started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

PATIENCE_S = 40.0

#: Ignores SIGTERM, and has a helper in a session of its own that holds nothing of ours.
STUBBORN = """
trap "" TERM
setsid sh -c 'echo $$ > "$0/helper.new"; mv "$0/helper.new" "$0/helper"; exec sleep 600' "$1" >/dev/null 2>&1 &
echo $$ > "$1/agent.new"; mv "$1/agent.new" "$1/agent"
while :; do sleep 0.2; done
"""


def until(claim: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def worker_of(guardian: int) -> int:
    return int(Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split()[0])


@pytest.mark.parametrize("killed", ["guardian", "worker"])
def test_nothing_is_left_when_either_is_killed(killed: str, tmp_path: Path, environment: Mapping[str, str]) -> None:
    command = ["agentpipe", "run", "--grace", "500ms", "--", "sh", "-c", STUBBORN, "agent", str(tmp_path)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: (tmp_path / "helper").exists() and (tmp_path / "agent").exists())
        worker = worker_of(process.pid)
        pids = [int((tmp_path / name).read_text()) for name in ("helper", "agent")]
        assert all(map(alive, pids))
        os.kill(process.pid if killed == "guardian" else worker, signal.SIGKILL)
        assert process.wait(PATIENCE_S) in (-signal.SIGKILL, 128 + signal.SIGKILL)
        until(lambda: not any(map(alive, [*pids, worker])))
    finally:
        process.kill()
        process.wait()


def test_the_guardian_ends_as_the_worker_ends(environment: Mapping[str, str]) -> None:
    def status(*words: str) -> int:
        run = ["agentpipe", "run", "--", *words]
        return subprocess.run(run, env=environment, capture_output=True, timeout=PATIENCE_S, check=False).returncode

    assert status("sh", "-c", "exit 7") == 7
    assert status("sh", "-c", "kill -TERM $$") in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path, environment: Mapping[str, str]) -> None:
    """As under ``nohup``: neither the guardian nor the worker nor the agent hears it."""
    heard = tmp_path / "ready"
    agent = f"import pathlib, time; pathlib.Path({str(heard)!r}).touch(); time.sleep(1.5)"
    command = ["agentpipe", "run", "--", sys.executable, "-c", agent]
    shell = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    process = subprocess.Popen(shell, env=environment, stdout=subprocess.DEVNULL)
    until(heard.exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
