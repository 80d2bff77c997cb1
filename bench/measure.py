"""The frame: run a subject and its peers in turn, take medians, compare.

The rule it keeps: a subject is never measured without its peers in the same rounds, and a peer that cannot run is
reported as missing.
"""

import dataclasses
import operator
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
AGENTPIPE = str(Path(sys.executable).parent / "agentpipe")


@dataclasses.dataclass(frozen=True)
class Contender:
    """A way to answer the question: ``once()`` returns one figure. ``needs`` is a program that must be installed."""

    name: str
    once: Callable[[], float]
    needs: str | None = None

    @property
    def missing(self) -> bool:
        return self.needs is not None and shutil.which(self.needs) is None


@dataclasses.dataclass(frozen=True)
class Answer:
    """Medians of one question: ``figures`` by contender, in ``unit``; ``better`` is ``higher`` or ``lower``.

    A goal is conditions between semicolons (`verdict`); ``measured`` is the day, the commit and the number of rounds.
    Contenders that are not ``alike`` answer a part of the question each, and have no ratio.
    """

    question: str
    unit: str
    better: str
    subject: str
    figures: dict[str, float]
    spread: dict[str, tuple[float, float]]
    missing: list[str]
    goals: dict[str, str]
    alike: bool = True
    measured: str = ""

    def verdict(self, name: str) -> str:
        """Whether the goals at the row *name* are met, each of them by the median: ``≥ 5`` is about the figure,
        ``≥ 5 ×`` about the ratio to this peer, ``≤ + 5`` about what the subject has more than this peer.
        """
        return "; ".join("met" if self._meets(goal, name) else "**not met**" for goal in self.goals[name].split("; "))

    def _meets(self, goal: str, name: str) -> bool:
        found = _GOAL.fullmatch(goal)
        if found is None:
            raise ValueError(f"{self.question}: {goal!r} is no goal")
        if found["ratio"]:
            figure = self.ratio(name)
        elif found["more"]:
            figure = self.figures[self.subject] - self.figures[name]
        else:
            figure = self.figures[name]
        return bool(_COMPARISONS[found["sign"]](figure, float(found["number"].replace(",", ""))))

    def ratio(self, peer: str) -> float:
        """How many times better the subject is than *peer*; under 1 is worse."""
        mine, theirs = self.figures[self.subject], self.figures[peer]
        return mine / theirs if self.better == "higher" else theirs / mine


_COMPARISONS = {"≥": operator.ge, "≤": operator.le, "<": operator.lt, ">": operator.gt}
_GOAL = re.compile(r"(?P<sign>[≥≤<>]) (?P<more>\+ )?(?P<number>[\d,.]+)(?P<ratio> ×)?")


def compare(
    question: str,
    contenders: list[Contender],
    *,
    unit: str,
    better: str = "higher",
    repeats: int = 5,
    goals: dict[str, str] | None = None,
    alike: bool = True,
) -> Answer:
    """Run the contenders in turn, one warm-up round and *repeats* that count. The first contender is the subject;
    *alike*: the others do the same.
    """
    present = [c for c in contenders if not c.missing]
    rounds: dict[str, list[float]] = {c.name: [] for c in present}
    for number in range(repeats + 1):
        for contender in present:
            figure = contender.once()
            if number:
                rounds[contender.name].append(figure)
            print(f"  {question}: {contender.name}: {figure:,.4g} {unit}", file=sys.stderr)
    return Answer(
        question,
        unit,
        better,
        contenders[0].name,
        {name: statistics.median(found) for name, found in rounds.items()},
        {name: (min(found), max(found)) for name, found in rounds.items()},
        [c.name for c in contenders if c.missing],
        goals or {},
        alike,
    )


def shell_seconds(command: str) -> float:
    """Wall seconds of a bash command line, which must succeed."""
    started = time.perf_counter()
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - started


def rate(name: str, command: str, count: int, needs: str | None = None) -> Contender:
    """A contender whose figure is *count* divided by the seconds that *command* takes."""
    return Contender(name, lambda: count / shell_seconds(command), needs)
