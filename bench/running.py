"""How many lines a second go through ``run``?"""

from bench.measure import AGENTPIPE, Answer, compare, rate

COUNT = 3_000_000


def answers(repeats: int) -> list[Answer]:
    return [
        compare(
            "run",
            [
                rate("agentpipe run -- seq", f"{AGENTPIPE} run -- seq {COUNT} | cat >/dev/null", COUNT),
                rate("seq | cat", f"seq {COUNT} | cat | cat >/dev/null", COUNT),
                rate("seq | ts", f"seq {COUNT} | ts | cat >/dev/null", COUNT, "ts"),
            ],
            unit="lines/s",
            repeats=repeats,
            goals={"agentpipe run -- seq": "≥ 700,000", "seq | cat": "≥ 0.5 ×"},
        )
    ]
