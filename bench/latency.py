"""How long from an agent's stdout to a subscriber, through five processes and the hub, at 200 events a second?

The agent is `peers/paced_agent.py`: it prints a line every 5 ms that holds the time it was printed (CLOCK_MONOTONIC,
the same for every process of a machine). The figure is a percentile of arrival minus printing, in milliseconds.
"""

import re
import statistics
import subprocess
import time
from collections.abc import Callable

from bench import hub
from bench.measure import AGENTPIPE, PYTHON, ROOT, Answer, Contender, compare

EVENTS = 1000
AGENT = f"{PYTHON} {ROOT / 'bench' / 'peers' / 'paced_agent.py'}"
STAMP = re.compile(rb"printed=(\d+\.\d+)")


def through_hub() -> list[float]:
    with hub.running("memory") as server:
        link = hub.connect(server.port)
        hub.subscribe(link)
        publish = f"{AGENTPIPE} publish {server.url} --token-file {server.token_file}"
        stages = f"{AGENTPIPE} parse | {AGENTPIPE} throttle --rate 2000/s | {AGENTPIPE} buffer | {publish}"
        return _measured(link, f"{AGENTPIPE} run -- {AGENT} {EVENTS} | {stages}")


def through_websocketd() -> list[float]:
    port = hub.free_port()
    with subprocess.Popen(
        ["websocketd", f"--port={port}", "--address=127.0.0.1", "--loglevel=error", *AGENT.split(), str(EVENTS)]
    ) as server:
        try:
            link = hub.connect_when_up(port, "/")
            return _measured(link, None)
        finally:
            server.terminate()


def _measured(link, command: str | None) -> list[float]:  # type: ignore[no-untyped-def]
    """Delays in milliseconds of all events, read from the raw socket."""
    process = subprocess.Popen(["bash", "-c", command], stdout=subprocess.DEVNULL) if command else None
    delays: list[float] = []
    rest = b""
    link.settimeout(30)
    while len(delays) < EVENTS:
        data = link.recv(1 << 16)
        arrived = time.monotonic()
        if not data:
            break
        rest += data
        end = 0
        for found in STAMP.finditer(rest):
            delays.append((arrived - float(found[1])) * 1e3)
            end = found.end()
        rest = rest[end:][-64:] if end else rest[-64:]
    if process is not None:
        process.wait(30)
    if len(delays) < EVENTS:
        raise RuntimeError(f"{EVENTS - len(delays)} events did not arrive")
    return delays


def percentile(way: Callable[[], list[float]], n: int) -> float:
    """The *n*-th percentile of the delays after the first tenth, which is start-up."""
    delays = way()[EVENTS // 10 :]
    return statistics.quantiles(delays, n=100)[n - 1]


def answers(repeats: int) -> list[Answer]:
    return [
        compare(
            f"latency through five processes at 200 events/s, p{n}",
            [
                Contender("run | parse | throttle | buffer | publish → hub", lambda n=n: percentile(through_hub, n)),
                Contender("websocketd", lambda n=n: percentile(through_websocketd, n), "websocketd"),
            ],
            unit="ms",
            better="lower",
            repeats=repeats,
            goals={"run | parse | throttle | buffer | publish → hub": goal},
        )
        for n, goal in ((50, "≤ 3"), (99, "≤ 20"))
    ]
