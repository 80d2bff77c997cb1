"""A WebSocket client of the hub that is nothing but a socket: for who has to see each message and to cost little.

The rule this module keeps: it hides nothing. It never comes back, drops nothing and checks nothing; the one who holds
it decides. It answers pings, because a client has to.
"""

import base64
import json
import os
import socket
from typing import Any

import msgspec

__all__ = ["Decoder", "HubMessage", "connected", "handshake", "masked", "read_message", "subscribe_frame"]


class HubMessage(msgspec.Struct, rename={"first": "from", "last": "to"}):
    """A message of the hub, as docs/protocol.md names its fields; read by a decoder that is not the product's."""

    type: str
    prev: int = 0
    pos: int = 0
    events: list[msgspec.Raw] = []
    position: dict[str, Any] = {}
    recovered: bool = False
    epoch: str = ""
    head: int = 0
    first: int = 0
    last: int = 0
    count: int | None = None
    reason: str = ""
    code: int | str = ""


class _Type(msgspec.Struct):
    type: str


_MESSAGE = msgspec.json.Decoder(HubMessage)
_TYPE = msgspec.json.Decoder(_Type)
_READ = frozenset({"welcome", "subscription_confirmed", "events", "gap", "heartbeat", "bye", "error"})


def read_message(text: bytes) -> HubMessage:
    """Understand a message; of those nobody here reads, only the type."""
    kind = _TYPE.decode(text).type
    return _MESSAGE.decode(text) if kind in _READ else HubMessage(kind)


def handshake(port: int, token: str, path: str = "/ws") -> bytes:
    """The request that upgrades a connection."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


def masked(payload: bytes, opcode: int = 1) -> bytes:
    """A client's frame; the mask is all zero, so that building it costs nothing here."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 65536:
        head = bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 0xFF]) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def subscribe_frame(position: tuple[str, int] | None, **more: Any) -> bytes:
    """Ask for what comes after *position*; for everything when it is None."""
    since = "start" if position is None else {"epoch": position[0], "offset": position[1]}
    return masked(json.dumps({"type": "subscribe", "id": 1, "since": since, **more}).encode())


class Decoder:
    """The hub's bytes, as they come, to the texts of its messages; `replies` are the frames to send back.

    Raises EOFError when the hub closes, ConnectionRefusedError when it did not upgrade the connection.
    """

    def __init__(self) -> None:
        self.upgraded = False
        self.replies: list[bytes] = []
        self._held = bytearray()

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """The texts that are complete now. The hub's frames are whole and not masked."""
        self._held += data
        if not self.upgraded:
            self._upgrade()
        texts: list[bytes] = []
        place = 0
        held = self._held
        while self.upgraded and (frame := _frame(held, place)) is not None:
            opcode, start, place = frame
            if opcode == 1:
                texts.append(bytes(held[start:place]))
            elif opcode == 9:
                self.replies.append(masked(bytes(held[start:place]), 10))
            elif opcode == 8:
                raise EOFError(f"closed with {int.from_bytes(held[start : start + 2], 'big')}")
        del held[:place]
        return texts

    def _upgrade(self) -> None:
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return
        if b" 101 " not in self._held.split(b"\r\n", 1)[0]:
            raise ConnectionRefusedError(bytes(self._held[:end]).decode())
        del self._held[: end + 4]
        self.upgraded = True


def _frame(held: bytearray, place: int) -> tuple[int, int, int] | None:
    """Opcode, start and end of the frame at *place*; None while it is not whole."""
    if len(held) < place + 2:
        return None
    opcode, size, start = held[place] & 0xF, held[place + 1], place + 2
    if size > 125:
        wide = 2 if size == 126 else 8
        size, start = int.from_bytes(held[start : start + wide], "big"), start + wide
        if len(held) < start:
            return None
    return None if len(held) < start + size else (opcode, start, start + size)


def connected(port: int, *, timeout_s: float, receive_bytes: int = 0) -> socket.socket:
    """A socket to *port*; *receive_bytes* keeps the kernel from taking in more for us than that."""
    link = socket.socket()
    if receive_bytes:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    link.settimeout(timeout_s)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        link.connect(("127.0.0.1", port))
    except OSError:
        link.close()
        raise
    return link
