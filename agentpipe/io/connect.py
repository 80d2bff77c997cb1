"""Getting a connection to a hub, for as long as it takes, without holding anybody up.

The rules this module keeps: trying happens in a thread of its own, which ends as soon as it has a connection or is
told to stop; where there are several hubs the next one is tried at once, also beside one that says nothing, and only
when all of them failed there is a wait, with full jitter (``agentpipe.backoff``); a hub that refused us for good is not
asked again; a hub on this machine is never reached through a proxy.
"""

import dataclasses
import os
import queue
import random
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Any, Self, TypeAlias

from agentpipe.backoff import CEILING_S, FIRST_S, STABLE_S, ceiling
from agentpipe.errors import AuthError, HubUnreachable, PeerError, ProtocolError
from agentpipe.io.address import Address
from agentpipe.io.clock import Clock, now
from agentpipe.io.link import Link
from agentpipe.version import __version__

__all__ = ["Connector", "LeftOut", "Outcome", "connected"]

#: For the TCP connection, TLS and the upgrade, each read of it: the hub itself gives a handshake 5 s.
CONNECT_S = 10.0

#: A hub that was silent for so long does not keep the next one from being tried beside it: a second is more than any
#: network takes (RFC 8305 waits a quarter of that), and four dead hubs cost less than the time for draining.
STAGGER_S = 1.0

#: The longest that a hub may tell us to stay away.
STAY_AWAY_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """One of several hubs refused us for good with ``error`` and is not asked again; the others are."""

    address: Address
    error: PeerError

    def __str__(self) -> str:
        url, text = str(self.address), str(self.error)  # only some errors name the hub
        return f"{text if url in text else f'{url}: {text}'}; this hub is not asked again"


#: A connection; a failed attempt (HubUnreachable; the next one is under way); a hub that is left out (the same); or
#: the end of trying, because every hub refused us (any other PeerError).
Outcome: TypeAlias = Link | LeftOut | PeerError


class Connector:
    """Connects to one of *addresses* in the background: the first that answers, in their order, beginning behind the
    one that was connected last. ``fileno()`` polls as readable when `outcomes` has something.

    `start` begins trying and `stop` ends it, also in the middle of a wait; `close` gives the descriptors back too.
    """

    def __init__(self, addresses: Sequence[Address], clock: Clock = now) -> None:
        # given
        self._clock = clock
        self._done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        # changing; the last three belong to the thread while it runs, which is never while there is a connection
        self._stop = threading.Event()
        self._telling = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._short_links = 0
        self._addresses = list(dict.fromkeys(addresses))  # that did not refuse us, the one to try next first
        self._away_until: dict[Address, float] = {}

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._read_end

    def start(self, lost: Link | None = None) -> None:
        """Begin connecting; *lost* is the connection that this one replaces, whose end says how long to stay away."""
        wait_s = self._wait_after(lost) if lost is not None else 0.0
        self._thread = threading.Thread(target=self._run, args=(wait_s,), name="connect", daemon=True)
        self._thread.start()

    def leave_out(self, link: Link) -> bool:
        """The hub of *link* refused us for good, on the connection: it is not asked again. Whether another is left."""
        self._addresses.remove(link.address)
        return bool(self._addresses)

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

    def close(self) -> None:
        """End for good; a connection that is still being made is closed as soon as it is there."""
        self.stop()
        with self._telling:
            if not self._closed:
                os.close(self._read_end)
                os.close(self._write_end)
            self._closed = True
        while not self._done.empty():
            _hang_up(self._done.get_nowait())

    def _wait_after(self, lost: Link) -> float:
        """Seconds to wait now that *lost* is: none while there is another hub that was not tried since."""
        at = self._clock()
        if lost.address in self._addresses:
            self._away_until[lost.address] = at + min(lost.stay_away_s, STAY_AWAY_S)
            self._next_is_behind(lost.address)
        self._short_links = 0 if at - lost.since >= STABLE_S else self._short_links + 1
        rounds = self._short_links // len(self._addresses)
        if not rounds and (len(self._addresses) > 1 or lost.at_once):
            return 0.0
        return random.uniform(0, ceiling(rounds))  # noqa: S311 - jitter, not a secret

    def _next_is_behind(self, address: Address) -> None:
        place = self._addresses.index(address) + 1
        self._addresses = self._addresses[place:] + self._addresses[:place]

    def _run(self, wait_s: float) -> None:
        """The thread: exactly one outcome that ends it, unless it was told to stop."""
        asked_s = min(self._away_until.get(address, 0.0) for address in self._addresses) - self._clock()
        self._stop.wait(max(wait_s, asked_s))
        try:
            self._tell(self._tried())
        except HubUnreachable:
            return  # told already; the trying was stopped
        except PeerError as error:
            self._tell(error)

    def _tried(self) -> Link:
        from tenacity import Retrying, retry_if_exception_type, stop_when_event_set
        from tenacity.nap import sleep_using_event
        from tenacity.wait import wait_random_exponential

        rounds = self._short_links // len(self._addresses)
        trying = Retrying(
            retry=retry_if_exception_type(HubUnreachable),
            wait=wait_random_exponential(multiplier=max(FIRST_S, ceiling(rounds)), max=CEILING_S),
            stop=stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )
        return trying(self._round)

    def _round(self) -> Link:
        """Try every hub once, the next one when one has failed or was silent for `STAGGER_S`: the first connection.
        Raises HubUnreachable when none of them answered, and what the last one of all said when no hub is left.
        """
        failed = HubUnreachable(str(self._addresses[0]), "it asked us to stay away for a while")
        waiting = [address for address in self._addresses if self._away_until.get(address, 0.0) <= self._clock()]
        with _Race(self._clock) as race:
            while (waiting or race.running) and not self._stop.is_set():
                if waiting:
                    race.enter(waiting.pop(0))
                for address, outcome in race.results(STAGGER_S if waiting else 2 * CONNECT_S, give_up=not waiting):
                    if isinstance(outcome, Link):
                        return outcome
                    if isinstance(outcome, HubUnreachable):
                        failed = outcome
                        self._tell(outcome)
                    else:
                        self._leave(address, outcome)
        raise failed

    def _leave(self, address: Address, error: PeerError) -> None:
        """The hub at *address* refused us for good; raised when it was the last one."""
        self._addresses.remove(address)
        if not self._addresses:
            raise error
        self._tell(LeftOut(address, error))

    def _tell(self, outcome: Outcome) -> None:
        with self._telling:
            if not self._closed:
                self._done.put(outcome)
                os.write(self._write_end, b"\0")
                return
        _hang_up(outcome)


class _Race:
    """Attempts to connect, each in a thread of its own, because a name may be looked up for longer than anybody waits.
    One that succeeds when the race is over is closed.
    """

    def __init__(self, clock: Clock) -> None:
        # given
        self._clock = clock
        self._results: queue.SimpleQueue[tuple[Address, Link | PeerError]] = queue.SimpleQueue()
        # changing
        self._ending = threading.Lock()
        self._over = False
        self.running: list[Address] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        with self._ending:
            self._over = True
        while not self._results.empty():
            _hang_up(self._results.get_nowait()[1])

    def enter(self, address: Address) -> None:
        """Begin to connect to the hub at *address*."""
        self.running.append(address)
        threading.Thread(target=self._attempt, args=(address,), name="connect", daemon=True).start()

    def results(self, timeout_s: float, *, give_up: bool) -> list[tuple[Address, Link | PeerError]]:
        """What comes first of all attempts within *timeout_s* seconds; else, under *give_up*, all have failed."""
        try:
            address, outcome = self._results.get(timeout=timeout_s)
        except queue.Empty:
            silent, self.running = (self.running, []) if give_up else ([], self.running)
            return [(address, HubUnreachable(str(address), "no answer")) for address in silent]
        self.running.remove(address)
        return [(address, outcome)]

    def _attempt(self, address: Address) -> None:
        outcome: Link | PeerError
        try:
            outcome = connected(address, self._clock)
        except PeerError as error:
            outcome = error
        with self._ending:
            if not self._over:
                self._results.put((address, outcome))
                return
        _hang_up(outcome)


def _hang_up(outcome: Outcome) -> None:
    """Nobody wants this connection any more."""
    if isinstance(outcome, Link):
        outcome.drop()


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
    cause = error.args[0] if isinstance(error, websocket.WebSocketAddressException) and error.args else error
    problem = (cause.strerror if isinstance(cause, OSError) else None) or str(error)
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
    return ProtocolError("no_hub", f"{url} is no hub: {text}")
