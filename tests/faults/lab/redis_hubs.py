"""Several hubs on one Redis, any of which, and Redis itself, may be killed.

The rule this module keeps: the hubs share nothing but Redis; what is read without them is read from Redis.
"""

from collections.abc import Mapping
from pathlib import Path

from agentpipe.io.redis.log import RedisLog
from tests.faults.lab.hubs import HEARTBEAT, OneHub, entries
from tests.faults.lab.journal import Entry
from tests.faults.lab.killer import Target
from tests.hub_process import HubProcess, until
from tests.redis_process import RedisProcess

__all__ = ["RedisHubs"]

TOKEN = "the-laboratory-token"


class RedisHubs:
    """*nodes* hubs on a Redis that writes its append-only file with every commit. Redis goes on until `close`."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, nodes: int = 2) -> None:
        self._redis = RedisProcess(folder / "redis")
        self._hubs = [self._hub(folder / f"hub-{number}", environment) for number in range(1, nodes + 1)]
        self.token_file = self._hubs[0].process.token_file or folder
        self.targets: Mapping[str, Target] = {
            "redis": Target(self._redis_pids, self._redis_again),
            **{f"hub-{number}": hub.target for number, hub in enumerate(self._hubs, 1)},
        }
        self._stored: list[Entry] | None = None

    def _hub(self, folder: Path, environment: Mapping[str, str]) -> OneHub:
        folder.mkdir()
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        process = HubProcess(folder, environment, "--heartbeat", HEARTBEAT, store=self._redis.url)
        process.start()
        return OneHub(process)

    @property
    def ports(self) -> list[int]:
        return [hub.process.port for hub in self._hubs]

    @property
    def token(self) -> str:
        return TOKEN

    def state(self, run: str) -> str | None:
        return self._hubs[0].state(run)

    def head(self) -> tuple[str, int]:
        return self._hubs[0].head()

    def told(self, runs: list[str]) -> list[Entry]:
        """By the last hub; the first one answers everything else."""
        self._level()
        return self._hubs[-1].told(runs)

    def stop(self) -> None:
        for hub in self._hubs:
            hub.process.stop()
        if self._stored is None and self._redis.process.poll() is None:
            self._stored = self._read()
            self._redis.stop()

    def stored(self) -> list[Entry]:
        assert self._stored is not None, "Redis was gone before the hubs were"
        return self._stored

    def _level(self) -> None:
        """All hubs have read what the first one has."""
        head = self.head()
        until(lambda: all(hub.head() == head for hub in self._hubs), "that all hubs know the whole log")

    def _read(self) -> list[Entry]:
        log = RedisLog(self._redis.url)
        try:
            return entries(log.reader())
        finally:
            log.close()

    def _redis_pids(self) -> list[int]:
        return [self._redis.process.pid] if self._redis.process.poll() is None else []

    def _redis_again(self) -> None:
        self._redis.process.wait()
        self._redis.start()
