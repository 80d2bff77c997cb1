"""Runs the benchmarks and writes ``results/results.json`` and ``results/TABLE.md``."""

import argparse
import dataclasses
import importlib
import json
import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import Answer

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
)
RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=QUESTIONS, help="this question alone; may be repeated")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count (default 5)")
    options = parser.parse_args()
    found = kept(options.only)
    for name in options.only or QUESTIONS:
        print(f"{name} …", file=sys.stderr)
        for answer in importlib.import_module(f"bench.{name}").answers(options.repeats):
            found[answer.question] = dataclasses.asdict(answer)
            write(found)


def kept(only: list[str] | None) -> dict[str, dict]:
    """Earlier answers stay when only some questions are asked again."""
    path = RESULTS / "results.json"
    return json.loads(path.read_text())["answers"] if only and path.exists() else {}


def write(found: dict[str, dict]) -> None:
    RESULTS.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "system": platform.system()}
    document = {"machine": machine, "answers": found}
    (RESULTS / "results.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / "TABLE.md").write_text(table(found, machine))


def table(found: dict[str, dict], machine: dict) -> str:
    where = f"Python {machine['python']}, {machine['cores']} cores, {machine['system']}"
    head = f"# Results\n\n{where}. Medians; made by `make bench`.\n"
    rows = [
        "| question | contender | median | min – max | subject is | goal |",
        "| --- | --- | ---: | --- | --- | --- |",
    ]
    for fields in found.values():
        answer = Answer(**fields)
        for name, figure in answer.figures.items():
            low, high = answer.spread[name]
            ratio = "" if name == answer.subject else f"{answer.ratio(name):.2f} ×"
            rows.append(
                f"| {answer.question} | {plain(name)} | {show(figure)} {answer.unit} | {show(low)} – {show(high)} "
                f"| {ratio} | {answer.goals.get(name, '')} |"
            )
        rows += [f"| {answer.question} | {plain(name)} | not installed | | | |" for name in answer.missing]
    return head + "\n" + "\n".join(rows) + "\n"


def plain(name: str) -> str:
    """A shell pipe's bar would end the table's cell."""
    return name.replace("|", "\\|")


def show(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"


if __name__ == "__main__":
    main()
