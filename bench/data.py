"""Seeded input for the benchmarks: the same bytes on every machine and every run."""

import json
import os
import random
import re
from pathlib import Path

SEED = 20261120
RUN_ID = "5eed0000000000000000000000000001"
WORK = Path(__file__).resolve().parent.parent / ".make" / "bench"
SAMPLE = Path(__file__).resolve().parent.parent / "docs" / "samples" / "tour.stream.jsonl"
RECORDINGS = Path(__file__).resolve().parent.parent / "tests" / "agents" / "recordings"

#: A folder with further logs of Claude Code's stream-json, ``*.jsonl``, to be asked about as well.
LOGS_VARIABLE = "AGENTPIPE_BENCH_LOGS"


def events(count: int, *, run_id: str = RUN_ID, mark: str = "") -> list[bytes]:
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


def event_file(count: int, *, run_id: str = RUN_ID) -> Path:
    """A file of `events`, made once."""
    name = f"events-{count}.ndjson" if run_id == RUN_ID else f"events-{run_id}-{count}.ndjson"
    return _kept(name, lambda: b"\n".join(events(count, run_id=run_id)) + b"\n")


def claude_logs() -> dict[str, list[Path]]:
    """Logs of Claude Code by what they are: the tour of the documentation, what its versions were recorded to write,
    and those of the folder that the user names.
    """
    logs = {"tour": [SAMPLE], "recorded": sorted(RECORDINGS.glob("claude-*/*.jsonl"))}
    folder = os.environ.get(LOGS_VARIABLE)
    if folder:
        logs["named"] = sorted(Path(folder).glob("**/*.jsonl"))
    return {name: found for name, paths in logs.items() if (found := [path for path in paths if _is_stream(path)])}


def claude_file(name: str, logs: list[Path], size_bytes: int) -> Path:
    """*logs* one after the other, again and again until *size_bytes* are reached. Each copy has session ids of its own:
    what repeats an earlier session's would be more of its run, and no start or end would be measured.
    """

    def make() -> bytes:
        sources = [(log, _sessions(log)) for log in map(_whole_lines, logs)]
        out = bytearray()
        copy = 0
        while len(out) < size_bytes:
            for log, sessions in sources:
                for session in sessions:
                    copy += 1
                    log = log.replace(session, b"%08d-0000-4000-8000-000000000000" % copy)
                out += log
        return bytes(out)

    return _kept(f"claude-{name}-{size_bytes}.jsonl", make)


def _is_stream(path: Path) -> bool:
    """Whether a file of lines is what the CLI printed, not a session file of it nor what its hooks got."""
    first = path.read_bytes().lstrip().split(b"\n", 1)[0]
    try:
        found = json.loads(first)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("type") == "system" and "session_id" in found


def _whole_lines(path: Path) -> bytes:
    """The lines of a log that are JSON: the loop to compare with cannot read a cut one."""
    return b"".join(line + b"\n" for line in path.read_bytes().split(b"\n") if _is_json(line))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _sessions(log: bytes) -> set[bytes]:
    return set(re.findall(rb'"session_id":"([^"]+)"', log))


def _kept(name: str, make) -> Path:  # type: ignore[no-untyped-def]
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / name
    if not path.exists():
        path.write_bytes(make())
    return path
