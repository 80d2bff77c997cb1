"""What does the judge find after random ``kill -9`` over real pipelines: against one hub, and against two on one Redis?

It takes about ten minutes each, so it is played only when it is asked for, and once, whatever ``--repeats`` says. A
campaign that finds something is a figure here like any other; its files are kept where it says.
"""

import json
import shutil
import subprocess

from bench.measure import PYTHON, ROOT, Answer

#: Rounds and events: what is promised of one hub, and a third of it with Redis killed as well.
CAMPAIGNS = {
    "one hub": (300, 200_000, ()),
    "two hubs on one Redis": (100, 67_000, ("--redis",)),
}
KINDS = ("lost", "repeated", "reordered", "undeclared", "position", "differs")


def played(name: str) -> dict:  # type: ignore[type-arg]
    """The summary of one campaign."""
    rounds, events, options = CAMPAIGNS[name]
    command = [PYTHON, "-m", "tests.faults.lab.campaign", "--rounds", str(rounds), "--events", str(events), *options]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    summaries = [line for line in done.stdout.splitlines() if line.startswith(b"{")]
    if not summaries:
        raise RuntimeError(f"the campaign ended with {done.returncode} and no summary")
    return json.loads(summaries[0])


def answers(repeats: int) -> list[Answer]:  # noqa: ARG001 - a question's shape; once is enough here
    found = []
    for name, (rounds, events, options) in CAMPAIGNS.items():
        title = f"{rounds} rounds of kill -9, {name}"
        if options and shutil.which("redis-server") is None:
            found.append(Answer(title, "times", "lower", "", {}, {}, ["redis-server"], {}, alike=False))
            continue
        told = played(name)
        wrong = {kind: float(told[kind]) for kind in KINDS}
        counts = {"events stored": float(told["stored"]), "processes killed": float(sum(told["kills"].values()))}
        found.append(_answer(f"{title}: found", "times", wrong, dict.fromkeys(KINDS, "≤ 0")))
        found.append(_answer(f"{title}: played", "", counts, {"events stored": f"≥ {events:,}"}))
    return found


def _answer(question: str, unit: str, figures: dict[str, float], goals: dict[str, str]) -> Answer:
    spread = {name: (figure, figure) for name, figure in figures.items()}
    return Answer(question, unit, "lower", next(iter(figures)), figures, spread, [], goals, alike=False)
