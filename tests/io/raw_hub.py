"""A hub made of one listening socket and a script, for what a real hub never does: staying silent, refusing, lagging.

It speaks the protocol of docs/protocol.md as far as a publisher sees it, one client at a time, and keeps the lines it
was sent.
"""

import base64
import hashlib
import json
import socket
import threading
import time

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class RawHub:
    """Accepts publishers until closed. *acks*: None never, else seconds to wait before each acknowledgement.
    *welcome* False: accepts and says nothing. *status*: answers the upgrade with this HTTP status. *closes*: a close
    code sent right after the welcome. *epoch*: of its log.
    """

    def __init__(self, *, acks=0.0, welcome=True, status=101, closes=None, limits=None, port=0, epoch="e"):
        self.acks, self.welcome, self.status, self.closes = acks, welcome, status, closes
        self.epoch = epoch
        self.limits = limits or {"max_publish_bytes": 1 << 20}
        self.lines = []
        self.frames = []
        self.headers = []
        self.publishers = []  # what each connection said it is
        self.pings = 0
        self.acknowledged = 0  # on the connection of the moment
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.1)
        self._open = True
        self._client = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self):
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self):
        """Break the connection of the moment."""
        if self._client is not None:
            self._client.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self._open = False
        self._thread.join()
        self._listener.close()

    def _serve(self):
        while self._open:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            with client:
                client.settimeout(0.1)
                self._client = client
                self.connections += 1
                try:
                    self._talk(client)
                except (ConnectionError, EOFError, OSError):
                    pass  # the client left or was cut off
                self._client = None

    def _talk(self, client):
        self._rest = b""
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._some(client)
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        self.headers.append(head.decode())
        if self.status != 101:
            client.sendall(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\n\r\n".encode())
            return
        key = next(
            line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        upgrade = "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        client.sendall(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        if self.welcome:
            self._say(client, {"type": "welcome", "epoch": self.epoch, "head": 0, "limits": self.limits})
        if self.closes is not None:
            self._frame(client, 0x8, self.closes.to_bytes(2, "big") + b"because")
        settled = 0
        while self._open:
            opcode, payload = self._next(client)
            if opcode == 0x8:
                self._frame(client, 0x8, payload)
                return
            if opcode == 0x9:
                self.pings += 1
                self._frame(client, 0xA, payload)
            if opcode == 0x1 and payload.startswith(b'{"type":"publisher"'):
                self.publishers.append(json.loads(payload))
            elif opcode == 0x1:
                settled += self._keep(payload)
                if self.acks is not None:
                    time.sleep(self.acks)
                    self._say(client, {"type": "ack", "run_id": "r", "sequence": settled, "count": settled})
                    self.acknowledged = settled

    def _keep(self, payload):
        if b"\n" in payload:  # bare NDJSON
            events = [json.loads(line) for line in payload.split(b"\n")]
        else:
            events = json.loads(payload)["events"]
        self.frames.append((len(events), len(payload)))
        lines = [json.dumps(event) for event in events]
        self.lines += lines
        return len(lines)

    def _say(self, client, message):
        self._frame(client, 0x1, json.dumps(message).encode())

    def _frame(self, client, opcode, payload):
        size = len(payload)
        head = bytes((0x80 | opcode, size)) if size < 126 else bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
        client.sendall(head + payload)

    def _some(self, client):
        while self._open:
            try:
                data = client.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise EOFError
            return data
        raise EOFError

    def _exactly(self, client, count):
        while len(self._rest) < count:
            self._rest += self._some(client)
        data, self._rest = self._rest[:count], self._rest[count:]
        return data

    def _next(self, client):
        first, second = self._exactly(client, 2)
        assert first & 0x80, "a publisher sends whole frames"
        assert second & 0x80, "a client masks"
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(self._exactly(client, 2 if size == 126 else 8), "big")
        key = self._exactly(client, 4)
        payload = self._exactly(client, size)
        pad = (key * (size // 4 + 1))[:size]
        return first & 0xF, bytes(a ^ b for a, b in zip(payload, pad, strict=True))
