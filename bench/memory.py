"""What does a client cost the hub that does nothing, one that has stopped reading, and an active run?

Figures are growth of the hub's resident memory. An idle client has read what was published before and holds a
subscription; the hub has served as many before, so that what the allocator keeps for the next ones is not counted as
theirs. A stalled one subscribes and never reads while 2,000 events/s are published: what it costs beyond the kernel's
buffers. A run is 10,000 events of 200 bytes in a hub without a store.
"""

import resource
import socket
import time

from bench import hub
from bench.data import events
from bench.measure import Answer, Contender, compare

IDLE = 1000
STALLED = 100
RATE = 2000
STALLED_S = 10.0
RUN_EVENTS = 10_000
RUN_BYTES = 200
BATCH = 20


def publish(link: socket.socket, lines: list[bytes], rate: float | None = None) -> None:
    """Publish in batches and wait for each acknowledgement; with *rate* so many events a second."""
    started = time.perf_counter()
    for first in range(0, len(lines), BATCH):
        batch = lines[first : first + BATCH]
        link.sendall(hub.frame(hub.publish_message(batch)))
        while b'"ack"' not in link.recv(1 << 16):
            pass
        if rate:
            time.sleep(max(0.0, started + (first + len(batch)) / rate - time.perf_counter()))


def subscribers(server: hub.Hub, count: int) -> list[socket.socket]:
    """Connections with a subscription each, which have read all that they were sent."""
    links = [hub.connect(server.port) for _ in range(count)]
    for link in links:
        hub.subscribe(link)
    read_all(links)
    return links


def read_all(links: list[socket.socket]) -> None:
    """Read what is there until nothing comes for a moment."""
    room = bytearray(1 << 18)
    for link in links:
        link.settimeout(0.5 if link is links[-1] else 0.02)
        try:
            while link.recv_into(room):
                pass
        except TimeoutError:
            continue


def idle() -> float:
    """Bytes a subscriber that has got some events and is silent now."""
    _allow_files(IDLE + 200)
    with hub.running("memory", "--heartbeat", "29s") as server:
        publisher = hub.connect(server.port)
        lines = events(400)
        publish(publisher, lines[:200])
        for link in subscribers(server, 50):  # what the first ones cost is code and caches
            link.close()
        before = server.resident_bytes()
        links = subscribers(server, IDLE)
        publish(publisher, lines[200:])
        read_all(links)
        grown = server.resident_bytes() - before
        for link in [*links, publisher]:
            link.close()
    return grown / IDLE


def stalled() -> float:
    """Bytes a subscriber that never reads; its socket takes little, so that the kernel's buffers are soon full."""
    with hub.running("memory", "--window", "2MiB", "--heartbeat", "29s") as server:
        publisher = hub.connect(server.port)
        lines = events(20_000 + int(RATE * STALLED_S))
        publish(publisher, lines[:20_000])  # the window is full
        links = [hub.connect(server.port, receive_bytes=4096) for _ in range(STALLED)]
        before = server.resident_bytes()
        for number, link in enumerate(links):  # at places of their own, so that they share no bytes
            hub.subscribe(link, {"last": 1 + 7 * number})
        publish(publisher, lines[20_000:], RATE)
        grown = server.resident_bytes() - before
        for link in [*links, publisher]:
            link.close()
    return grown / STALLED


def run() -> float:
    """Bytes that 10,000 events of 200 bytes take in a hub that has served a few before."""
    with hub.running("memory", "--heartbeat", "29s") as server:
        publisher = hub.connect(server.port)
        publish(publisher, sized("warm", 500))
        before = server.resident_bytes()
        publish(publisher, sized("run", RUN_EVENTS))
        grown = server.resident_bytes() - before
        publisher.close()
    return float(grown)


def sized(run_id: str, count: int) -> list[bytes]:
    """Events of 200 bytes."""
    heads = [b'{"type":"agent_output","run_id":"%b","sequence":%d,"payload":{"text":"' % (run_id.encode(), number)
             for number in range(1, count + 1)]  # fmt: skip
    return [head + b"x" * (RUN_BYTES - len(head) - 3) + b'"}}' for head in heads]


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def answers(repeats: int) -> list[Answer]:
    ways = {
        f"idle subscriber, one of {IDLE}": (idle, "≤ 20,480"),
        f"stalled subscriber, one of {STALLED} at {RATE} events/s": (stalled, "≤ 65,536"),
        f"run of {RUN_EVENTS:,} events of {RUN_BYTES} B": (run, "≤ 2,097,152"),
    }
    return [
        compare(
            "memory of the hub",
            [Contender(name, once) for name, (once, _) in ways.items()],
            unit="bytes",
            better="lower",
            repeats=repeats,
            alike=False,
            goals={name: goal for name, (_, goal) in ways.items()},
        )
    ]
