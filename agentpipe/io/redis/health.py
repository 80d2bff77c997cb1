"""What a Redis promises, as far as it tells: what to warn of, and how a commit is confirmed.

The rule this module keeps: what Redis does not let us ask is not warned of, but nothing is promised that was not
found to be so.
"""

import dataclasses
from collections.abc import Callable

from agentpipe.errors import OutputError
from agentpipe.io.redis.link import DENIED, Address, Client

__all__ = ["Health", "look", "server_id"]

#: How long the disk of Redis, or its replicas, may take to confirm a commit.
CONFIRM_MS = 2000

#: The largest answer that we ask for, roughly: a client that is cut off below that could never catch up.
ANSWER_BYTES = 32 << 20

#: Since then a client may wait for the disk.
WAITAOF_VERSION = (7, 2)

_SETTINGS = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "client-output-buffer-limit")

#: Given the connection on which the commit was made; raises OutputError when it is not confirmed.
Confirm = Callable[[Client], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """``server`` is the id of the running server (empty: unknown), ``settings`` what it told of itself."""

    server: str
    version: tuple[int, ...]
    settings: dict[str, str]

    @property
    def exact(self) -> bool:
        """Whether what it has answered is on its disk."""
        return self.settings.get("appendonly") == "yes" and self.settings.get("appendfsync") == "always"

    @property
    def warnings(self) -> list[str]:
        """What may cost entries one day, in one line each."""
        found = []
        if self.settings.get("appendonly") == "no":
            found.append("Redis keeps no append-only file (appendonly no): a restart of it loses the log")
        policy = self.settings.get("maxmemory-policy", "noeviction")
        if policy != "noeviction" and self.settings.get("maxmemory", "0") != "0":
            found.append(f"Redis may drop keys when its memory is full (maxmemory-policy {policy}): set noeviction")
        limit = _output_limit(self.settings.get("client-output-buffer-limit", ""))
        if 0 < limit < ANSWER_BYTES:
            found.append(f"Redis cuts off clients that are {limit} bytes behind (client-output-buffer-limit normal)")
        return found

    def confirmation(self, sync: str, address: Address) -> Confirm | None:
        """How a commit is confirmed beyond the answer to it; None when that is enough. Raises OutputError when *sync*
        ``always`` asks for what this Redis cannot promise.
        """
        replicas = address.replicas
        local = sync == "always" and not self.exact
        if local and (self.settings.get("appendonly") == "no" or self.version < WAITAOF_VERSION):
            raise OutputError(
                address.shown, "--sync always needs appendonly yes, and appendfsync always or Redis 7.2 or later"
            )
        if not local and not replicas:
            return None

        def confirm(client: Client) -> None:
            client.set(address.key("confirmed"), 1, ex=60)  # what is waited for is the last write of this connection
            if local:
                on_disk, copies = client.execute_command("WAITAOF", 1, 0, CONFIRM_MS)
            else:
                on_disk, copies = 1, 0
            if replicas:
                copies = client.execute_command("WAIT", replicas, CONFIRM_MS)
            if not on_disk:
                raise OutputError(address.shown, f"Redis did not write to its disk within {CONFIRM_MS} ms")
            if copies < replicas:
                raise OutputError(address.shown, f"{copies} of {replicas} replicas confirmed a commit")

        return confirm


def look(client: Client) -> Health:
    """What this Redis tells of itself."""
    settings: dict[str, str] = {}
    for name in _SETTINGS:
        try:
            found = client.config_get(name)
        except DENIED:
            break  # not allowed, as in hosted ones
        settings |= {_text(key): _text(value) for key, value in found.items()}
    try:
        version = tuple(int(part) for part in str(client.info("server").get("redis_version", "0")).split(".")[:2])
    except (*DENIED, ValueError):
        version = ()
    return Health(server_id(client), version, settings)


def server_id(client: Client) -> str:
    """Which start of which Redis this is; empty when it does not say."""
    try:
        return str(client.info("server").get("run_id", ""))
    except DENIED:
        return ""


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _output_limit(setting: str) -> int:
    """The hard limit of normal clients in ``normal 0 0 0 slave … pubsub …``; 0 is none."""
    words = setting.split()
    try:
        return int(words[words.index("normal") + 1])
    except (ValueError, IndexError):
        return 0
