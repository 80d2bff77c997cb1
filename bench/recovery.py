"""How fast does a client that is 10,000 events behind get them: from the window, from the store, alone, with others?

The figure is events of the log a second and client, from the `subscribe` to the last event's bytes. The clients are
one process of its own that counts a character which stands once in every event's text, so it costs little and counts
events however they are joined; for a filter that half of the events match, both halves count as read.
"""

import json
import multiprocessing
import select
import time
from multiprocessing.connection import Connection
from typing import Any

from bench import hub
from bench.data import events
from bench.measure import Answer, Contender, compare

MISSED = 10_000
TOGETHER = 20
MARK = "~"
RUNS = ("5eed0000000000000000000000000001", "5eed0000000000000000000000000002")

#: The window is too small for them: all but the newest 200 come from the store.
SMALL_WINDOW = ("--window", "64KiB")


def missed() -> list[bytes]:
    """Events of two runs in turns, as chunks of texts."""
    runs = [[line.replace(b'"final":true', b'"final":false') for line in events(MISSED // 2, run_id=run, mark=MARK)]
            for run in RUNS]  # fmt: skip
    return [line for pair in zip(*runs, strict=True) for line in pair]


def load(port: int, clients: int, wish: dict[str, Any], wanted: int, pipe: Connection) -> None:
    """The clients: subscribe at once, report how long it took until the last one had *wanted* events."""
    links = [hub.connect(port) for _ in range(clients)]
    poll = select.epoll()
    left = {}
    request = {"type": "subscribe", "id": 1, "since": "start", **wish}
    room = bytearray(1 << 18)
    started = time.perf_counter()
    for link in links:
        link.sendall(hub.frame(json.dumps(request).encode()))
        poll.register(link.fileno(), select.EPOLLIN)
        left[link.fileno()] = (link, wanted)
    while left:
        for fd, _ in poll.poll(30):
            link, count = left[fd]
            size = link.recv_into(room)
            if not size:
                raise RuntimeError("the hub closed the connection")
            count -= room.count(b"~", 0, size)
            left[fd] = (link, count)
            if count <= 0:
                poll.unregister(fd)
                del left[fd]
    pipe.send(time.perf_counter() - started)


def resumed(*options: str, store: str = "memory", clients: int = 1, share: int = 1, **wish: Any) -> float:
    """Events a second and client through a running hub; one of *share* events matches the filter of *wish*."""
    with hub.running(store, *options) as server:
        publisher = hub.connect(server.port)
        lines = missed()
        for first in range(0, MISSED, 500):
            publisher.sendall(hub.frame(hub.publish_message(lines[first : first + 500])))
        _until_stored(publisher)
        taken = []
        for _ in range(5):
            mine, theirs = multiprocessing.Pipe()
            child = multiprocessing.Process(
                target=load, args=(server.port, clients, wish, MISSED // share, theirs), daemon=True
            )
            child.start()
            taken.append(mine.recv() if mine.poll(60) else float("inf"))
            child.join()
        publisher.close()
    return MISSED / sorted(taken)[2]


def _until_stored(publisher: Any) -> None:
    """Read acknowledgements until they count all events."""
    said = b""
    while b'"count":%d}' % MISSED not in said:
        said = said[-200:] + publisher.recv(1 << 16)


def answers(repeats: int) -> list[Answer]:
    first = {"runs": [RUNS[0]]}
    ways = {
        "from the window": {},
        "from the window, a filter that half of them match": {"filter": first, "share": 2},
        "from the window, texts accumulated": {"accumulate": True},
        f"from the window, each of {TOGETHER} clients at once": {"clients": TOGETHER},
    }
    from_store = {name.replace("window", "store"): {"store": "file", **way} for name, way in ways.items()}
    contenders = [Contender(name, lambda way=way: resumed(**way)) for name, way in ways.items()]
    contenders += [Contender(name, lambda way=way: resumed(*SMALL_WINDOW, **way)) for name, way in from_store.items()]
    return [
        compare(
            f"resume of {MISSED:,} missed events",
            contenders,
            unit="events/s",
            repeats=repeats,
            goals=dict.fromkeys((*ways, *from_store), "≥ 50,000"),
        )
    ]
