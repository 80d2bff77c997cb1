"""A real `agentpipe serve` in a process of its own, and clients that keep to the protocol."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import websocket

from agentpipe import wire
from agentpipe.event import encode
from tests.hub_process import PATIENCE_S, HubProcess, until

__all__ = ["PATIENCE_S", "Client", "Hub", "event", "sequences", "until"]


def event(number: int | None, run: str = "r", type_: str = "agent_output", size: int = 0, **more: Any) -> bytes:
    head: dict[str, Any] = {"type": type_, "run_id": run, "agent_id": f"agent-{run}"}
    if number is not None:
        head |= {"sequence": number, "event_id": f"{run}:{number}"}
    return encode({**head, "timestamp": "2026-11-20T07:00:00.000Z", "payload": {"text": "x" * size}, **more})


def sequences(lines: list[bytes]) -> list[int]:
    return [json.loads(line)["sequence"] for line in lines]


class Hub(HubProcess):
    """A hub that runs from the start; its store is in memory unless it is named."""

    def __init__(self, folder: Path, *options: str, store: str = "memory", stdin: int = subprocess.DEVNULL) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTPIPE_", "XDG_"))}
        super().__init__(folder, {**kept, "HOME": str(folder)}, *options, store=store, stdin=stdin)
        self.start()


class Client:
    """A WebSocket client. Its subscriptions check `prev` against their own position and collect the lines."""

    def __init__(self, hub: Hub, *, token: str | None = "", path: str = "ws", **options: Any) -> None:
        header = [] if token is None else [f"Authorization: Bearer {token or hub.token}"]
        self.socket = websocket.create_connection(
            hub.url.replace("http", "ws") + path, header=header + options.pop("header", []), timeout=PATIENCE_S,
            subprotocols=[wire.PROTOCOL], suppress_origin=True, skip_utf8_validation=True, **options,
        )  # fmt: skip
        self.lines: list[bytes] = []
        self.position: int | None = None
        self.epoch = ""
        self.gaps: list[tuple[int | None, int | None, str | None]] = []
        self.settled = 0
        self.others: list[wire.HubMessage] = []

    def send(self, *messages: Any) -> None:
        for message in messages:
            text = message if isinstance(message, bytes) else json.dumps(message).encode()
            self.socket.send(text)

    def send_quickly(self, message: bytes) -> None:
        """One text frame with a key of zeros: masking in pure Python would take most of a test's time."""
        size = len(message)
        if size < 126:
            length = bytes([0x80 | size])
        else:
            length = b"\xfe" + size.to_bytes(2, "big") if size < 1 << 16 else b"\xff" + size.to_bytes(8, "big")
        self.socket.sock.sendall(b"\x81" + length + b"\0\0\0\0" + message)

    def receive(self) -> wire.HubMessage:
        """The next message of any kind."""
        text = self.socket.recv()
        assert text, "the connection was closed"
        return wire.parse_hub_message(text)

    def next(self, *types: str) -> wire.HubMessage:
        """The next message of these types; what comes before it is taken note of."""
        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            message = self.receive()
            self.note(message)
            if message.type in types:
                return message
        raise AssertionError(f"no {types} came, but {self.others[-5:]}")

    def note(self, message: wire.HubMessage) -> None:
        if message.type == "events":
            assert message.prev == self.position
            self.position = message.pos
            self.lines += message.lines
        elif message.type == "gap":
            self.gaps.append((message.first, message.last, message.reason))
            self.position = message.last
        elif message.type == "subscription_confirmed":
            assert message.position is not None
            self.position, self.epoch = message.position.offset, message.position.epoch
        elif message.type == "ack":
            self.settled = message.count or 0
        else:
            self.others.append(message)

    def subscribe(self, own_id: Any = 1, **more: Any) -> wire.HubMessage:
        self.send({"type": "subscribe", "id": own_id, **more})
        return self.next("subscription_confirmed")

    def read(self, count: int) -> list[bytes]:
        """Read on until *count* lines came in all."""
        while len(self.lines) < count:
            self.next("events")
        return self.lines

    def publish(self, *lines: bytes, wait: bool = True) -> None:
        before = self.settled
        self.send_quickly(b'{"type":"publish","events":[%b]}' % b",".join(lines))
        while wait and self.settled < before + len(lines):
            self.next("ack")

    def closed_with(self) -> int:
        """Read to the end; the close code."""
        while True:
            opcode, data = self.socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big")
            self.note(wire.parse_hub_message(data))

    def close(self) -> None:
        self.socket.close()
        self.socket.shutdown()  # close() leaves the socket open after the other side closed first
