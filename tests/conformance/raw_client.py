"""A WebSocket client of bare bytes, for what no WebSocket library sends.

The rule this module keeps: it adds nothing and forgives nothing. What is given is written as it is; what is read is
every frame up to the end of the connection, with a limit on the waiting.
"""

import base64
import errno
import os
import socket
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from tests.hub_process import PATIENCE_S

__all__ = ["BINARY", "CLOSE", "CONTINUATION", "PING", "PONG", "TEXT", "Frame", "RawClient", "closing", "frame"]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Frame(NamedTuple):
    """A frame of the server: first byte's bits and the payload."""

    opcode: int
    payload: bytes
    final: bool = True

    @property
    def code(self) -> int | None:
        """The code of a close frame."""
        return int.from_bytes(self.payload[:2], "big") if self.opcode == CLOSE and self.payload else None


def frame(
    opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0, masked: bool = True, size: int = -1
) -> bytes:
    """The bytes of a client's frame; *size* is what it claims to hold, when that is not the truth."""
    size = len(payload) if size < 0 else size
    flag = 0x80 if masked else 0
    head = bytes([final << 7 | reserved << 4 | opcode])
    if size < 126:
        head += bytes([flag | size])
    elif size < 1 << 16:
        head += bytes([flag | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([flag | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    key = b"\x12\x34\x56\x78"
    return head + key + bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))


def closing(code: int | None, reason: bytes = b"") -> bytes:
    """A client's close frame."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


class RawClient:
    """One upgraded connection to the server at *url* (``http://HOST:PORT/``); ``head`` is the answer to the upgrade."""

    def __init__(self, url: str, token: str = "") -> None:
        address = urlsplit(url)
        # given
        self._socket = socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)
        # changing
        self._rest = b""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /ws HTTP/1.1", f"Host: {address.netloc}", "Connection: Upgrade", "Upgrade: websocket",
            f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: agentpipe.v1",
            "Sec-WebSocket-Extensions: permessage-deflate",
        ]  # fmt: skip
        if token:
            lines.append(f"Authorization: Bearer {token}")
        self.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        self.head = head.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def write(self, *data: bytes) -> None:
        self._socket.sendall(b"".join(data))

    def end_input(self) -> None:
        """Send FIN: nothing more comes from us."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # the other side has ended it already
                raise

    def read(self) -> Frame:
        """The next frame; EOFError when the connection has ended."""
        first, second = self._take(2)
        size = second & 0x7F
        assert not second & 0x80, "a server does not mask"
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        return Frame(first & 0x0F, self._take(size), bool(first & 0x80))

    def text(self) -> bytes:
        """The payload of the next text frame."""
        while (found := self.read()).opcode != TEXT:
            assert found.opcode != CLOSE, found
        return found.payload

    def rest(self, *, silent: bool = False) -> list[Frame]:
        """Every frame up to the end of the connection, which has to come; a close frame is answered with the end of
        our side, unless we stay *silent*.
        """
        frames = []
        try:
            while True:
                frames.append(self.read())
                if frames[-1].opcode == CLOSE and not silent:
                    self.end_input()
        except EOFError:
            return frames

    def _take(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            assert not self._rest, f"the connection ended inside a frame: {self._rest!r}"
            raise EOFError
        self._rest += data
