"""How the hub reaches Redis: the address, the connections, and what their failures mean.

The rule this module keeps: **a connection is used only after it has been proved** that the log behind it still is the
one we know (``prove``), and none reconnects behind our back: redis-py's own retries are off. What failed on the way is
tried again on a new connection for a while; every call may therefore happen twice, and has to be such that the second
time changes nothing.
"""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from agentpipe.errors import OptionError, OutputError

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    from redis.sentinel import Sentinel, SentinelConnectionPool
except ImportError as missing:
    raise OptionError("--store", "Redis needs one package more: pip install 'agentpipe[redis]'") from missing

__all__ = ["DENIED", "FAILED", "LOST", "NO_MEMORY", "Address", "Client", "Session", "evaluate", "failure"]

#: What one command may take. A Redis that does not answer for so long is taken to be away; a commit that takes longer
#: is found to be stored by its stamp. An end of the hub waits for a few of these.
COMMAND_S = 2.0
CONNECT_S = 2.0

#: What a ``rediss://`` address may say besides: the files of certificates, as redis-py calls them.
TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

#: How long to wait between two attempts to connect; doubled up to the second.
PAUSE_S = 0.02
PAUSE_MOST_S = 0.5

#: What may be over on a new connection, which may lead elsewhere. The last ones are what a Redis says that is just
#: loading its data, was demoted, or has no primary.
LOST = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, redis.exceptions.MasterDownError, OSError)

#: What redis-py raises: anything; what Redis refused to do; what it refused because its memory is full.
FAILED = (redis.RedisError,)
DENIED = (redis.ResponseError,)
NO_MEMORY = (redis.OutOfMemoryError,)

#: What is raised when the other side does not speak as a Redis does.
FOREIGN = (redis.InvalidResponse,)

#: Those of LOST that another attempt will not change.
REFUSED = (redis.AuthenticationError, redis.exceptions.AuthorizationError)

T = TypeVar("T")

Argument = bytes | str | int | float


class Client(Protocol):
    """What we use of a client of redis-py. Answers are as Redis gives them: bytes, and lists of these."""

    connection_pool: Any

    def close(self) -> None: ...
    def config_get(self, name: str) -> Any: ...
    def evalsha(self, sha: str, keys: int, /, *keys_and_values: Argument) -> Any: ...
    def eval(self, script: str, keys: int, /, *keys_and_values: Argument) -> Any: ...
    def execute_command(self, *words: Argument) -> Any: ...
    def expire(self, key: str, seconds: int) -> Any: ...
    def get(self, key: str) -> Any: ...
    def hget(self, key: str, field: str) -> Any: ...
    def hmget(self, key: str, fields: Sequence[str]) -> Any: ...
    def hscan_iter(self, key: str, *, count: int) -> Any: ...
    def hset(self, key: str, field: str, value: Argument) -> Any: ...
    def info(self, section: str) -> Any: ...
    def pipeline(self, *, transaction: bool) -> Any: ...
    def time(self) -> tuple[int, int]: ...
    def set(self, key: str, value: Argument, *, ex: int, nx: bool = False) -> Any: ...
    def xrange(self, key: str, first: str = "-", last: str = "+", *, count: int | None = None) -> Any: ...
    def xrevrange(self, key: str, last: str = "+", first: str = "-", *, count: int | None = None) -> Any: ...
    def zrangebyscore(self, key: str, least: int, most: str, *, start: int, num: int) -> Any: ...
    def zrevrange(self, key: str, first: int, last: int) -> Any: ...
    def zrevrangebyscore(self, key: str, most: int, least: str, *, start: int, num: int) -> Any: ...
    def zscore(self, key: str, member: str) -> Any: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where the log is. ``shown`` is the URL without what nobody should read; ``keys`` begin with ``prefix``.

    ``replicas`` have to have a commit before it is acknowledged.
    """

    url: str = dataclasses.field(repr=False)
    shown: str
    prefix: str
    replicas: int = 0
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""

    @staticmethod
    def of(text: str) -> "Address":
        """The address that *text* says: ``redis://`` or ``rediss://[[user]:password@]host[:port][/db]``, or
        ``redis+sentinel://[[user]:password@]host[:port],…/service``, with ``?prefix=name`` and ``?replicas=n``, and
        with `TLS` for ``rediss://``. Raises OptionError.
        """
        try:
            parts = urlsplit(text)
            query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
            prefix, replicas = query.pop("prefix", "agentpipe"), int(query.pop("replicas", "0"))
            tls = {name: query.pop(name) for name in tuple(query) if parts.scheme == "rediss" and name in TLS}
            if query or parts.fragment or not parts.netloc or replicas < 0 or not prefix or set(prefix) & set("{}"):
                raise ValueError
            where = parts.netloc.rpartition("@")[2]
            shown = urlunsplit((parts.scheme, where, parts.path, "", ""))
            if parts.scheme == "redis+sentinel":
                sentinels = tuple(_host(part, 26379) for part in where.split(","))
                service = unquote(parts.path.strip("/"))
                if not service:
                    raise ValueError
                return Address(text, shown, prefix, replicas, sentinels, service)
            _host(where, 6379)
            if parts.scheme not in ("redis", "rediss") or (parts.path.strip("/") and not parts.path[1:].isdecimal()):
                raise ValueError
            return Address(urlunsplit((*parts[:3], urlencode(tls), "")), shown, prefix, replicas)
        except ValueError:
            hint = "redis://host:port/db?prefix=name, rediss://… or redis+sentinel://host:port,host:port/service"
            raise OptionError("--store", f"is no address of a Redis: {hint}") from None

    def key(self, name: str) -> str:
        """The key called *name*."""
        return f"{{{self.prefix}}}:{name}"

    def client(self, *, single: bool = False, timeout_s: float = COMMAND_S) -> Client:
        """A client, with one connection or a pool of them; it connects when it is used (a single one at once)."""
        given: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": CONNECT_S,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "client_name": "agentpipe",
        }
        if not self.sentinels:
            return cast("Client", redis.Redis.from_url(self.url, single_connection_client=single, **given))
        parts = urlsplit(self.url)
        given |= {"username": _unquoted(parts.username), "password": _unquoted(parts.password)}
        limits = {"socket_timeout": CONNECT_S, "socket_connect_timeout": CONNECT_S}
        asked = Sentinel(self.sentinels, sentinel_kwargs=limits)  # type: ignore[no-untyped-call]
        pool = SentinelConnectionPool(self.service, asked, is_master=True, **given)  # type: ignore[no-untyped-call]
        return cast("Client", redis.Redis(connection_pool=pool, single_connection_client=single))


class Session:
    """One connection, for one thread. *prove* is called with each new one before anything else."""

    def __init__(self, address: Address, prove: Callable[[Client], None], *, timeout_s: float) -> None:
        # given
        self._address = address
        self._prove = prove
        self._timeout_s = timeout_s
        # changing
        self._client: Client | None = None
        self.reachable = True  # as the last call found it

    def call(self, work: Callable[[Client], T], patience_s: float) -> T:
        """What *work* returns, given a connection that has been proved; when it is lost, on the next one, for
        *patience_s*. Raises OutputError.
        """
        limit = time.monotonic() + patience_s
        pause_s = PAUSE_S
        while True:
            try:
                found = work(self._client or self._connected())
            except (*LOST, *FAILED) as error:
                passes = _passes(error)
                if passes or not isinstance(error, DENIED):
                    self.close()  # a client that goes on would connect anew by itself
                    self.reachable = False
                if not passes or time.monotonic() + pause_s > limit:
                    raise failure(self._address, error) from error
            else:
                self.reachable = True
                return found
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MOST_S)

    def close(self) -> None:
        """Let go of the connection; the next call makes another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
            client.connection_pool.disconnect()

    def _connected(self) -> Client:
        client = self._address.client(single=True, timeout_s=self._timeout_s)
        try:
            self._prove(client)
        except BaseException:
            client.close()
            client.connection_pool.disconnect()
            raise
        self._client = client
        return client


def _passes(error: Exception) -> bool:
    """Whether what failed may be over soon, perhaps elsewhere; also a script of somebody else comes to an end."""
    if isinstance(error, REFUSED):
        return False
    return isinstance(error, LOST) or str(error).startswith("BUSY ")


def evaluate(client: Client, script: str, keys: Sequence[str], values: Iterable[Argument] = ()) -> Any:
    """What *script* answers; it is sent when Redis does not know it."""
    try:
        return client.evalsha(_sha(script), len(keys), *keys, *values)
    except redis.exceptions.NoScriptError:
        return client.eval(script, len(keys), *keys, *values)


@functools.cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def failure(address: Address, error: Exception) -> OutputError:
    """What *error* of redis-py says, in one line."""
    if isinstance(error, NO_MEMORY):
        return OutputError(address.shown, "Redis has no memory left (maxmemory): nothing can be stored")
    if isinstance(error, FOREIGN):
        return OutputError(address.shown, f"what answers there is no Redis: {error}")
    text = " ".join(str(error).split()) or type(error).__name__
    return OutputError(address.shown, text.partition(" script: ")[0])


def _host(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError
    return parts.hostname, parts.port or port


def _unquoted(text: str | None) -> str | None:
    return unquote(text) if text is not None else None
