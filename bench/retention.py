"""How long does a commit wait while half of the store is dropped?

The store's thread alone, as the hub uses it: a commit of 20 events is due every 4 ms (5,000 events a second); between
them it drops a little. What is measured is the time from when a commit was due until it is done.
"""

import functools
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from agentpipe.event import Event, make
from agentpipe.io.sqlite.log import SqliteLog
from agentpipe.io.sqlite.retention import Retention
from agentpipe.store import Commit, Standing
from bench.measure import Answer, Contender, compare

STORE_BYTES = 200 << 20
EVENTS_PER_RUN = 10_000
COMMIT_EVENTS = 20
COMMIT_EVERY_S = 0.004
MEASURED_S = 6.0  # at least, and until half is dropped

AT = "2026-11-20T07:00:00.000Z"


def event(run: str, number: int) -> Event:
    payload = {"message_id": f"m{number // 50}", "index": 0, "text": "x" * 80, "final": False}
    return make("agent_output", payload, run_id=run, agent_id="bench", sequence=number, at=AT)


def put(log: SqliteLog, run: str, last: int, count: int, now: float) -> None:
    events = [event(run, number) for number in range(last + 1, last + count + 1)]
    log.append(Commit(events, {run: Standing(last)}, {run: Standing(last + count)}, ()), now)


@functools.cache
def full_store() -> Path:
    """A folder with a store of runs that go on side by side, four at a time."""
    folder = Path(tempfile.mkdtemp(prefix="agentpipe-bench-"))
    log = SqliteLog(str(folder / "hub.db"))
    size = len(event("run-0", 1).line)
    for first in range(0, STORE_BYTES // size // EVENTS_PER_RUN, 4):
        for last in range(0, EVENTS_PER_RUN, 250):
            for run in range(first, first + 4):
                put(log, f"run-{run}", last, 250, 1e9)
    log.close()
    return folder


def waits(limit: int) -> list[float]:
    """Milliseconds that each commit took, while the store is brought down to *limit* bytes (0: it is left alone)."""
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(full_store() / "hub.db", folder)
        log = SqliteLog(path, retention=Retention(size_bytes=limit))
        taken: list[float] = []
        more = bool(limit)
        began = time.perf_counter()
        due = began
        while more or due < began + MEASURED_S:
            while (left := due - time.perf_counter()) > 0:
                if more:
                    more = log.retain(1e9)
                else:
                    time.sleep(left)
            put(log, "live", COMMIT_EVENTS * len(taken), COMMIT_EVENTS, 1e9)
            taken.append((time.perf_counter() - due) * 1000)
            due += COMMIT_EVERY_S
        log.close()
    return taken


def answers(repeats: int) -> list[Answer]:
    rounds: dict[int, list[list[float]]] = {STORE_BYTES // 2: [], 0: []}

    def once(limit: int) -> float:
        rounds[limit].append(waits(limit))
        return statistics.quantiles(rounds[limit][-1], n=100)[98]

    def longest(limit: int) -> float:
        return max(rounds[limit].pop(0))

    names = {STORE_BYTES // 2: "half of 200 MiB is dropped meanwhile", 0: "nothing is dropped"}
    try:
        return [
            compare(
                f"a commit at 5,000 events/s, {what}",
                [Contender(name, functools.partial(measure, limit)) for limit, name in names.items()],
                unit="ms",
                better="lower",
                repeats=repeats,
                goals={names[STORE_BYTES // 2]: goal},
            )
            for what, measure, goal in (("99th percentile", once, "≤ 20"), ("longest", longest, "≤ 100"))
        ]
    finally:
        shutil.rmtree(full_store())
        full_store.cache_clear()
