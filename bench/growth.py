"""What do hubs on one Redis take together, and how long does an event need from a publisher at one hub to a subscriber
at another?

Redis writes its file before it answers (``appendfsync always``), as ``docs/operating.md`` asks for. Publishers, hubs
and Redis share one machine here.
"""

import contextlib
import functools
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator

from bench import hub
from bench.data import event_file
from bench.measure import AGENTPIPE, Answer, Contender, compare

COUNT = 200_000
HOPS = 300
EVERY_S = 0.005
RUNS = ("5eed0000000000000000000000000011", "5eed0000000000000000000000000012")


@contextlib.contextmanager
def hubs(count: int) -> Iterator[list[hub.Hub]]:
    """So many hubs on one new Redis."""
    with hub.redis() as url, contextlib.ExitStack() as stack:
        yield [stack.enter_context(hub.running(url)) for _ in range(count)]


def taken(nodes: int, publishers: int) -> float:
    """Events a second that *publishers* at once, each with a run of its own, bring into *nodes* hubs."""
    with hubs(nodes) as servers, contextlib.ExitStack() as stack:
        files = [stack.enter_context(event_file(COUNT, run_id=run).open("rb")) for run in RUNS[:publishers]]
        started = time.perf_counter()
        running = [
            subprocess.Popen(
                [AGENTPIPE, "publish", servers[number % nodes].url, "--token-file", str(servers[0].token_file)],
                stdin=file,
            )
            for number, file in enumerate(files)
        ]
        statuses = [process.wait() for process in running]
        seconds = time.perf_counter() - started
    if any(statuses):
        raise RuntimeError(f"publish ended with {statuses}")
    return publishers * COUNT / seconds


def hops(publish_to: hub.Hub, read_from: hub.Hub) -> list[float]:
    """Milliseconds from the sending of an event to the bytes of it at a subscriber, one event after another."""
    publisher, subscriber = hub.connect(publish_to.port), hub.connect(read_from.port)
    hub.subscribe(subscriber)
    for link in (publisher, subscriber):
        link.settimeout(30)
    found = []
    for number in range(1, HOPS + 1):
        event = b'{"type":"agent_log_entry","run_id":"hop","agent_id":"bench","sequence":%d,"payload":{"n":"~%d~"}}' % (
            number,
            number,
        )
        started = time.perf_counter()
        publisher.sendall(hub.frame(hub.publish_message([event])))
        seen = b""
        while b"~%d~" % number not in seen:
            piece = subscriber.recv(1 << 16)
            if not piece:
                raise RuntimeError("the hub closed the connection")
            seen = seen[-200:] + piece
        found.append((time.perf_counter() - started) * 1e3)
        time.sleep(EVERY_S)
    publisher.close()
    subscriber.close()
    return found[HOPS // 10 :]


def across() -> list[float]:
    with hubs(2) as (one, other):
        return hops(one, other)


def through(store: str) -> list[float]:
    with hub.running(store) as server:
        return hops(server, server)


def through_one_of_redis() -> list[float]:
    with hub.redis() as url:
        return through(url)


WAYS: dict[str, tuple[Callable[[], list[float]], str | None]] = {
    "two hubs on one Redis: published at one, read at the other": (across, "redis-server"),
    "one hub, Redis": (through_one_of_redis, "redis-server"),
    "one hub, SQLite": (lambda: through("file"), None),
    "one hub, memory": (lambda: through("memory"), None),
}


def latencies(repeats: int) -> list[Answer]:
    """Two percentiles of the same rounds."""
    rounds: dict[str, list[list[float]]] = {name: [] for name in WAYS}

    def median(name: str) -> float:
        rounds[name].append(WAYS[name][0]())
        return statistics.median(rounds[name][-1])

    def late(name: str) -> float:
        return statistics.quantiles(rounds[name].pop(0), n=100)[98]

    return [
        compare(
            f"from publisher to subscriber, one event at a time, {what}",
            [Contender(name, functools.partial(measure, name), needs) for name, (_, needs) in WAYS.items()],
            unit="ms",
            better="lower",
            repeats=repeats,
        )
        for what, measure in (("p50", median), ("p99", late))
    ]


def answers(repeats: int) -> list[Answer]:
    ways = {
        "one hub, one publisher": (1, 1),
        "one hub, two publishers": (1, 2),
        "two hubs, a publisher each": (2, 2),
    }
    ingest = compare(
        "publish into hubs on one Redis, acknowledged, all on two cores",
        [Contender(name, lambda way=way: taken(*way), "redis-server") for name, way in ways.items()],
        unit="events/s",
        repeats=repeats,
    )
    return [ingest, *latencies(repeats)]
