"""The hub's file fails: the disk is full, somebody locks it, it is damaged, the clock is wrong.

In each case: a clear error, the agent runs on, nothing that was acknowledged is lost, and the hub goes on by itself
when the cause is gone. A disk that is full is a small file system in memory where we may mount one, else the limit of
the size of a file (``RLIMIT_FSIZE``).
"""

import contextlib
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from agentpipe.event import peek
from agentpipe.history import OfRun
from agentpipe.io.sqlite.log import SqliteLog
from agentpipe.io.sqlite.reader import SqliteReader
from tests.faults.lab.pipeline import Agent
from tests.hub_process import PATIENCE_S, HubProcess, until
from tests.io.serve.hubs import Client, Hub, event, sequences

Start = Callable[..., Hub]

#: A disk on which a store has room for some thousand events.
DISK_BYTES = 4 << 20


class Disk(Protocol):
    """Where the store is. ``fill`` leaves no room to a hub, ``free`` gives it back."""

    folder: Path

    def fill(self, hub: HubProcess | None = None) -> None: ...
    def free(self, hub: HubProcess | None = None) -> None: ...


class SmallDisk:
    """A file system of its own, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, hub: HubProcess | None = None) -> None:
        with (self.folder / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self, hub: HubProcess | None = None) -> None:
        (self.folder / "ballast").unlink()


class LimitedFiles:
    """The hub's files cannot grow beyond what they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def fill(self, hub: HubProcess | None = None) -> None:
        size = max((each.stat().st_size for each in self.folder.iterdir()), default=0)
        resource.prlimit(hub.process.pid if hub else 0, resource.RLIMIT_FSIZE, (size, self._hard))

    def free(self, hub: HubProcess | None = None) -> None:
        resource.prlimit(hub.process.pid if hub else 0, resource.RLIMIT_FSIZE, (self._hard, self._hard))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(folder)]
    if shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0:
        yield SmallDisk(folder)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    else:
        yield LimitedFiles(folder)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    hubs: list[Hub] = []

    def begin(*options: str, **more: Any) -> Hub:
        hubs.append(Hub(tmp_path, *options, **{"store": "hub.db", **more}))
        return hubs[-1]

    yield begin
    for made in hubs:
        made.stop()
        assert "Traceback" not in made.stderr


@contextlib.contextmanager
def connected(hub: Hub) -> Iterator[Client]:
    client = Client(hub)
    client.next("welcome")
    try:
        yield client
    finally:
        client.close()


class Pipe:
    """``run -- AGENT | parse | publish``: an agent that takes some *seconds*, and what the three stages said. After its
    end it is waited for the hub for *patience*.
    """

    def __init__(
        self, hub: Hub, environment: Mapping[str, str], seconds: float, patience: str = f"{PATIENCE_S:g}s"
    ) -> None:
        folder = hub.folder
        self.agent = Agent(folder / "agent", "pipe", 40, pieces=20, pause_s=seconds / 20)
        publish = ["publish", hub.url.replace("http", "ws"), "--drain-timeout", patience]
        publish += ["--token-file", str(hub.token_file)]
        commands = [["run", "--run-id", "pipe", "--", *self.agent.command], ["parse"], publish]
        self._processes: list[subprocess.Popen[bytes]] = []
        source: Any = subprocess.DEVNULL
        self._notes = (folder / "notes").open("ab+")
        for command in commands:
            sink = subprocess.PIPE if command is not publish else subprocess.DEVNULL
            process = subprocess.Popen(
                ["agentpipe", *command], env=environment, stdin=source, stdout=sink, stderr=self._notes
            )
            if not isinstance(source, int):
                source.close()
            source = process.stdout
            self._processes.append(process)

    def end(self) -> tuple[list[int], str]:
        """The statuses of the three, when they have ended by themselves, and what they said."""
        try:
            statuses = [process.wait(2 * PATIENCE_S) for process in self._processes]
        finally:
            for process in self._processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        self._notes.seek(0)
        said = self._notes.read().decode()
        self._notes.close()
        return statuses, said


def stored(path: str, run: str) -> list[int]:
    """The numbers of *run* that the store has."""
    reader = SqliteReader(path)
    try:
        return [peek(line).sequence or 0 for line in reader.of_run(OfRun(run), 0, 1_000_000).lines]
    finally:
        reader.close()


def failed_start(environment: Mapping[str, str], folder: Path, store: str) -> str:
    """What a hub says that does not start for reasons of its store."""
    command = [
        "agentpipe", "serve", "--port", "0", "--store", store, "--token-file", str(folder / "token"),
        "--ready-file", str(folder / "ready"),
    ]  # fmt: skip
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False
    )
    said = done.stderr.decode()
    assert done.returncode == 74, said
    assert "Traceback" not in said
    assert not (folder / "ready").exists()
    assert len([line for line in said.splitlines() if store in line]) == 1, said
    return said


def publish_until_refused(hub: Hub) -> int:
    """Publish the run `r` until the hub refuses; how much it acknowledged. It said why, and closed with 4200."""
    with connected(hub) as writer:
        first = int(hub.json("api/runs/r")["events"]) + 1 if hub.request("api/runs/r")[0] == 200 else 1
        try:
            for number in range(first, first + 100_000):
                writer.publish(event(number, size=20_000))
        except Exception as error:
            if not isinstance(error, (OSError, AssertionError)) and "WebSocket" not in type(error).__name__:
                raise
        codes = [message.code for message in writer.others]
        assert codes[-2:] == ["unavailable", 4200], writer.others
        return first - 1 + writer.settled


def test_a_full_disk_is_said_once_and_the_hub_goes_on_when_there_is_room(
    disk: Disk, start: Start, environment: Mapping[str, str], tmp_path: Path
):
    hub = start(store=str(disk.folder / "hub.db"))
    with connected(hub) as reader:
        reader.subscribe(since="start")
        with connected(hub) as writer:
            writer.publish(*[event(number) for number in range(1, 11)])
        disk.fill(hub)
        pipe = Pipe(hub, environment, 1.0, "1s")
        acknowledged = [publish_until_refused(hub) for _ in range(3)][-1]
        statuses, said = pipe.end()
        assert statuses == [0, 0, 75], said
        assert re.search(r"\d+ events not delivered", said)
        assert hub.request("readyz")[0] == 503
        assert len(re.findall(r"nothing is stored until this is over", hub.stderr)) == 1
        assert sequences(reader.read(acknowledged))[:10] == list(range(1, 11))  # readers go on
        assert hub.json("api/runs/r/events?limit=5")["events"][0]["sequence"] == 1
        disk.free(hub)
        until(lambda: hub.request("readyz")[0] == 200, "the hub's recovery")
        with connected(hub) as writer:
            writer.publish(*[event(number) for number in range(acknowledged + 1, acknowledged + 11)])
        assert hub.stderr.count("events are stored again") == 1
        assert (
            sequences([line for line in reader.read(acknowledged + 10) if b'"run_id":"r"' in line])[-1] > acknowledged
        )
    hub.stop()
    assert stored(hub.store, "r") == list(range(1, acknowledged + 11))


def test_a_disk_that_is_full_at_the_start_is_said(disk: Disk, environment: Mapping[str, str], tmp_path: Path):
    disk.fill()
    try:
        said = failed_start(environment, tmp_path, str(disk.folder / "hub.db"))
    finally:
        disk.free()
    assert re.search(r"full|No space|I/O|too large", said)


def test_another_hub_on_the_same_store_is_named(start: Start, environment: Mapping[str, str], tmp_path: Path):
    hub = start()
    (tmp_path / "ready").unlink()
    assert "another agentpipe serve uses this store" in failed_start(environment, tmp_path, hub.store)


def test_a_writer_with_a_lock_is_waited_for_and_then_named(
    start: Start, environment: Mapping[str, str], tmp_path: Path
):
    """The pipeline is held up by it for a while; in the end everything is there."""
    hub = start()
    with connected(hub) as writer:
        writer.publish(event(1))
    with contextlib.closing(sqlite3.connect(hub.store, isolation_level=None, timeout=PATIENCE_S)) as other:
        other.execute("BEGIN EXCLUSIVE")
        pipe = Pipe(hub, environment, 4.0)
        started = time.monotonic()
        with connected(hub) as writer:
            writer.send(b'{"type":"publish","events":[%b]}' % event(2))
            assert writer.closed_with() == 4200
            assert "locked" in str([message.message for message in writer.others if message.code == "unavailable"])
        assert 1.5 < time.monotonic() - started < PATIENCE_S
        assert hub.request("healthz")[0] == 200
        assert hub.json("api/runs/r/events")["events"][0]["sequence"] == 1
        until(lambda: hub.request("readyz")[0] == 503, "the hub's complaint")
        other.execute("ROLLBACK")
    until(lambda: hub.request("readyz")[0] == 200, "the hub's recovery")
    with connected(hub) as writer:
        writer.publish(event(2))
    statuses, said = pipe.end()
    assert statuses == [0, 0, 0], said
    assert hub.json("api/runs/pipe")["state"] == "completed"
    hub.stop()
    assert stored(hub.store, "pipe") == list(range(1, 1 + len(stored(hub.store, "pipe"))))
    assert hub.stderr.count("keeps the file locked") == 1
    assert hub.stderr.count("events are stored again") == 1


def test_a_lock_at_the_start_is_waited_for_and_then_named(environment: Mapping[str, str], tmp_path: Path):
    path = str(tmp_path / "hub.db")
    SqliteLog(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "locked" in failed_start(environment, tmp_path, path)


def no_database(path: Path) -> None:
    path.write_bytes(b"this is no database, but long enough to look like one " * 400)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def without_its_beginning(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(100))


def with_garbage(path: Path) -> None:
    """Pages in the middle, of a store that was not closed: it is read through at the start."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE meta SET value = 0 WHERE name = 'clean'")
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 8192 * 8192)
        file.write(b"\xa5" * 3 * 8192)


@pytest.mark.parametrize("damage", [no_database, cut_short, emptied, without_its_beginning, with_garbage])
def test_a_damaged_store_is_refused_at_the_start_and_left_as_it_is(
    environment: Mapping[str, str], tmp_path: Path, damage: Callable[[Path], None]
):
    """The agent runs on without its hub."""
    path = tmp_path / "hub.db"
    hub = Hub(tmp_path, store="hub.db")
    with connected(hub) as writer:
        for number in range(1, 200, 20):
            writer.publish(*[event(each, size=1000) for each in range(number, number + 20)])
    hub.stop()
    (tmp_path / "ready").unlink()
    damage(path)
    before = path.read_bytes()
    said = failed_start(environment, tmp_path, str(path))
    assert re.search(r"damaged|not a database", said)
    assert "move it aside" in said
    assert path.read_bytes() == before
    if damage is with_garbage:
        statuses, notes = Pipe(hub, environment, 0.2, "1s").end()
        assert statuses == [0, 0, 75], notes
        assert re.search(r"\d+ events not delivered", notes)
    path.rename(tmp_path / "aside")
    for name in ("hub.db-wal", "hub.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    again = Hub(tmp_path, store="hub.db")
    again.stop()


def test_a_page_that_is_overwritten_under_the_hub_harms_who_reads_it(
    start: Start, environment: Mapping[str, str], tmp_path: Path
):
    hub = start("--window", "64KiB")
    with connected(hub) as writer:
        for number in range(1, 4001, 20):
            writer.publish(*[event(each, size=1000) for each in range(number, number + 20)])
    hub.stop()  # so that everything is in the file
    hub.start()
    path = Path(hub.store)
    data = path.read_bytes()
    place = data.index(b'"sequence":2000,') // 8192 * 8192
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xa5" * 8192)
    with connected(hub) as reader:
        reader.subscribe(since="start")
        assert reader.closed_with() == 4200
        assert "damaged" in str([message.message for message in reader.others if message.code == "unavailable"])
        assert sequences(reader.lines) == list(range(1, len(reader.lines) + 1))
        assert 1500 < len(reader.lines) < 2000
    status, _, body = hub.request("api/runs/r/events?after=1995&limit=10")
    assert (status, json.loads(body)["code"]) == (503, "unavailable")
    assert b"damaged" in body
    with connected(hub) as live:
        live.subscribe(since="live")
        statuses, said = Pipe(hub, environment, 0.2).end()
        assert statuses == [0, 0, 0], said
        live.next("events")
    assert hub.json("api/runs/pipe")["state"] == "completed"
    assert [each["sequence"] for each in hub.json("api/runs/r/events?after=3000&limit=3")["events"]] == [
        3001,
        3002,
        3003,
    ]


_WITH_CLOCK = """
import sys, time
from pathlib import Path
from agentpipe.io.serve.app import serve
from agentpipe.io.serve.options import ServeOptions
ahead, store, token, ready = sys.argv[1:]
options = ServeOptions(port=0, store=store, token_file=token, ready_file=ready, retain="7d")
serve(options, say=lambda line: print(line, file=sys.stderr, flush=True),
      clock=lambda: time.time() + float(Path(ahead).read_text()))
"""


class HubWithClock(Hub):
    """A hub whose clock is ahead of ours by the seconds that the file ``ahead`` says."""

    def start(self) -> None:
        ready, ahead = self.folder / "ready", self.folder / "ahead"
        ready.unlink(missing_ok=True)
        if not ahead.exists():
            self.set_clock(0)
        with (self.folder / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _WITH_CLOCK, str(ahead), self.store, str(self.token_file), str(ready)],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
            )  # fmt: skip
        until(lambda: ready.exists() or self.process.poll() is not None, "the start of the hub")
        assert ready.exists(), self.stderr
        self.url = ready.read_text().strip()

    def set_clock(self, ahead_s: float) -> None:
        new = self.folder / "ahead.new"
        new.write_text(str(ahead_s))
        new.rename(self.folder / "ahead")


def test_a_clock_that_is_set_back_is_said_once_and_harms_nothing(environment: Mapping[str, str], tmp_path: Path):
    """A year ahead for a while, and back; with events kept for a week."""
    hub = HubWithClock(tmp_path, store="hub.db")
    try:
        with connected(hub) as writer:
            writer.publish(event(1), event(2))
        year = 365 * 86_400.0
        hub.set_clock(year)
        with connected(hub) as writer:
            writer.publish(event(3))
        hub.set_clock(0)
        pipe = Pipe(hub, environment, 0.4)
        with connected(hub) as reader:
            reader.subscribe(since="start")
            with connected(hub) as writer:
                writer.publish(event(4), event(5))
            statuses, said = pipe.end()
            assert statuses == [0, 0, 0], said
            assert hub.json("api/runs/pipe")["state"] == "completed"
            while not any(b'"run_completed"' in line for line in reader.lines):
                reader.next("events")
        hub.stop()
        hub.start()
        assert stored(hub.store, "r") == [1, 2, 3, 4, 5]
        with contextlib.closing(sqlite3.connect(hub.store)) as database:
            ats = [at for (at,) in database.execute("SELECT at FROM block ORDER BY first")]
        assert ats == sorted(ats)
        assert hub.stderr.count("the newest entry is of ") == 1
        hub.set_clock(2 * year)
        hub.stop()
        hub.start()  # with a clock that is years ahead: nothing goes before it has shown that for an hour
        assert stored(hub.store, "r") == [1, 2, 3, 4, 5]
        assert hub.json("api/runs/r")["events"] == 5
    finally:
        hub.stop()
    assert "Traceback" not in hub.stderr


def test_a_store_whose_tables_are_overwritten_under_the_hub_takes_nothing_more(start: Start):
    """It says so, to publishers and once on stderr, and goes on serving what it has in memory."""
    hub = start()
    with connected(hub) as writer:
        writer.publish(*[event(number, size=1000) for number in range(1, 100)])
    hub.stop()
    hub.start()
    with contextlib.closing(sqlite3.connect(hub.store)) as other:
        other.execute("UPDATE meta SET value = value")  # so that nobody goes by what it remembers of the file
        other.commit()
        other.execute("PRAGMA wal_checkpoint(RESTART)")
    size = os.path.getsize(hub.store)
    with open(hub.store, "r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (size - 8192))
    with connected(hub) as writer:
        writer.send(b'{"type":"publish","events":[%b]}' % event(100))
        assert writer.closed_with() == 4200
        assert "damaged" in str([message.message for message in writer.others if message.code == "unavailable"])
    assert hub.request("readyz")[0] == 503
    assert hub.json("api/runs/r")["events"] == 99
    assert hub.stderr.count("nothing is stored until this is over") == 1
    hub.stop()
