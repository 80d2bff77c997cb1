"""The hub side of a campaign, so that the same rounds can be played against one hub or several.

The rule this module keeps: what is killed is started again as it was, on its own port, token and store.
"""

import sys
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Protocol

import msgspec

from agentpipe.history import Log
from agentpipe.io.sqlite.reader import SqliteReader
from tests.faults.lab.journal import Entry, entry
from tests.faults.lab.killer import Target
from tests.hub_process import HubProcess, until

__all__ = ["HEARTBEAT", "Hubs", "OneHub", "SqliteHub", "entries"]

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


class OneHub:
    """A hub's *process*: what may be done to it, and what it tells by HTTP."""

    def __init__(self, process: HubProcess) -> None:
        self.process = process
        self.target = Target(self._pids, self._again, self._begin)

    def state(self, run: str) -> str | None:
        status, text = self._answer(f"api/runs/{run}")
        return None if status == 404 else str(msgspec.json.decode(text)["state"])

    def head(self) -> tuple[str, int]:
        position = msgspec.json.decode(self._answer("api/runs")[1])["position"]
        return position["epoch"], position["offset"]

    def told(self, runs: list[str]) -> list[Entry]:
        return [entry(0, line) for run in runs for line in self._lines(run)]

    def _lines(self, run: str) -> Iterator[bytes]:
        after, more = 0, True
        while more:
            page = _PAGE.decode(self._answer(f"api/runs/{run}/events?after={after}&limit=1000")[1])
            yield from map(bytes, page.events)
            after, more = page.next, page.more

    def _answer(self, path: str) -> tuple[int, bytes]:
        """Status (200 or 404) and body, as soon as the hub can say: its store may just be coming back."""

        def answer() -> tuple[int, bytes] | None:
            try:
                status, _, text = self.process.request(path)
            except (OSError, HTTPException):
                return None
            assert status in (200, 404, 503), text
            return None if status == 503 else (status, text)

        return until(answer, f"an answer to {path}")  # type: ignore[no-any-return]

    def _pids(self) -> list[int]:
        return [self.process.process.pid] if self.process.process.poll() is None else []

    def _again(self) -> None:
        self.process.process.wait()
        self.process.start()

    def _begin(self) -> None:
        self.process.process.wait()
        self.process.begin()


class SqliteHub:
    """One hub on a SQLite file; as *mutant* with a fault of that name built in (see ``mutant``)."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *options: str, mutant: str | None = None) -> None:
        process = HubProcess(folder, environment, "--heartbeat", HEARTBEAT, *options)
        if mutant is not None:
            process.program = [sys.executable, str(Path(__file__).with_name("mutant.py")), mutant]
        process.start()
        self._hub = OneHub(process)
        self.targets: Mapping[str, Target] = {"hub": self._hub.target}
        self.token_file = folder / "token"

    @property
    def ports(self) -> list[int]:
        return [self._hub.process.port]

    @property
    def token(self) -> str:
        return self._hub.process.token

    def state(self, run: str) -> str | None:
        return self._hub.state(run)

    def head(self) -> tuple[str, int]:
        return self._hub.head()

    def told(self, runs: list[str]) -> list[Entry]:
        return self._hub.told(runs)

    def stop(self) -> None:
        self._hub.process.stop()

    def stored(self) -> list[Entry]:
        reader = SqliteReader(self._hub.process.store)
        try:
            return entries(reader)
        finally:
            reader.close()


def entries(log: Log) -> list[Entry]:
    """Everything that *log* holds."""
    found: list[Entry] = []
    offset = log.oldest
    while (page := log.since(offset, 10_000, 1 << 24)).lines:
        found += [entry(at, line) for at, line in enumerate(page.lines, page.start + 1) if line]
        offset = page.start + len(page.lines)
    return found
