"""A real hub process for the benchmarks, and a raw WebSocket client that costs as little as possible."""

import base64
import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import AGENTPIPE

TOKEN = "bench-token"


class Hub:
    """Where a running hub listens, and its process id."""

    def __init__(self, port: int, pid: int, token_file: Path) -> None:
        self.port, self.pid, self.token_file = port, pid, token_file
        self.url = f"ws://127.0.0.1:{port}/ws"

    def resident_bytes(self) -> int:
        """Resident memory of the process."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """User and system time of the process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(store: str = "memory", *options: str) -> Iterator[Hub]:
    """Start ``agentpipe serve`` on a free port and stop it afterwards; *store* ``file`` means a new SQLite file."""
    with tempfile.TemporaryDirectory() as folder:
        token, ready = Path(folder, "token"), Path(folder, "ready")
        token.write_text(TOKEN)
        where = str(Path(folder, "hub.db")) if store == "file" else store
        command = [AGENTPIPE, "serve", "--port", "0", "--store", where, "--token-file", str(token)]
        with subprocess.Popen(
            [*command, "--ready-file", str(ready), *options], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield Hub(_port(ready, process), process.pid, token)
            finally:
                process.terminate()
                process.wait(20)


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """A Redis of its own, as ``docs/operating.md`` wants it: it writes its file before it answers. Gives its URL."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        told = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--loglevel", "warning"]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
        with subprocess.Popen(["redis-server", *told, *durable], stdout=subprocess.DEVNULL) as process:
            try:
                _until_listening(port)
                yield f"redis://127.0.0.1:{port}/0"
            finally:
                process.terminate()
                process.wait(20)


def _until_listening(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _port(ready: Path, process: "subprocess.Popen[bytes]") -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        if ready.exists() and (text := ready.read_text().strip()):
            return int(text.split("#")[0].rstrip("/").rsplit(":", 1)[-1].split("/")[0])
        time.sleep(0.01)
    raise RuntimeError("the hub did not start")


def connect(
    port: int, path: str = "/ws", token: str | None = TOKEN, *, receive_bytes: int | None = None
) -> socket.socket:
    """Upgrade a plain socket to a WebSocket; what comes after the handshake is left to the caller. *receive_bytes* is
    what the kernel keeps for it unread.
    """
    link = socket.socket()
    if receive_bytes is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    link.connect(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    link.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{bearer}\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = link.recv(1)
        if not piece:
            raise RuntimeError("the server closed during the handshake")
        head += piece
    if b" 101 " not in head.split(b"\r\n", 1)[0]:
        raise RuntimeError(head.decode())
    return link


def frame(text: bytes) -> bytes:
    """A masked text frame, with an all-zero mask so that building it costs nothing here."""
    size = len(text)
    if size < 126:
        head = bytes([0x81, 0x80 | size])
    elif size < 65536:
        head = b"\x81\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\x81\xff" + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + text


def subscribe(link: socket.socket, since: object = "live") -> None:
    """Ask for everything from *since* on."""
    link.sendall(frame(json.dumps({"type": "subscribe", "id": 1, "since": since}).encode()))


def publish_message(lines: list[bytes]) -> bytes:
    """The text of a ``publish`` message."""
    return b'{"type":"publish","events":[' + b",".join(lines) + b"]}"


def free_port() -> int:
    """A port that was free a moment ago, for peers that cannot choose one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connect_when_up(port: int, path: str) -> socket.socket:
    """Connect to a peer without a token as soon as it listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return connect(port, path, None)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
