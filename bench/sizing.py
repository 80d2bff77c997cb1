"""What does it take to run a hub: processor time for deliveries, memory for clients that follow, room for events?

Processor time and memory are those of the hub's process while it serves clients of another process. Room is what a
million events of 254 bytes are in Redis' memory, and in the file of a SQLite store; measured with a fifth of that.
"""

import functools
import multiprocessing
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench import hub
from bench.data import event_file, events
from bench.fanout import MARK, load
from bench.measure import AGENTPIPE, Answer, Contender, compare
from bench.memory import subscribers

ROOM_EVENTS = 200_000
MILLION = 1_000_000


class Use(NamedTuple):
    """What a hub used: milliseconds of processor time for 1,000 deliveries, kilobytes of memory for 100 clients."""

    cpu_ms: float
    memory_kb: float


def followed(store: str, clients: int, burst: int, bursts: int) -> Use:
    """What *clients* that follow cost, when *burst* events come at once, *bursts* times, one after another."""
    with hub.running(store) as server:
        lines = events(burst * bursts, mark=MARK)
        sent = [hub.frame(hub.publish_message(lines[n : n + burst])) for n in range(0, len(lines), burst)]
        publisher = hub.connect(server.port)
        for link in subscribers(server, 20):  # what the first ones cost is code and caches
            link.close()
        memory = server.resident_bytes()
        mine, theirs = multiprocessing.Pipe()
        arguments = (server.port, "/ws", hub.TOKEN, True, theirs, clients, burst)
        child = multiprocessing.Process(target=load, args=arguments, daemon=True)
        child.start()
        try:
            mine.recv()
            cpu = server.cpu_seconds()
            for message in sent:
                publisher.sendall(message)
                if not mine.poll(30):
                    raise RuntimeError("a burst did not arrive")
                mine.recv()
            cpu = server.cpu_seconds() - cpu
            grown = server.resident_bytes() - memory
        finally:
            publisher.close()
            child.terminate()
            child.join()
    return Use(cpu * 1e3 / (clients * burst * bursts / 1000), grown / 1024 / clients * 100)


def through_redis(clients: int, burst: int, bursts: int) -> Use:
    with hub.redis() as url:
        return followed(url, clients, burst, bursts)


def room_in_redis() -> float:
    """Megabytes of Redis' memory for a million events."""
    import redis

    with hub.redis() as url, hub.running(url) as server, redis.Redis.from_url(url) as client:
        before = client.info("memory")["used_memory"]
        _publish(server)
        grown = client.info("memory")["used_memory"] - before
    return float(grown / 1e6 * MILLION / ROOM_EVENTS)


def room_on_disk() -> float:
    """Megabytes of a store's file for a million events, once the hub has ended."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hub.db")
        with hub.running(str(path), "--retain", "10GiB") as server:
            _publish(server)
        return sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6 * MILLION / ROOM_EVENTS


def _publish(server: hub.Hub) -> None:
    with event_file(ROOM_EVENTS).open("rb") as file:
        command = [AGENTPIPE, "publish", server.url, "--token-file", str(server.token_file)]
        subprocess.run(command, stdin=file, check=True)


WAYS: dict[str, tuple[Callable[[], Use], str | None]] = {
    "500 clients, bursts of 20": (functools.partial(followed, "file", 500, 20, 200), None),
    "100 clients, one event at a time": (functools.partial(followed, "file", 100, 1, 1000), None),
    "100 clients, one event at a time, Redis": (functools.partial(through_redis, 100, 1, 1000), "redis-server"),
}


def answers(repeats: int) -> list[Answer]:
    """Processor time and memory are of the same rounds."""
    rounds: dict[str, list[Use]] = {name: [] for name in WAYS}

    def processor(name: str) -> float:
        rounds[name].append(WAYS[name][0]())
        return rounds[name][-1].cpu_ms

    def memory(name: str) -> float:
        return rounds[name].pop(0).memory_kb

    rooms = [Contender("SQLite, file", room_on_disk), Contender("Redis, memory", room_in_redis, "redis-server")]
    return [
        *(
            compare(
                what,
                [Contender(name, functools.partial(measure, name), needs) for name, (_, needs) in WAYS.items()],
                unit=unit,
                better="lower",
                repeats=repeats,
                alike=False,
            )
            for what, measure, unit in (
                ("a hub's processor time for 1,000 deliveries", processor, "ms"),
                ("a hub's memory for 100 clients that follow", memory, "KB"),
            )
        ),
        compare("room for 1,000,000 events of 254 B", rooms, unit="MB", better="lower", repeats=repeats),
    ]
