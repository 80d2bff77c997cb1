"""Who ends whom, and when: a schedule that comes from a seed alone.

The rule this module keeps: the same seed strikes the same targets at the same moments of the same round, whatever
happened before; so the round that failed can be played again by itself. (What the processes were doing then is up to
the machine: a seed makes a failure likely again, not certain.)
"""

import dataclasses
import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["SEED_VARIABLE", "Killer", "Strike", "Target", "chosen_seed", "schedule"]

SEED_VARIABLE = "AGENTPIPE_SEED"

#: A hub takes about so long to start: it reads its store, makes what is missing, listens.
STARTING_S = 0.5


def chosen_seed() -> int:
    """The seed that the environment asks for, else a new one; printed either way, so that a failure names it."""
    seed = int(os.environ.get(SEED_VARIABLE) or secrets.randbelow(1 << 31))
    print(f"{SEED_VARIABLE}={seed}")
    return seed


@dataclasses.dataclass(frozen=True)
class Strike:
    """At *at_s* (seconds into the round) do this to that: ``kill`` a process, or a fault of a proxy. *again_s*: what is
    started in its place is killed as well, so long after it began, before it is started for good.
    """

    at_s: float
    target: str
    how: str = "kill"
    again_s: float | None = None


def schedule(
    seed: int, number: int, targets: Sequence[str], within_s: float, *, most: int = 2, faults: Sequence[Strike] = ()
) -> list[Strike]:
    """The strikes of round *number*: one to *most* kills at random moments, in half of the rounds two targets in the
    same instant, one in four again while it starts; and, in half of the rounds, one of *faults* at a random moment.
    """
    chance = random.Random(f"{seed}/{number}")
    strikes: list[Strike] = []
    for _ in range(chance.randint(1, most)):
        at_s = chance.uniform(0, within_s)
        together = chance.sample(list(targets), min(len(targets), chance.choice((1, 1, 2))))
        again = [chance.uniform(0, STARTING_S) if chance.random() < 0.25 else None for _ in together]
        strikes += [Strike(at_s, target, again_s=later) for target, later in zip(together, again, strict=True)]
    if faults and chance.random() < 0.5:
        strikes.append(dataclasses.replace(chance.choice(list(faults)), at_s=chance.uniform(0, within_s)))
    return sorted(strikes, key=lambda strike: strike.at_s)


@dataclasses.dataclass
class Target:
    """Something that can be killed: *pids* of the moment (empty: not running), how to start it *again* (None: it is
    somebody else's to start), and how to *begin* that without waiting for it (None: it cannot be killed meanwhile).
    """

    pids: Callable[[], Sequence[int]]
    again: Callable[[], None] | None = None
    begin: Callable[[], None] | None = None


class Killer:
    """Kills by SIGKILL and starts again what has a recipe. ``kills`` counts by target."""

    def __init__(self, targets: Mapping[str, Target]) -> None:
        self._targets = targets
        self.kills = dict.fromkeys(targets, 0)

    def strike(self, strikes: Sequence[Strike]) -> list[str]:
        """Kill these, then start again what has to be, in the order of the targets; those that were running."""
        each = {strike.target: strike for strike in strikes}  # two due at once are one
        struck = [name for name in each if self._kill(name)]
        for name in self._targets:
            if name in struck:
                self._start(name, each[name].again_s)
        return struck

    def _start(self, name: str, again_s: float | None) -> None:
        target = self._targets[name]
        if target.begin is not None and again_s is not None:
            target.begin()
            time.sleep(again_s)
            self._kill(name)
        if target.again is not None:
            target.again()

    def _kill(self, name: str) -> bool:
        pids = self._targets[name].pids()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.kills[name] += bool(pids)
        return bool(pids)
