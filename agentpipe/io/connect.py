"""Getting a connection to a hub, for as long as it takes, without holding anybody up.

The rules this module keeps: trying happens in a thread of its own, which ends as soon as it has a connection or is
told to stop; only a cause that can pass is tried again, with full jitter (``agentpipe.backoff``); a hub on this
machine is never reached through a proxy.
"""

import os
import queue
import random
import socket
import ssl
import threading
from typing import Any, TypeAlias

from agentpipe.backoff import CEILING_S, FIRST_S, STABLE_S, ceiling
from agentpipe.errors import AuthError, HubUnreachable, PeerError, ProtocolError
from agentpipe.io.address import Address
from agentpipe.io.clock import Clock, now
from agentpipe.io.link import Link
from agentpipe.version import __version__

__all__ = ["Connector", "Outcome", "connected"]

#: For the TCP connection, TLS and the upgrade, each read of it: the hub itself gives a handshake 5 s.
CONNECT_S = 10.0

#: The longest that a hub may tell us to stay away.
STAY_AWAY_S = 60.0

#: A connection, a failed attempt (HubUnreachable; the next one is under way), or the end of trying (the others).
Outcome: TypeAlias = Link | PeerError


class Connector:
    """Connects to one hub in the background. ``fileno()`` polls as readable when `outcomes` has something.

    `start` begins trying and `stop` ends it, also in the middle of a wait.
    """

    def __init__(self, address: Address, clock: Clock = now) -> None:
        # given
        self._address = address
        self._clock = clock
        self._done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        # changing
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._short_links = 0

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._read_end

    def start(self, lost: Link | None = None) -> None:
        """Begin connecting; *lost* is the connection that this one replaces, whose end says how long to stay away."""
        wait_s = 0.0
        if lost is not None:
            held = self._clock() - lost.since
            self._short_links = 0 if held >= STABLE_S else self._short_links + 1
            if self._short_links or not lost.at_once:
                wait_s = random.uniform(0, ceiling(self._short_links))  # noqa: S311 - jitter, not a secret
            wait_s = min(max(wait_s, lost.stay_away_s), STAY_AWAY_S)
        self._thread = threading.Thread(target=self._run, args=(wait_s,), name="connect", daemon=True)
        self._thread.start()

    def outcomes(self) -> list[Outcome]:
        """What happened since the last call."""
        try:
            while os.read(self._read_end, 512):
                pass
        except BlockingIOError:
            pass  # empty now
        found: list[Outcome] = []
        while not self._done.empty():
            found.append(self._done.get_nowait())
        return found

    def stop(self) -> None:
        """End a wait at once; an attempt that is under way ends by itself and its connection is closed with us."""
        self._stop.set()

    def _run(self, wait_s: float) -> None:
        """The thread: exactly one outcome that ends it."""
        self._stop.wait(wait_s)
        try:
            self._tell(self._tried())
        except PeerError as error:
            self._tell(error)

    def _tried(self) -> Link:
        from tenacity import Retrying, retry_if_exception_type, stop_when_event_set
        from tenacity.nap import sleep_using_event
        from tenacity.wait import wait_random_exponential

        trying = Retrying(
            retry=retry_if_exception_type(HubUnreachable),
            wait=wait_random_exponential(multiplier=max(FIRST_S, ceiling(self._short_links)), max=CEILING_S),
            stop=stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
            before_sleep=lambda state: self._tell(_problem(state)),
            reraise=True,
        )
        return trying(connected, self._address, self._clock)

    def _tell(self, outcome: Outcome) -> None:
        self._done.put(outcome)
        os.write(self._write_end, b"\0")


def _problem(state: Any) -> PeerError:
    """The error that tenacity's *state* is about to wait for."""
    error = state.outcome.exception()
    assert isinstance(error, PeerError)
    return error


def connected(address: Address, clock: Clock = now) -> Link:
    """Connect once. Raises HubUnreachable when it may work later, AuthError or ProtocolError when it will not."""
    from websocket import WebSocket

    own: Any = WebSocket(sslopt=address.tls, enable_multithread=False, skip_utf8_validation=True)
    options: dict[str, Any] = {"header": _headers(address), "suppress_origin": True, "redirect_limit": 0}
    try:
        if address.loopback:
            options["socket"] = _direct(address)
        own.connect(address.url, timeout=CONNECT_S, **options)
    except Exception as error:  # noqa: BLE001 - whatever a network, TLS or a proxy raises is sorted below
        own.shutdown()
        raise _sorted(error, str(address)) from None
    return Link(own, address, clock)


def _headers(address: Address) -> list[str]:
    headers = [f"User-Agent: agentpipe/{__version__}"]
    if address.token is not None:
        headers.append(f"Authorization: Bearer {address.token}")
    return headers


def _direct(address: Address) -> socket.socket:
    """A socket of our own: websocket-client would ask ``http_proxy`` even for 127.0.0.1."""
    plain = socket.create_connection((address.host, address.port), CONNECT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not address.secure:
        return plain
    context = ssl.create_default_context(cafile=address.ca_file)
    if address.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(plain, server_hostname=address.host)
    except BaseException:
        plain.close()
        raise


def _sorted(error: Exception, url: str) -> PeerError:
    """What a failed attempt means."""
    import websocket

    if isinstance(error, websocket.WebSocketBadStatusException):
        return _answered(error.status_code, error.status_message or "", url)
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProtocolError("tls", f"{url}: {error.verify_message}")
    passing = (
        websocket.WebSocketTimeoutException,
        websocket.WebSocketConnectionClosedException,
        websocket.WebSocketAddressException,
        websocket.WebSocketProxyException,
        OSError,
    )
    problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, passing):
        return HubUnreachable(url, problem.lower())
    return ProtocolError("no_hub", f"{url} is no hub: {problem}")


#: Answers of HTTP that say "not now".
_LATER = frozenset({408, 425, 429})


def _answered(status: int, reason: str, url: str) -> PeerError:
    text = f"HTTP {status} {reason}".strip()
    if status in (401, 403):
        return AuthError(url, text)
    if status >= 500 or status in _LATER:
        return HubUnreachable(url, text)
    return ProtocolError("no_hub", f"{url}: {text}")
