"""A real redis-server with its files in a folder of its own, which a test may kill and start again as it was."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Self

import pytest

from tests.hub_process import PATIENCE_S, until

redis = pytest.importorskip("redis")

__all__ = ["RedisProcess", "unused_port"]


class RedisProcess:
    """A Redis that writes its append-only file; *options* are those of its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed")
        # given
        self.folder = folder
        self._options = options
        # changing
        self.port = unused_port()
        self.process: subprocess.Popen[bytes]
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
            "--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0", *self._options,
        ]  # fmt: skip
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        until(self._answers, "the start of Redis")

    def client(self) -> Any:
        """A client for what a test itself asks for; to be closed."""
        return redis.Redis(port=self.port, socket_timeout=PATIENCE_S)

    def ask(self, *command: str) -> Any:
        """The answer to one command."""
        with self.client() as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        self.process.wait(PATIENCE_S)

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "output").read_text()
        try:
            return bool(self.ask("PING"))
        except redis.RedisError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.kill()


def unused_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
