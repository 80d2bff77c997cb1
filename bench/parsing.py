"""How many lines a second does ``parse`` turn into events, on sessions of Claude Code?

Asked of the tour of the documentation and of what several versions were recorded to write, and of the logs in the
folder that ``AGENTPIPE_BENCH_LOGS`` names.
"""

from pathlib import Path

from bench.data import claude_file, claude_logs
from bench.measure import AGENTPIPE, PYTHON, ROOT, Answer, compare, rate

#: Large enough for the start of each program to weigh little: how long that takes is asked by `startup`.
SIZE_BYTES = 64 * 1024 * 1024

#: The jq program takes so much longer that it gets a part of the lines; its rate is the same.
JQ_BYTES = 8 * 1024 * 1024


def answers(repeats: int) -> list[Answer]:
    return [_answer(name, logs, repeats) for name, logs in claude_logs().items()]


def _answer(name: str, logs: list[Path], repeats: int) -> Answer:
    path, less = claude_file(name, logs, SIZE_BYTES), claude_file(name, logs, JQ_BYTES)
    count, fewer = path.read_bytes().count(b"\n"), less.read_bytes().count(b"\n")
    peers = ROOT / "bench" / "peers"
    jq = f"cat {less} | jq -n -c -f {peers / 'parse.jq'} | cat >/dev/null"
    return compare(
        f"parse, {name}",
        [
            rate("agentpipe parse", f"cat {path} | {AGENTPIPE} parse 2>/dev/null | cat >/dev/null", count),
            rate(
                "orjson loads + dumps loop", f"cat {path} | {PYTHON} {peers / 'bare_loop.py'} | cat >/dev/null", count
            ),
            rate("jq program", jq, fewer, "jq"),
        ],
        unit="lines/s",
        repeats=repeats,
        goals={"orjson loads + dumps loop": "≥ 0.6 ×", "jq program": "≥ 5 ×"},
    )
