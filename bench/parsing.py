"""How many lines a second does ``parse`` turn into events, on a recorded Claude Code session?"""

from bench.data import claude_file
from bench.measure import AGENTPIPE, PYTHON, ROOT, Answer, compare, rate

COPIES = 400


def answers(repeats: int) -> list[Answer]:
    path = claude_file(COPIES)
    count = path.read_bytes().count(b"\n")
    loop = ROOT / "bench" / "peers" / "bare_loop.py"
    program = ROOT / "bench" / "peers" / "parse.jq"
    return [
        compare(
            "parse",
            [
                rate("agentpipe parse", f"cat {path} | {AGENTPIPE} parse | cat >/dev/null", count),
                rate("orjson loads + dumps loop", f"cat {path} | {PYTHON} {loop} | cat >/dev/null", count),
                rate("jq program", f"cat {path} | jq -n -c -f {program} | cat >/dev/null", count, "jq"),
            ],
            unit="lines/s",
            repeats=repeats,
            goals={"orjson loads + dumps loop": "≥ 0.6 ×", "jq program": "≥ 5 ×"},
        )
    ]
