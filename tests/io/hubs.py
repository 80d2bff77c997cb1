"""A real hub as a process of its own, which a test may kill and start again on the same store and port."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from agentpipe.io.sqlite.reader import SqliteReader
from tests.hub_process import PATIENCE_S, HubProcess
from tests.hub_process import until as eventually

__all__ = ["PATIENCE_S", "RealHub", "events", "eventually"]


def events(first: int, last: int, run: str = "r", kind: str = "agent_output", text: str = "x") -> bytes:
    """Numbered events, one a line."""
    return b"".join(
        b'{"type":"%s","run_id":"%s","agent_id":"a","sequence":%d,"timestamp":"2026-11-20T07:00:00.000Z",'
        b'"event_id":"%s:%d","payload":{"text":"%s"}}\n'
        % (kind.encode(), run.encode(), n, run.encode(), n, text.encode())
        for n in range(first, last + 1)
    )


class RealHub(HubProcess):
    """A hub on a store in *folder* whose token every command of *environment* finds by itself."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *options: str) -> None:
        super().__init__(folder, environment, *options, own_token=False)
        self.start()

    def start(self) -> None:
        super().start()
        self.url = f"ws://127.0.0.1:{self.port}"

    def stop(self, number: int = signal.SIGKILL) -> int:
        return super().stop(number)

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def proceed(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stored(self) -> list[bytes]:
        """Stop the hub; the lines in its store, in order, read without it."""
        self.stop(signal.SIGTERM)
        reader = SqliteReader(self.store)
        try:
            lines: list[bytes] = []
            while (page := reader.since(len(lines), 10_000, 1 << 30)).lines:
                lines += page.lines
            return lines
        finally:
            reader.close()

    def told(self) -> list[bytes]:
        """The lines that the running hub tells a subscriber, in order."""
        command = ["agentpipe", "subscribe", "--no-follow", self.url]
        return subprocess.run(
            command, env=self._environment, check=True, stdout=subprocess.PIPE, timeout=PATIENCE_S
        ).stdout.splitlines()
