"""How long until 500 subscribers whose connections are all cut at once have everything again, ten times over?

2,000 events/s are published meanwhile. A client is back when it has all that the log held when it was greeted again;
its wait before coming back, the same that our own clients make, is counted too. A storm in which anybody missed or
repeated an event has no figure: it fails.
"""

from bench import hub
from bench.measure import Answer, Contender, compare
from tests.faults.lab.storm import Result, storm

CLIENTS = 500
KICKS = 10
RATE = 2000.0


def one() -> Result:
    """A storm over a hub with a SQLite store."""
    with hub.running("file") as server:
        found = storm(server.port, hub.TOKEN, clients=CLIENTS, kicks=KICKS, rate=RATE)
    if found.wrong:
        raise RuntimeError(f"the storm lost or repeated something: {found.wrong}")
    return found


def answers(repeats: int) -> list[Answer]:
    """Both figures of a round are of one storm."""
    rounds: list[Result] = []

    def last_of_all() -> float:
        rounds.append(one())
        return max(rounds[-1].waves)

    return [
        compare(
            f"{CLIENTS} subscribers cut {KICKS} times each at {RATE:,.0f} ev/s: back with everything after",
            [
                Contender("agentpipe serve, the last of all", last_of_all),
                Contender("agentpipe serve, on average", lambda: rounds[-1].average),
            ],
            unit="s",
            better="lower",
            repeats=repeats,
            alike=False,
            goals={"agentpipe serve, the last of all": "< 5", "agentpipe serve, on average": "< 3"},
        )
    ]
