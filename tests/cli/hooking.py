"""What the tests of ``agentpipe hook`` share: hooks run as an agent runs them, their spools, their senders."""

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.hub_process import PATIENCE_S, until

SESSION = "4b786e32-f6c7-43a9-b580-ffa747525b83"

#: No hub listens there: the port of TCP "discard".
NOWHERE = "ws://127.0.0.1:9"


def payload(event: str, session: str = SESSION, **more: Any) -> bytes:
    """What Claude Code writes to a hook command."""
    return json.dumps(
        {"session_id": session, "cwd": "/w", "hook_event_name": event, **more}, separators=(",", ":")
    ).encode()


def call(number: int, session: str = SESSION) -> bytes:
    return payload(
        "PreToolUse", session, tool_name="Bash", tool_input={"command": f"echo {number}"}, tool_use_id=f"t{number}"
    )


def result(number: int, session: str = SESSION) -> bytes:
    given = {"tool_name": "Bash", "tool_input": {"command": f"echo {number}"}, "tool_use_id": f"t{number}"}
    return payload("PostToolUse", session, **given, tool_response={"stdout": str(number), "stderr": ""})


class Hooks:
    """Hooks of one account, whose environment is *environment*, with *url* as their hub."""

    def __init__(self, environment: Mapping[str, str], url: str = NOWHERE, *, linger: str = "60s") -> None:
        self.environment = {**environment, "AGENTPIPE_HOOK_LINGER": linger}
        self.url = url
        self.folder = Path(environment["HOME"], ".local", "state", "agentpipe", "hooks")

    def start(self, *options: str, **more: Any) -> "subprocess.Popen[bytes]":
        more = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(["agentpipe", "hook", "--url", self.url, *options], env=self.environment, **more)

    def run(self, data: bytes, *options: str, **more: Any) -> None:
        """One hook, waited for as an agent does: until all that it may have written is read. It is harmless."""
        process = self.start(*options, **more)
        out, err = process.communicate(data, timeout=PATIENCE_S)
        assert (process.returncode, out or b"", err or b"") == (0, b"", b"")

    def keep(self, data: bytes, *options: str, session: str = SESSION, **more: Any) -> None:
        """As `run`, and wait until it is kept: on a busy machine that may happen when the agent does not wait any more.
        What comes next is behind it.
        """
        self.run(data, *options, **more)
        until(lambda: self.spool(session).exists() and data[1:] in self.spool(session).read_bytes(), "the line")

    def spool(self, session: str = SESSION) -> Path:
        return self.folder / f"{session}.ndjson"

    def kept(self, session: str = SESSION) -> list[dict[str, Any]]:
        """The lines of the spool behind its header."""
        return [json.loads(line) for line in self.spool(session).read_bytes().splitlines()[1:] if line]

    def sender(self, session: str = SESSION) -> int | None:
        """The process id of the sender that is alive, or None."""
        lock = self.folder / f"{session}.lock"
        if not lock.exists():
            return None
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
        return None

    def gone(self, session: str = SESSION) -> bool:
        """Whether nobody holds the sender's lock."""
        with (self.folder / f"{session}.lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def close(self) -> None:
        """End the senders that are left."""
        for lock in self.folder.glob("*.lock") if self.folder.exists() else ():
            while not self.gone(lock.stem):
                process_id = until(lambda stem=lock.stem: self.sender(stem) or self.gone(stem), "the sender's id")
                if process_id is not True:
                    _kill(process_id)
                    until(lambda stem=lock.stem: self.gone(stem), "the sender's end")


def _kill(process_id: int) -> None:
    try:
        os.kill(process_id, signal.SIGKILL)
    except ProcessLookupError:
        return


@contextmanager
def hooking(environment: Mapping[str, str], url: str = NOWHERE, **more: Any) -> Iterator[Hooks]:
    """`Hooks` whose senders end with the context."""
    hooks = Hooks(environment, url, **more)
    try:
        yield hooks
    finally:
        hooks.close()
