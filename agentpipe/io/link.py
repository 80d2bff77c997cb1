"""A connection to a hub: made in a thread, then part of its owner's poll loop.

The rules this module keeps: the socket is read from connect to close, by the loop that owns it, so that a ping is
answered and a close is noticed whatever else happens; nothing here waits; after any error a connection is dropped and
never used again, half a frame with it. Sending, reading and TLS stay in one thread, which is what TLS needs.

websocket-client makes the connection (proxy, TLS, handshake) and reads frames. How a connection ended is said with the
errors of `agentpipe.errors`: HubUnreachable means come back, AuthError and ProtocolError mean do not.
"""

import os
import select
import ssl
from collections import deque
from typing import Any

from websocket import ABNF, WebSocket, WebSocketException

from agentpipe.client_frame import CLOSE, PING, PONG, TEXT, masked
from agentpipe.errors import AuthError, HubUnreachable, PeerError, ProtocolError
from agentpipe.io.address import Address
from agentpipe.io.clock import Clock, now
from agentpipe.wire import HubMessage, Verdict, parse_hub_message, verdict

__all__ = ["Link"]

#: A silent link is probed this often: under the 30 s after which proxies and hubs give up on a silent peer.
PING_S = 15.0

#: A peer that answers nothing for this long after a ping is gone.
PONG_S = 10.0

#: A hub that says nothing at all for so long after the upgrade has stopped; a well one says `welcome` with it. Half of
#: what people wait for at the end, so that there is time for another hub.
GREETING_S = 5.0

#: A peer that takes nothing for this long has stalled; a link through a bad network moves a little in that time.
SEND_S = 10.0

#: Codes of RFC 6455 section 7.4.1 that the same bytes would bring again, unlike the rest of its range.
_OUR_FAULT = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
_REFUSED = frozenset({4401, 4403})

_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Link:
    """One WebSocket connection, open and authenticated as far as the upgrade goes.

    Poll ``fileno()`` for ``wanted``; call `receive` when it is readable, `flush` when it is writable, `check` at
    ``deadline``. Each raises when the connection is over: HubUnreachable to come back (after ``stay_away_s`` at
    least, or ``at_once``), AuthError or ProtocolError not to. ``address`` is whose hub this is.
    """

    def __init__(self, socket: WebSocket, address: Address, clock: Clock = now) -> None:
        assert socket.sock is not None
        socket.sock.setblocking(False)
        # given
        self._ws: Any = socket  # the library's own types are partial
        self._sock = socket.sock
        self.address = address
        self._clock = clock
        # changing
        self._out: deque[memoryview] = deque()
        self._keys = b""
        self._bye: HubMessage | None = None
        self._end: PeerError | None = None
        self._heard_at = self._moved_at = self.since = clock()
        self._probed_at: float | None = None
        self._greeted = False
        self.pending = 0  # bytes accepted and not yet sent
        self.stay_away_s = 0.0
        self.at_once = False

    @property
    def wanted(self) -> int:
        """What to poll for."""
        return select.POLLIN | select.POLLOUT if self._out else select.POLLIN

    @property
    def deadline(self) -> float:
        """When `check` is to be called."""
        due = self._probed_at + PONG_S if self._probed_at is not None else self._heard_at + PING_S
        due = min(due, self.since + GREETING_S) if not self._greeted else due
        return min(due, self._moved_at + SEND_S) if self._out else due

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._sock.fileno()

    def send(self, *payloads: bytes) -> None:
        """Send messages, each a frame, in as few writes as the socket allows."""
        self._put(b"".join([masked(payload, self._key()) for payload in payloads]))

    def flush(self) -> None:
        """Send what is pending as far as it goes."""
        while self._out:
            block = self._out[0]
            try:
                sent = self._sock.send(block)
            except _AGAIN:
                return
            except OSError as error:
                raise self._lost(_said(error)) from None
            self._moved_at = self._clock()
            self.pending -= sent
            if sent == len(block):
                self._out.popleft()
            else:
                self._out[0] = block[sent:]

    def receive(self) -> list[HubMessage]:
        """The messages that are there, in order; none when there are no more now. What came before an end is
        returned first: call until nothing comes or it raises.
        """
        if self._end is not None:
            raise self._end
        messages: list[HubMessage] = []
        try:
            while len(messages) < 64:  # then the owner looks at its other descriptors
                message = self._next()
                if message is not None:
                    messages.append(message)
        except _AGAIN:
            return messages  # no whole frame yet; websocket-client keeps the part
        except PeerError as error:
            self._end = error
        except (WebSocketException, OSError) as error:
            self._end = self._lost(_said(error))
        if self._end is not None and not messages:
            raise self._end
        return messages

    def check(self, at: float) -> None:
        """Probe a silent link; raise HubUnreachable for one that is dead or stalled."""
        if self._out and at >= self._moved_at + SEND_S:
            raise self._lost(f"the hub took nothing for {SEND_S:g} s")
        if not self._greeted and at >= self.since + GREETING_S:
            raise self._lost(f"the hub said nothing for {GREETING_S:g} s")
        if self._probed_at is not None:
            if at >= self._probed_at + PONG_S:
                raise self._lost(f"the hub answered nothing for {PONG_S:g} s")
        elif at >= self._heard_at + PING_S:
            self._probed_at = at
            self._put(masked(b"", self._key(), PING))

    def drop(self) -> None:
        """Close the socket at once."""
        self._out.clear()
        self._ws.shutdown()

    def close(self, budget_s: float) -> None:
        """Say goodbye and wait for the hub's own, at most *budget_s* seconds; then close the socket."""
        poll = select.poll()
        limit = self._clock() + budget_s
        try:
            self._put(masked((1000).to_bytes(2, "big"), self._key(), CLOSE))
            while (left := limit - self._clock()) > 0:
                poll.register(self.fileno(), self.wanted)
                if poll.poll(left * 1000):
                    self.flush()
                    self.receive()
        except PeerError:
            pass  # closed, one way or the other: everything that matters was acknowledged before
        self.drop()

    def _key(self) -> bytes:
        """Four random bytes; drawn many at a time, because a system call for each costs as much as a mask."""
        if len(self._keys) < 4:
            self._keys = os.urandom(1024)
        key, self._keys = self._keys[:4], self._keys[4:]
        return key

    def _put(self, data: bytes | bytearray) -> None:
        if not self._out:
            self._moved_at = self._clock()
        self._out.append(memoryview(data))
        self.pending += len(data)
        self.flush()

    def _next(self) -> HubMessage | None:
        """Read one frame; its message when it completes one. Raises BlockingIOError when there is none yet."""
        frame = self._ws.recv_frame()
        self._heard_at = self._clock()
        self._greeted = True
        self._probed_at = None
        if frame.opcode == ABNF.OPCODE_CLOSE:
            raise self._closed(bytes(frame.data))
        if frame.opcode == ABNF.OPCODE_PING:
            self._put(masked(bytes(frame.data), self._key(), PONG))
        if frame.opcode in (ABNF.OPCODE_PING, ABNF.OPCODE_PONG):
            return None
        self._ws.cont_frame.validate(frame)
        self._ws.cont_frame.add(frame)
        if not self._ws.cont_frame.is_fire(frame):
            return None
        opcode, whole = self._ws.cont_frame.extract(frame)
        if opcode != TEXT:
            raise ProtocolError("bad_message", "the hub sent a binary message")
        message = parse_hub_message(bytes(whole.data))
        if message.type == "bye":
            self._bye = message
        return message

    def _closed(self, payload: bytes) -> PeerError:
        """What a close frame means; the hub's `bye` stands in for one without a code (a proxy may swallow it)."""
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
        reason = payload[2:].decode(errors="replace")
        bye = self._bye
        if code in (None, 1005, 1006) and bye is not None and isinstance(bye.code, int):
            code = bye.code
        reason = reason or (bye.reason if bye is not None and bye.reason else "") or "closed"
        if code in _REFUSED:
            return AuthError(str(self.address), reason)
        if code in _OUR_FAULT or verdict(code) is Verdict.STOP:
            return ProtocolError(str(code), reason)
        return self._lost(f"the hub closed the connection: {reason}", at_once=verdict(code) is Verdict.AT_ONCE)

    def _lost(self, problem: str, *, at_once: bool = False) -> HubUnreachable:
        bye = self._bye
        self.at_once = at_once
        self.stay_away_s = bye.after_ms / 1000 if bye is not None and bye.after_ms else 0.0
        return HubUnreachable(str(self.address), problem)


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).removesuffix(".").lower() or type(error).__name__
