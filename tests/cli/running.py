"""What the tests of ``agentpipe run`` share: runs in the background, events checked, processes looked at."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_S = 30.0  # for what must come about on a busy machine

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Start = Callable[..., "subprocess.Popen[bytes]"]


@contextmanager
def background(environment: Mapping[str, str]) -> Iterator[Start]:
    """Start ``agentpipe run ARGS…`` without waiting; what a failed test leaves is killed by its pid."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: str, **more: Any) -> "subprocess.Popen[bytes]":
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        started.append(subprocess.Popen(["agentpipe", "run", *args], env=environment, **more))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def events_of(output: bytes) -> list[dict[str, Any]]:
    """The events of a whole run, after checking what holds for every one of them."""
    events = [json.loads(line) for line in output.splitlines()]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["run_id"] for event in events}) == 1
    assert events[0]["type"] == "process_started"
    assert events[-1]["type"] == "process_exited"
    assert {event["type"] for event in events[1:-1]} <= {"process_output", "error", "gap"}
    return events


def texts(events: list[dict[str, Any]], stream: str = "stdout") -> list[Any]:
    """What the lines of *stream* said."""
    found = [event["payload"] for event in events if event["type"] == "process_output"]
    return [payload.get("text", payload.get("data")) for payload in found if payload["stream"] == stream]


def until(condition: Callable[[], Any]) -> Any:
    """Wait for *condition* to hold and return what it said."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)
    return found


def number_in(path: Path) -> Callable[[], int]:
    """What a stand-in wrote to *path*, once it has."""
    return lambda: int(path.read_text() or 0) if path.exists() else 0


def state(pid: int) -> str:
    """The state of a process as ps shows it; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def alive(pid: int) -> bool:
    """Whether the process is there and not merely unburied."""
    return state(pid) not in ("", "Z", "X")


def children_of(pid: int) -> list[int]:
    """The pids of the children of *pid*, zombies too."""
    return [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def peak_kib(pid: int) -> int:
    """The most memory that the guardian *pid* and its worker have ever held, the larger of the two."""
    worker = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert worker, "the worker is what holds anything"
    return max(map(_peak_kib, [pid, *map(int, worker)]))


def _peak_kib(pid: int) -> int:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def python(code: str) -> list[str]:
    """A stand-in for an agent."""
    return [sys.executable, "-c", code]
