"""How many events a second go through a filter that changes nothing?"""

from bench.data import event_file
from bench.measure import AGENTPIPE, Answer, compare, rate

COUNT = 1_000_000


def answers(repeats: int) -> list[Answer]:
    path = event_file(COUNT)
    through = "cat {path} | {x} | cat >/dev/null"

    def way(name: str, x: str, needs: str | None = None):  # type: ignore[no-untyped-def]
        return rate(name, through.format(path=path, x=x), COUNT, needs)

    return [
        compare(
            "pass-through",
            [
                way("agentpipe throttle --rate none", f"{AGENTPIPE} throttle --rate none"),
                way("agentpipe buffer", f"{AGENTPIPE} buffer"),
                way("jq -c .", "jq -c .", "jq"),
                way("mlr --jsonl cat", "mlr --ijsonl --ojsonl cat", "mlr"),
                way("cat", "cat"),
            ],
            unit="events/s",
            repeats=repeats,
            goals={"jq -c .": "≥ 9 ×"},
        )
    ]
