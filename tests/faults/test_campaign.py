"""Nothing lost, nothing twice: processes of a real pipeline are killed at random moments, and the checker judges.

The full set is run by hand: ``python -m tests.faults.lab.campaign --rounds 300 --events 200000`` (see ``make soak``).
"""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.faults.lab.campaign import Campaign, Outcome, Plan
from tests.faults.lab.checker import shown
from tests.faults.lab.hubs import Hubs, SqliteHub
from tests.faults.lab.journal import entry
from tests.faults.lab.killer import chosen_seed
from tests.faults.lab.pipeline import Agent


@contextmanager
def played(plan: Plan, folder: Path, environment: Mapping[str, str], hubs: Hubs) -> Iterator[Outcome]:
    with closing(Campaign(plan, hubs, folder, environment)) as campaign:
        yield campaign.play()


def test_the_numbers_of_the_agent_do_not_depend_on_when_it_speaks(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    """What everything else here stands on."""
    command = Agent(tmp_path / "log", "r", 10, pieces=3, pause_s=0).command

    def numbers(wait_s: float) -> list[tuple[int, tuple[int, ...]]]:
        late = ["sh", "-c", 'sleep "$0"; exec "$@"', str(wait_s), *command]
        run = subprocess.Popen(
            ["agentpipe", "run", "--run-id", "r", "--", *late], env=environment, stdout=subprocess.PIPE
        )
        lines = subprocess.run(["agentpipe", "parse"], env=environment, stdin=run.stdout, capture_output=True).stdout
        assert run.stdout is not None
        run.stdout.close()
        assert run.wait(30) == 0
        return [entry(0, line)[2:5:2] for line in lines.splitlines()]

    assert numbers(1.3) == numbers(0) == [(1, ()), *((n + 1, (n,)) for n in range(1, 11)), (12, ()), (13, ())]


def one_hub(folder: Path, environment: Mapping[str, str]) -> Hubs:
    return SqliteHub(folder, environment)


def two_hubs(folder: Path, environment: Mapping[str, str]) -> Hubs:
    """On one Redis. Skips where it is not installed."""
    from tests.faults.lab.redis_hubs import RedisHubs

    return RedisHubs(folder, environment)


@pytest.mark.parametrize("made", [one_hub, two_hubs])
def test_kills_at_random_moments_lose_and_repeat_nothing(
    tmp_path: Path, environment: Mapping[str, str], made: Callable[[Path, Mapping[str, str]], Hubs]
) -> None:
    plan = Plan(rounds=4, events=150, seed=chosen_seed())
    with played(plan, tmp_path, environment, made(tmp_path, environment)) as outcome:
        assert not outcome.findings, f"seed {plan.seed}: {shown(outcome.findings)}"
        assert sum(outcome.kills.values()) >= 1
        assert outcome.stored == plan.rounds * (plan.events + 3)  # its start, its turn and its end


#: Strikes while events flow in many small pieces: some are acknowledged, and some on their way, at any moment.
FLOW = {"rounds": 2, "events": 120, "pieces": 40, "pause_s": 0.01, "within_s": 0.3, "in_flow": True, "lines": False}


@pytest.mark.parametrize(
    ("mutant", "targets", "kinds"),
    [
        ("early-acknowledgement", ["hub"], {"lost"}),
        ("no-sequence-check", ["publisher"], {"repeated"}),
        ("cursor-skips-one", ["hub"], {"undeclared"}),
        ("slow-commit", ["hub", "publisher"], set()),
    ],
)
def test_the_checker_finds_what_is_broken_and_nothing_else(
    tmp_path: Path, environment: Mapping[str, str], mutant: str, targets: list[str], kinds: set[str]
) -> None:
    patience_s = 3.0 if kinds else 30.0  # who is not told what he has to be is waited for; else nobody is
    plan = Plan(seed=chosen_seed(), targets=targets, patience_s=patience_s, **FLOW)
    with played(plan, tmp_path, environment, SqliteHub(tmp_path, environment, mutant=mutant)) as outcome:
        found = {finding.kind for finding in outcome.findings}
        assert kinds <= found if kinds else not found, f"seed {plan.seed}: {shown(outcome.findings)}"
