"""Running until something ends a session in the middle, and what is left then."""

import subprocess
from pathlib import Path

from agentpipe.event import TERMINAL_TYPES, Event
from tests.agents.session import PARSE, PATIENCE_S, Session, events, wait_until

__all__ = ["agent_process", "begun", "ended", "saved", "status", "told"]


def begun(session: Session, shown: bytes, *options: str) -> subprocess.Popen[bytes]:
    """The scenario ``slow``, its tool running (maybe in a session of its own), and what shows the call printed."""
    tee = session.sandbox.home / "tee"
    process = session.start(session.run("--tee", str(tee), *options))
    begins = session.workspace / "tool.begun"

    def has_begun() -> bool:
        return begins.exists() and shown in tee.read_bytes()

    wait_until(lambda: has_begun() or process.poll() is not None, "the tool runs")
    assert has_begun(), session.stderr_path.read_text()
    sleeping = [line for line in session.descendants().values() if "sleep 300" in line]
    assert sleeping, "the tool carries the mark by which descendants are found"
    return process


def ended(session: Session, process: subprocess.Popen[bytes]) -> tuple[int, Event]:
    """The status of ``run`` and its ``process_exited``, once it has ended and no process is left."""
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert session.descendants() == {}
    saved(session).write_bytes(output)
    return status(process.returncode), events(output)[-1]


def saved(session: Session) -> Path:
    """Where `ended` keeps what ``run`` printed."""
    return session.sandbox.home / "run.ndjson"


def told(session: Session) -> list[Event]:
    """The run as ``parse`` tells it; it begins once and ends once."""
    found = events(session.pipe(["cat", str(saved(session))], PARSE).output)
    assert [event.type for event in found].count("run_started") == 1
    assert [event.type for event in found if event.type in TERMINAL_TYPES] == [found[-1].type]
    return found


def status(returncode: int) -> int:
    """As a shell says it: 128 + n for a process that ended by signal n."""
    return 128 - returncode if returncode < 0 else returncode


def agent_process(session: Session) -> int:
    """The CLI itself, the child of ``run``: a program of its own, or one that node runs."""
    program = str(session.sandbox.binary)
    found = [number for number, line in session.descendants().items() if program in line.split()[:2]]
    assert found, session.descendants()
    return min(found)
