"""A real hub as a process of its own, which a test may kill and start again on the same store and port."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from agentpipe.io.sqlite_reader import SqliteReader

PATIENCE_S = 30.0  # upper bound of every wait; a quick machine waits milliseconds


def eventually(claim: Callable[[], object], what: str = "it") -> None:
    """Wait until *claim* is true; fails when it takes too long."""
    limit = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < limit, f"{what} did not happen in {PATIENCE_S:g} s"
        time.sleep(0.02)


def events(first: int, last: int, run: str = "r", kind: str = "agent_output", text: str = "x") -> bytes:
    """Numbered events, one a line."""
    return b"".join(
        b'{"type":"%s","run_id":"%s","agent_id":"a","sequence":%d,"timestamp":"2026-11-20T07:00:00.000Z",'
        b'"event_id":"%s:%d","payload":{"text":"%s"}}\n'
        % (kind.encode(), run.encode(), n, run.encode(), n, text.encode())
        for n in range(first, last + 1)
    )


class RealHub:
    """`agentpipe serve` on a store in *folder*; `url` is known once it has started."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *options: str) -> None:
        self.store = folder / "hub.db"
        self._ready = folder / "ready"
        self._environment = environment
        self._options = options
        self._errors = folder / "hub.err"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._ready.unlink(missing_ok=True)
        arguments = ["--store", str(self.store), "--port", str(self.port), "--ready-file", str(self._ready)]
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                ["agentpipe", "serve", *arguments, *self._options],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        eventually(self._is_ready, "the hub's start")
        self.port = urlsplit(self._ready.read_text().strip()).port or 0

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def proceed(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def stored(self) -> list[bytes]:
        """Stop the hub; the lines in its store, in order, read without it."""
        self.stop(signal.SIGTERM)
        reader = SqliteReader(str(self.store))
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

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._errors.read_text()
        return self._ready.exists() and self._ready.read_text().strip() != ""
