"""The hub side of a campaign, so that the same rounds can be played against one hub or several.

The rule this module keeps: what is killed is started again as it was, on its own port, token and store.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from agentpipe.io.sqlite_reader import SqliteReader
from tests.faults.lab.journal import Entry, entry
from tests.faults.lab.killer import Target
from tests.hub_process import HubProcess

__all__ = ["Hubs", "SqliteHub"]

#: Short, so that positions and lost connections are noticed within a round.
HEARTBEAT = "1s"


class _RunPage(msgspec.Struct):
    """A page of ``GET /api/runs/{run_id}/events``; the events as the bytes they are."""

    events: list[msgspec.Raw]
    next: int
    more: bool


_PAGE = msgspec.json.Decoder(_RunPage)


class Hubs(Protocol):
    """One hub, or several on one log. ``targets`` is what may be killed; ``ports`` where the hubs listen; all of them
    take the token in ``token_file``.
    """

    targets: Mapping[str, Target]
    token_file: Path

    @property
    def ports(self) -> list[int]: ...
    @property
    def token(self) -> str: ...
    def state(self, run: str) -> str | None:
        """What the hub says about the state of a run (``running``, ``completed`` …); None for one it does not know."""
        ...

    def head(self) -> tuple[str, int]:
        """Epoch and offset of the log's end."""
        ...

    def told(self, runs: list[str]) -> list[Entry]:
        """What the HTTP API tells of these runs; offsets are 0, because it does not tell them."""
        ...

    def stop(self) -> None:
        """End it in order."""
        ...

    def stored(self) -> list[Entry]:
        """What the log holds, read without the hub, after `stop`."""
        ...


class SqliteHub:
    """One hub on a SQLite file; as *mutant* with a fault of that name built in (see ``mutant``)."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *options: str, mutant: str | None = None) -> None:
        self._hub = HubProcess(folder, environment, "--heartbeat", HEARTBEAT, *options)
        if mutant is not None:
            self._hub.program = [sys.executable, str(Path(__file__).with_name("mutant.py")), mutant]
        self.targets = {"hub": Target(self._pids, self._again)}
        self.token_file = folder / "token"
        self._hub.start()

    @property
    def ports(self) -> list[int]:
        return [self._hub.port]

    @property
    def token(self) -> str:
        return self._hub.token

    @property
    def stderr(self) -> str:
        return self._hub.stderr

    def state(self, run: str) -> str | None:
        status, _, _ = self._hub.request(f"api/runs/{run}")
        return None if status == 404 else str(self._hub.json(f"api/runs/{run}")["state"])

    def head(self) -> tuple[str, int]:
        position = self._hub.json("api/runs")["position"]
        return position["epoch"], position["offset"]

    def told(self, runs: list[str]) -> list[Entry]:
        return [entry(0, line) for run in runs for line in self._lines(run)]

    def stop(self) -> None:
        self._hub.stop()

    def stored(self) -> list[Entry]:
        reader = SqliteReader(self._hub.store)
        try:
            found: list[Entry] = []
            offset = reader.oldest
            while (page := reader.since(offset, 10_000, 1 << 24)).lines:
                found += [entry(at, line) for at, line in enumerate(page.lines, page.start + 1) if line]
                offset = page.start + len(page.lines)
            return found
        finally:
            reader.close()

    def _lines(self, run: str) -> Iterator[bytes]:
        after, more = 0, True
        while more:
            status, _, text = self._hub.request(f"api/runs/{run}/events?after={after}&limit=1000")
            assert status == 200, text
            page = _PAGE.decode(text)
            yield from map(bytes, page.events)
            after, more = page.next, page.more

    def _again(self) -> None:
        self._hub.process.wait()
        self._hub.start()

    def _pids(self) -> list[int]:
        return [self._hub.process.pid] if self._hub.process.poll() is None else []
