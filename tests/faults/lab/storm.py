"""Many subscribers whose connections are all cut at once, again and again, while events are published.

The rule this module keeps: nobody is waited for but by all. One thread, one epoll, no objects a message: five hundred
clients cost what they must, so that the figures are the hub's. Each client checks the chain of positions as it reads:
``prev`` is its own position and a message has as many events as it moves on; what breaks it is counted, not repaired.
"""

import dataclasses
import heapq
import itertools
import random
import re
import select
import socket
import struct
import time
from typing import Self

from agentpipe.backoff import ceiling
from tests.faults.lab.raw_socket import Decoder, handshake, masked, read_message, subscribe_frame

__all__ = ["Checked", "Result", "storm"]

#: Stands once in every event, so that events are counted without decoding them.
MARK = b"~"

#: A wave that takes longer than this has failed.
PATIENCE_S = 60.0

#: Between a wave's end and the next: everybody hears events on the connection that will be cut.
PAUSE_S = 0.2

#: What the kernel holds for a client that does not read. The system's own bound is tens of megabytes a socket, and five
#: hundred times that is more than it gives to all sockets together: it would drop what comes, for everybody.
RECEIVE_BYTES = 128 * 1024

BATCH = 20

_PLACES = re.compile(rb'\{"type":"events","id":1,"prev":(\d+),"pos":(\d+)')


@dataclasses.dataclass
class Result:
    """Seconds from a cut until a client has all that the log held when it came back; seconds of each wave until all
    of them had; and what was wrong.
    """

    reconnects: list[float] = dataclasses.field(default_factory=list)
    waves: list[float] = dataclasses.field(default_factory=list)
    gaps: int = 0  # messages that start after the own position, or hold fewer events than they move on
    repeats: int = 0
    declared: int = 0  # gaps that the hub declared
    unrecovered: int = 0
    published: int = 0
    behind: int = 0  # clients that did not stand at the head at the end
    retries: int = 0

    @property
    def average(self) -> float:
        """Seconds a client was away, on average."""
        return sum(self.reconnects) / len(self.reconnects)

    @property
    def wrong(self) -> dict[str, int]:
        """What must be nothing, by name; empty when all is well."""
        names = ("gaps", "repeats", "declared", "unrecovered", "behind")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


class Checked:
    """A place in the log that goes by the protocol's rule. *position* None: it has not begun."""

    __slots__ = ("position",)

    def __init__(self, position: tuple[str, int] | None = None) -> None:
        self.position = position

    def moved(self, prev: int, pos: int, events: int) -> tuple[int, int]:
        """A message came from *prev* to *pos* with so many *events*: how many holes and repeats that were."""
        assert self.position is not None, "events before the confirmation"
        epoch, own = self.position
        self.position = (epoch, pos)
        return (prev > own) + (events < pos - prev), (prev < own) + (events > pos - prev)


class _Client(Checked):
    """One subscriber and its connection of the moment."""

    __slots__ = ("attempt", "decoder", "kicked_at", "link", "live", "sent", "target")

    def __init__(self) -> None:
        super().__init__()
        self.link: socket.socket | None = None
        self.decoder = Decoder()
        self.kicked_at = 0.0
        self.live = False
        self.sent = False  # the handshake
        self.target: int | None = None  # the log's end when it came back
        self.attempt = 0


def storm(port: int, token: str, *, clients: int, kicks: int, rate: float, seed: int = 0) -> Result:
    """Connect *clients*, publish *rate* events a second, cut all connections *kicks* times. The log has to be empty."""
    with _Publisher(port, token, rate) as publisher:
        crowd = _Crowd(port, token, clients, random.Random(seed), publisher)
        try:
            crowd.gather()
            for _ in range(kicks):
                crowd.settle(PAUSE_S)
                crowd.wave()
            publisher.rate = 0.0
            return crowd.end()
        finally:
            crowd.close()


class _Publisher:
    """Events of one run, in frames of 20, as many as are due; `turn` never waits."""

    def __init__(self, port: int, token: str, rate: float) -> None:
        self.rate = rate
        self.sent = 0
        self.acknowledged = 0
        self._decoder = Decoder()
        self._link = socket.create_connection(("127.0.0.1", port))
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link.sendall(handshake(port, token))
        self._link.setblocking(False)
        self._rest = b""
        self._run = f"storm-{time.time_ns()}"
        self._last = time.monotonic()
        self._due = 0.0

    def turn(self) -> None:
        """Send what is due, read what came back."""
        now = time.monotonic()
        self._due += (now - self._last) * self.rate
        self._last = now
        while self._due >= BATCH:
            self._due -= BATCH
            self._rest += self._frame()
        try:
            if self._rest:
                self._rest = self._rest[self._link.send(self._rest) :]
            for text in self._decoder.feed(self._link.recv(65536)):
                message = read_message(text)
                if text.startswith(b'{"type":"ack"'):
                    self.acknowledged = int(re.findall(rb'"count":(\d+)', text)[0])
                assert message.type not in ("error", "bye"), text
        except BlockingIOError:
            pass  # next turn

    def _frame(self) -> bytes:
        lines = []
        for _ in range(BATCH):
            self.sent += 1
            lines.append(
                b'{"type":"agent_output","run_id":"%s","agent_id":"a","sequence":%d,'
                b'"timestamp":"2026-11-20T07:00:00.000Z","payload":{"text":"~ %s"}}'
                % (self._run.encode(), self.sent, b"x" * 60)
            )
        return masked(b'{"type":"publish","events":[%s]}' % b",".join(lines))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._link.close()


class _Crowd:
    """All the subscribers and their epoll."""

    def __init__(self, port: int, token: str, count: int, chance: random.Random, publisher: _Publisher) -> None:
        # given
        self._port, self._token = port, token
        self._random = chance
        self._publisher = publisher
        self._clients = [_Client() for _ in range(count)]
        self._poll = select.epoll()
        self._room = bytearray(1 << 18)
        # changing
        self.result = Result()
        self._by_fd: dict[int, _Client] = {}
        self._coming: list[tuple[float, int, _Client]] = []
        self._order = itertools.count()
        self._waiting = 0

    def gather(self) -> None:
        """Connect everybody for the first time; not counted."""
        self._waiting = len(self._clients)
        for client in self._clients:
            self._connect(client)
        self._until_all_live()
        self.result.reconnects.clear()

    def settle(self, seconds: float) -> None:
        """Go on reading for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._turn()

    def wave(self) -> None:
        """Cut all connections; wait until everybody has come back."""
        started = time.monotonic()
        self._waiting = len(self._clients)
        for client in self._clients:
            self._kick(client, started)
        self._until_all_live()
        self.result.waves.append(time.monotonic() - started)

    def end(self) -> Result:
        """Wait until everything that was published was told to everybody."""
        limit = time.monotonic() + PATIENCE_S
        while self._behind() and time.monotonic() < limit:
            self._turn()
        self.result.published = self._publisher.sent
        self.result.behind = self._behind()
        return self.result

    def close(self) -> None:
        for client in self._clients:
            if client.link is not None:
                client.link.close()
        self._poll.close()

    def _behind(self) -> int:
        if self._publisher.acknowledged < self._publisher.sent:
            return len(self._clients)
        head = self._publisher.sent
        return sum(client.position is None or client.position[1] < head for client in self._clients)

    def _until_all_live(self) -> None:
        limit = time.monotonic() + PATIENCE_S
        while self._waiting:
            assert time.monotonic() < limit, f"{self._waiting} clients did not come back in {PATIENCE_S:g} s"
            self._turn()

    def _turn(self) -> None:
        self._publisher.turn()
        now = time.monotonic()
        while self._coming and self._coming[0][0] <= now:
            self._connect(heapq.heappop(self._coming)[2])
        for fd, mask in self._poll.poll(0.005):
            client = self._by_fd.get(fd)
            if client is not None:
                self._ready(client, mask)

    def _ready(self, client: _Client, mask: int) -> None:
        assert client.link is not None
        try:
            if not client.sent:
                problem = client.link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if problem:
                    raise OSError(problem, "refused")
                client.link.send(handshake(self._port, self._token))
                client.sent = True
                self._poll.modify(client.link.fileno(), select.EPOLLIN)
            elif mask:
                self._read(client, client.link)
        except (OSError, EOFError):
            self._drop(client)
            self.result.retries += 1
            self._come_back(client)

    def _read(self, client: _Client, link: socket.socket) -> None:
        size = link.recv_into(self._room)
        if not size:
            raise EOFError
        for text in client.decoder.feed(memoryview(self._room)[:size]):
            found = _PLACES.match(text)
            if found is None:
                self._other(client, link, text)
            else:
                self._moved(client, int(found[1]), int(found[2]), text.count(MARK))
        for reply in client.decoder.replies:
            link.send(reply)
        client.decoder.replies.clear()

    def _moved(self, client: _Client, prev: int, pos: int, events: int) -> None:
        gaps, repeats = client.moved(prev, pos, events)
        self.result.gaps += gaps
        self.result.repeats += repeats
        if not client.live:
            self._caught_up(client)

    def _other(self, client: _Client, link: socket.socket, text: bytes) -> None:
        message = read_message(text)
        match message.type:
            case "welcome":
                client.target = message.head
                link.send(subscribe_frame(client.position))
            case "subscription_confirmed":
                placed = (str(message.position["epoch"]), int(message.position["offset"]))
                if client.position is not None:
                    self.result.unrecovered += not message.recovered or placed != client.position
                client.position = placed
                self._caught_up(client)
            case "gap":
                self.result.declared += 1
            case "error" | "bye":
                raise EOFError(text.decode())

    def _caught_up(self, client: _Client) -> None:
        assert client.position is not None
        if client.target is not None and client.position[1] >= client.target:
            client.live = True
            client.attempt = 0
            self._waiting -= 1
            self.result.reconnects.append(time.monotonic() - client.kicked_at)

    def _kick(self, client: _Client, now: float) -> None:
        if client.link is not None:
            client.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._drop(client)
        client.kicked_at = now
        self._come_back(client)

    def _drop(self, client: _Client) -> None:
        if client.link is not None:
            self._by_fd.pop(client.link.fileno(), None)
            client.link.close()
        client.link, client.live, client.target = None, False, None

    def _come_back(self, client: _Client) -> None:
        """After the wait that our own clients make."""
        at = time.monotonic() + self._random.uniform(0, ceiling(client.attempt))
        client.attempt += 1
        heapq.heappush(self._coming, (at, next(self._order), client))

    def _connect(self, client: _Client) -> None:
        client.decoder, client.sent = Decoder(), False
        client.link = socket.socket()
        client.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        client.link.setblocking(False)
        client.link.connect_ex(("127.0.0.1", self._port))
        self._by_fd[client.link.fileno()] = client
        self._poll.register(client.link.fileno(), select.EPOLLOUT)
