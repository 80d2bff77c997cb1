"""Runs the benchmarks and writes ``results/results.json``, ``results/TABLE.md`` and the figures in
``docs/operating.md``.

The rule it keeps: nothing in a table is written by hand, neither a figure nor whether a goal is met.
"""

import argparse
import dataclasses
import datetime as dt
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import ROOT, Answer

QUESTIONS = (
    "startup",
    "hook",
    "passthrough",
    "parsing",
    "running",
    "pipe",
    "publishing",
    "fanout",
    "latency",
    "recovery",
    "memory",
    "storm",
    "retention",
    "growth",
    "sizing",
)

#: Asked only by name: twenty minutes, once.
BY_NAME = ("campaign",)

#: What the guide for who runs a hub shows, between two marks: rows of these questions, by how they begin.
GUIDE = ROOT / "docs" / "operating.md"
MARKS = ("<!-- figures: written by bench/run.py -->\n", "<!-- end of figures -->")
SHOWN = (
    "publish into",
    "from publisher",
    "resume of",
    "500 subscribers",
    "memory of",
    "a commit at",
    "a hub's",
    "room for",
)
SHOWN_BY_NAME = ("300 rounds", "100 rounds")

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=(*QUESTIONS, *BY_NAME), help="this question alone; may be repeated"
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count (default 5)")
    options = parser.parse_args()
    found = kept(options.only)
    for name in options.only or QUESTIONS:
        print(f"{name} …", file=sys.stderr)
        for answer in importlib.import_module(f"bench.{name}").answers(options.repeats):
            found[answer.question] = dataclasses.asdict(answer) | {
                "measured": today(1 if name in BY_NAME else options.repeats)
            }
            write(found)


def today(rounds: int) -> str:
    """The day, the commit that was measured or is the one before, and how often it was."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d} {commit}, {rounds} {'round' if rounds == 1 else 'rounds'}"


def kept(only: list[str] | None) -> dict[str, dict]:
    """Earlier answers stay when only some questions are asked again."""
    path = RESULTS / "results.json"
    return json.loads(path.read_text())["answers"] if only and path.exists() else {}


def write(found: dict[str, dict]) -> None:
    RESULTS.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "system": platform.system()}
    document = {"machine": machine, "answers": found}
    (RESULTS / "results.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / "TABLE.md").write_text(f"# Results\n\n{where(machine)} Made by `make bench`.\n\n{table(found)}")
    before, after = GUIDE.read_text().split(MARKS[0])
    GUIDE.write_text(before + MARKS[0] + shown(document) + MARKS[1] + after.split(MARKS[1])[1])


def shown(document: dict) -> str:
    """What the guide shows of the results."""
    found = {name: fields for name, fields in document["answers"].items() if name.startswith(SHOWN + SHOWN_BY_NAME)}
    return f"\n{where(document['machine'])}\n\n{table(found)}\n"


def where(machine: dict) -> str:
    """The machine, in a sentence."""
    return f"Python {machine['python']}, {machine['cores']} cores, {machine['system']}. Medians."


def table(found: dict[str, dict]) -> str:
    rows = [
        "| question | contender | median | min – max | subject is | goal | | measured |",
        "| --- | --- | ---: | --- | --- | --- | --- | --- |",
    ]
    for fields in found.values():
        answer = Answer(**fields)
        for name, figure in answer.figures.items():
            low, high = answer.spread[name]
            ratio = "" if name == answer.subject or not answer.alike else f"{answer.ratio(name):.2f} ×"
            rows.append(
                f"| {answer.question} | {plain(name)} | {show(figure)} {answer.unit} | {show(low)} – {show(high)} "
                f"| {ratio} | {answer.goals.get(name, '')} | {answer.verdict(name) if name in answer.goals else ''} "
                f"| {answer.measured} |"
            )
        rows += [f"| {answer.question} | {plain(name)} | not installed | | | | | |" for name in answer.missing]
    return "\n".join(rows) + "\n"


def plain(name: str) -> str:
    """A shell pipe's bar would end the table's cell."""
    return name.replace("|", "\\|")


def show(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"


if __name__ == "__main__":
    main()
