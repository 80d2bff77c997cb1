"""Seeded input for the benchmarks: the same bytes on every machine and every run."""

import json
import random
from pathlib import Path

SEED = 20261120
WORK = Path(__file__).resolve().parent.parent / ".make" / "bench"
SAMPLE = Path(__file__).resolve().parent.parent / "docs" / "samples" / "tour.stream.jsonl"


def events(count: int, *, run_id: str = "5eed0000000000000000000000000001", mark: str = "") -> list[bytes]:
    """*count* events of about 254 bytes each, sequence 1…count of one run; *mark* stands once in each text."""
    dice = random.Random(SEED)
    words = ["reads", "writes", "tests", "passes", "fails", "looks", "greps", "edits"]
    lines = []
    for sequence in range(1, count + 1):
        text = mark + " ".join(dice.choices(words, k=4))
        lines.append(
            (
                f'{{"type":"agent_output","run_id":"{run_id}","agent_id":"claude","sequence":{sequence},'
                f'"timestamp":"2026-11-20T07:00:00.123Z","event_id":"{run_id}:{sequence}",'
                f'"payload":{{"message_id":"m1","index":0,"text":{json.dumps(text)},"final":true}}}}'
            ).encode()
        )
    return lines


def event_file(count: int) -> Path:
    """A file of `events`, made once."""
    return _kept(f"events-{count}.ndjson", lambda: b"\n".join(events(count)) + b"\n")


def claude_file(copies: int) -> Path:
    """The project's own recorded Claude Code session, *copies* times, each copy with a session id of its own."""

    def make() -> bytes:
        log = SAMPLE.read_bytes()
        session = json.loads(log.split(b"\n", 1)[0])["session_id"].encode()
        return b"".join(log.replace(session, b"%08d-0000-4000-8000-000000000000" % n) for n in range(copies))

    return _kept(f"claude-{copies}.jsonl", make)


def _kept(name: str, make) -> Path:  # type: ignore[no-untyped-def]
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / name
    if not path.exists():
        path.write_bytes(make())
    return path
