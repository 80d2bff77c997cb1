"""How many events a second does ``publish`` bring into a hub, acknowledged?"""

import subprocess
import tempfile
import time
from pathlib import Path

from bench import hub
from bench.data import event_file
from bench.measure import AGENTPIPE, PYTHON, ROOT, Answer, Contender, compare

COUNT = 600_000  # so many that the start of a process counts for little
SLOW_COUNT = 50_000


def published(store: str) -> float:
    with hub.running(store) as server:
        return _timed([AGENTPIPE, "publish", server.url, "--token-file", str(server.token_file)], COUNT)


def published_to_redis() -> float:
    with hub.redis() as url:
        return published(url)


def outboxed(*options: str) -> float:
    with hub.running("file") as server, tempfile.TemporaryDirectory() as folder:
        outbox = ["--outbox", str(Path(folder, "events.outbox")), *options]
        return _timed([AGENTPIPE, "publish", server.url, "--token-file", str(server.token_file), *outbox], COUNT)


def one_by_one() -> float:
    with hub.running("memory") as server:
        return _timed([PYTHON, str(ROOT / "bench" / "peers" / "send_loop.py"), server.url, hub.TOKEN], SLOW_COUNT)


def _timed(command: list[str], count: int) -> float:
    with event_file(count).open("rb") as file:
        started = time.perf_counter()
        subprocess.run(command, stdin=file, check=True, stdout=subprocess.DEVNULL)
        return count / (time.perf_counter() - started)


def answers(repeats: int) -> list[Answer]:
    return [
        compare(
            "publish into a hub, acknowledged, start-up included",
            [
                Contender("agentpipe publish, memory store", lambda: published("memory")),
                Contender("agentpipe publish, SQLite store", lambda: published("file")),
                Contender("agentpipe publish, Redis store", published_to_redis, "redis-server"),
                Contender("agentpipe publish --outbox, SQLite store", outboxed),
                Contender(
                    "agentpipe publish --outbox --sync always, SQLite store", lambda: outboxed("--sync", "always")
                ),
                Contender("websocket-client loop, one event a frame", one_by_one),
            ],
            unit="events/s",
            repeats=repeats,
            goals={
                "agentpipe publish, memory store": "≥ 700,000",
                "agentpipe publish, SQLite store": "≥ 150,000; ≥ 250,000",
                "agentpipe publish --outbox, SQLite store": "≥ 150,000",
            },
        )
    ]
