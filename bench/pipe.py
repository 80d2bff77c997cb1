"""How many events a second go through the five-stage pipe, from a Claude Code log into a hub?"""

from bench import hub
from bench.data import SAMPLE, claude_file
from bench.measure import AGENTPIPE, Answer, Contender, compare, shell_seconds

SIZE_BYTES = 40 * 1000 * 1000


def answers(repeats: int) -> list[Answer]:
    path = claude_file("tour", [SAMPLE], SIZE_BYTES)
    count = path.read_bytes().count(b"\n")

    def five_stages() -> float:
        with hub.running("memory") as server:
            publish = f"{AGENTPIPE} publish {server.url} --token-file {server.token_file}"
            stages = f"{AGENTPIPE} parse | {AGENTPIPE} throttle --rate none | {AGENTPIPE} buffer | {publish}"
            return count / shell_seconds(f"{AGENTPIPE} run -- cat {path} | {stages}")

    def five_jq() -> float:
        return count / shell_seconds(f"cat {path} | jq -c . | jq -c . | jq -c . | jq -c . | jq -c . >/dev/null")

    return [
        compare(
            "five-stage pipe, start-up included",
            [
                Contender("run | parse | throttle | buffer | publish", five_stages),
                Contender("five jq -c .", five_jq, "jq"),
            ],
            unit="lines/s",
            repeats=repeats,
            goals={"run | parse | throttle | buffer | publish": "≥ 150,000"},
        )
    ]
