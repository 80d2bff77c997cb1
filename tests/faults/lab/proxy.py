"""A loopback TCP proxy that does to a connection what networks do.

The rule this module keeps: **a byte that arrives has arrived in order and unchanged**; the faults are lateness, silence
and ends, never damage, because that is all TCP lets through. What to do is one frozen `Fault`, which may be changed
while connections are open and then holds for them too.

One thread, one selector; the words are those of Toxiproxy where it has them.
"""

import contextlib
import dataclasses
import heapq
import itertools
import random
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Self

__all__ = ["HEALTHY", "Fault", "Proxy"]

#: What is read at once, and all that is held of one direction: with more, a stalled reader would not be felt.
PIECE_BYTES = 64 * 1024

#: How long a stopped target may hold up the thread that connects to it.
CONNECT_S = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to every connection. *delay_s* (± *jitter_s*) holds each piece back; *stall*: nothing is read, so
    the sender's buffers fill; *trickle_s*: one byte at a time, so far apart; *silent*: everything is taken and nothing
    handed on, ends neither (half-open); *black_hole*: the same for new connections, whose target is not even called;
    *limit_bytes*: the connection is reset when it carried so many, also inside a frame. ``ways`` names the directions:
    ``up`` is from the client to the target.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    stall: bool = False
    trickle_s: float | None = None
    silent: bool = False
    black_hole: bool = False
    limit_bytes: int | None = None
    ways: tuple[str, ...] = ("up", "down")


HEALTHY = Fault()


class _Way:
    """One direction of a connection: from where, to where, and what is under way."""

    def __init__(self, name: str, source: socket.socket, sink: socket.socket) -> None:
        # given
        self.name, self.source, self.sink = name, source, sink
        # changing
        self.held: deque[tuple[float, bytes]] = deque()  # when each piece is due; in order
        self.size = 0
        self.carried = 0  # since the fault was set
        self.ended = False  # the source has sent its end
        self.finished = False  # and it was handed on
        self.due = 0.0  # of the last piece taken
        self.awaited = False  # a timer is set for the first piece


class _Link:
    """A client's connection and ours to the target; *target* is None for one that is not called (black hole)."""

    def __init__(self, client: socket.socket, target: socket.socket | None) -> None:
        self.client, self.target = client, target
        self.ways = [] if target is None else [_Way("up", client, target), _Way("down", target, client)]
        self.silent = target is None  # stays so: who went silent does not come back

    @property
    def sockets(self) -> list[socket.socket]:
        return [self.client] if self.target is None else [self.client, self.target]


class Proxy:
    """Listens on a port of its own until closed and hands on to *target* (a port of this machine).

    ``accepted`` counts connections. Every method may be called from any thread and has taken effect when it returns.
    """

    def __init__(self, target: int, *, seed: int = 0) -> None:
        # given
        self._random = random.Random(seed)
        self._listener = _bound()
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        # changing
        self.accepted = 0
        self.fault = HEALTHY
        self._target = target
        self._links: list[_Link] = []
        self._jobs: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, _Way]] = []
        self._count = itertools.count()
        self._lock = threading.Lock()
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._listen()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def behave(self, **fault: Any) -> None:
        """Have this `Fault` from now on, on open connections too; without arguments none (but what is silent stays)."""
        self._do(lambda: self._behave(Fault(**fault)))

    def cut(self, *, reset: bool = True) -> None:
        """End every connection: with a reset, or closed in order."""
        self._do(lambda: [self._end(link, reset=reset) for link in tuple(self._links)] and None)

    def point(self, target: int) -> None:
        """New connections go to another target."""
        self._do(lambda: setattr(self, "_target", target))

    def refuse(self) -> None:
        """Nobody listens here (the port stays ours)."""
        self._do(self._deafen)

    def accept(self) -> None:
        """Listen again."""
        self._do(self._listen)

    def close(self) -> None:
        """End everything."""
        self._open = False
        self._wake.send(b"x")
        self._thread.join()
        for link in tuple(self._links):
            self._end(link, reset=True)
        for one in (self._listener, self._wake, self._woken):
            one.close()
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    # --- on the thread

    def _do(self, job: Callable[[], None]) -> None:
        done = threading.Event()

        def once() -> None:
            job()
            done.set()

        with self._lock:
            self._jobs.append(once)
        self._wake.send(b"x")
        while not done.wait(0.1):
            assert self._thread.is_alive(), "the proxy has ended"

    def _serve(self) -> None:
        while self._open:
            for key, mask in self._selector.select(self._patience()):
                self._ready(key, mask)
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                way = heapq.heappop(self._timers)[2]
                way.awaited = False
                self._push(way)

    def _patience(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _ready(self, key: selectors.SelectorKey, mask: int) -> None:
        if key.fileobj is self._woken:
            self._woken.recv(4096)
            with self._lock:
                jobs, self._jobs = self._jobs, []
            for job in jobs:
                job()
        elif key.fileobj is self._listener:
            self._accept()
        elif key.data in self._links:  # not ended by what was handled before it
            self._move(key.fileobj, key.data, mask)

    def _listen(self) -> None:
        self._listener.listen(1024)
        self._listener.setblocking(False)
        with contextlib.suppress(KeyError):  # it listens already
            self._selector.unregister(self._listener)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def _deafen(self) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._listener)
        with contextlib.suppress(OSError):  # deaf already
            self._listener.shutdown(socket.SHUT_RDWR)  # ends listening, keeps the port

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # gone while it waited
        self.accepted += 1
        if self.fault.black_hole:
            self._links.append(_Link(client, None))
            return
        try:
            target = socket.create_connection(("127.0.0.1", self._target), timeout=CONNECT_S)
        except OSError:  # the target is down: the client is told as plainly as a proxy can
            _reset(client)
            return
        link = _Link(client, target)
        self._links.append(link)
        for one in link.sockets:
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch(link)

    def _behave(self, fault: Fault) -> None:
        self.fault = fault
        for link in tuple(self._links):
            link.silent = link.silent or fault.silent
            for way in link.ways:
                way.carried = 0
                way.held = deque((0.0, piece) for _, piece in way.held)  # what was late comes at once, in order
                way.due = 0.0
                self._push(way)
            self._watch(link)

    def _affects(self, way: _Way) -> Fault:
        return self.fault if way.name in self.fault.ways else HEALTHY

    def _watch(self, link: _Link) -> None:
        """Ask the selector for what can be done with a link now."""
        if link not in self._links or not link.ways:
            return
        up, down = link.ways
        for one, incoming, outgoing in ((link.client, up, down), (link.target, down, up)):
            assert one is not None
            mask = 0
            stalled = self._affects(incoming).stall and not link.silent
            if not incoming.ended and not stalled and (link.silent or incoming.size < PIECE_BYTES):
                mask |= selectors.EVENT_READ
            if outgoing.held and outgoing.held[0][0] <= time.monotonic() and not link.silent:
                mask |= selectors.EVENT_WRITE
            self._ask(one, mask, link)

    def _ask(self, one: socket.socket, mask: int, link: _Link) -> None:
        known = self._selector.get_map().get(one)
        if known is None and mask:
            self._selector.register(one, mask, link)
        elif known is not None and not mask:
            self._selector.unregister(one)
        elif known is not None and known.events != mask:
            self._selector.modify(one, mask, link)

    def _move(self, one: Any, link: _Link, mask: int) -> None:
        incoming, outgoing = link.ways if one is link.client else link.ways[::-1]
        try:
            if mask & selectors.EVENT_WRITE:
                self._push(outgoing)
            if mask & selectors.EVENT_READ and link in self._links:
                self._pull(link, incoming)
        except OSError:
            self._lost(link)
        self._watch(link)

    def _pull(self, link: _Link, way: _Way) -> None:
        data = way.source.recv(PIECE_BYTES)
        if link.silent:
            way.ended = way.ended or not data
            return
        if not data:
            way.ended = True
            self._push(way)
            return
        fault = self._affects(way)
        if fault.limit_bytes is not None and way.carried + len(data) >= fault.limit_bytes:
            with contextlib.suppress(OSError):
                way.sink.send(data[: fault.limit_bytes - way.carried])
            self._end(link, reset=True)
            return
        way.carried += len(data)
        self._hold(way, data, fault)
        self._push(way)

    def _hold(self, way: _Way, data: bytes, fault: Fault) -> None:
        way.size += len(data)
        step = fault.trickle_s
        pieces = [data] if step is None else [data[i : i + 1] for i in range(len(data))]
        late = max(0.0, fault.delay_s + self._random.uniform(-fault.jitter_s, fault.jitter_s))
        due = time.monotonic() + late
        for piece in pieces:
            due = way.due = max(due, way.due + (step or 0.0))  # jitter must not reorder
            way.held.append((due, piece))

    def _push(self, way: _Way) -> None:
        """Hand on what is due; come again when more is."""
        link = next((link for link in self._links if way in link.ways), None)
        if link is None or link.silent or (self._affects(way).stall):
            return
        try:
            self._send(way)
        except BlockingIOError:
            pass  # the sink is full: the selector tells when it is not
        except OSError:
            self._lost(link)
            return
        if way.ended and not way.held and not way.finished:
            way.finished = True
            with contextlib.suppress(OSError):
                way.sink.shutdown(socket.SHUT_WR)
            if all(one.finished for one in link.ways):
                self._end(link, reset=False)
                return
        self._watch(link)

    def _send(self, way: _Way) -> None:
        now = time.monotonic()
        while way.held:
            due, piece = way.held[0]
            if due > now:
                self._come_back(way, due)
                return
            sent = way.sink.send(piece)
            way.size -= sent
            if sent < len(piece):
                way.held[0] = (due, piece[sent:])
                return
            way.held.popleft()

    def _come_back(self, way: _Way, due: float) -> None:
        if not way.awaited:
            way.awaited = True
            heapq.heappush(self._timers, (due, next(self._count), way))

    def _lost(self, link: _Link) -> None:
        """One side broke: the other is told, unless the line is silent."""
        if not link.silent:
            self._end(link, reset=True)
            return
        for way in link.ways:
            way.ended = True

    def _end(self, link: _Link, *, reset: bool) -> None:
        if link in self._links:
            self._links.remove(link)
        for one in link.sockets:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(one)
            _reset(one) if reset else one.close()


def _bound() -> socket.socket:
    """A socket on a port that it keeps while it does not listen; Linux does that for ports asked for by number only."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = free.getsockname()
        found = socket.socket()
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # its old connections must not keep it deaf
        try:
            found.bind(address)
        except OSError:  # another was quicker
            found.close()
            continue
        return found


def _reset(one: socket.socket) -> None:
    """Close with a RST instead of a FIN."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
