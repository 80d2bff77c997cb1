"""Retention under faults: the judge by hand-made histories, then a real hub that is killed while it drops events."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.lab.campaign import Campaign, Plan
from tests.faults.lab.checker import Finding, shown
from tests.faults.lab.hubs import SqliteHub
from tests.faults.lab.journal import Confirmed, Declared, Entry, Fact, History, Printed, Told
from tests.faults.lab.killer import chosen_seed
from tests.faults.lab.retained import judge_retained

EPOCH = "e"


def made(run: str, first: int) -> list[Entry]:
    """A run of a start, four marked lines and an end, stored from offset *first* on."""
    kinds = ["run_started", "agent_output", "agent_tool_call", "agent_output", "agent_output", "run_completed"]
    return [
        Entry(first + at, run, at + 1, kind, (at,) if 0 < at < 5 else (), (), 1000 + first + at)
        for at, kind in enumerate(kinds)
    ]


def gap(offset: int, run: str, *ranges: tuple[int, int], name: int = 0) -> Entry:
    return Entry(offset, run, ranges[-1][1], "gap", (), ranges, name or 5000 + offset, "evicted")


ONE, TWO = made("r", 1), made("s", 7)
EVERYTHING = [*ONE, *TWO]
GAP = gap(5, "r", (1, 5))
KEPT = [GAP, ONE[5], *TWO]  # of r all but its end has gone, which is at offset 6
EARLIER = gap(3, "r", (1, 3))  # as a subscriber saw it in between


def history(*facts: Fact, start: int = 0, types: frozenset[str] | None = None) -> History:
    return History("h", [Confirmed(1, None, (EPOCH, start), False), *facts], types)


def told(entries: Sequence[Entry], prev: int | None = None) -> Told:
    return Told(
        1, entries[0].offset - 1 if prev is None else prev, entries[-1].offset, tuple(e.digest for e in entries)
    )


SAW_ALL = history(told(EVERYTHING))
CAME_LATE = history(Declared(1, 1, 4, 4, "evicted"), told(KEPT))
IN_BETWEEN = history(Declared(1, 1, 2, 2, "evicted"), told([EARLIER, *EVERYTHING[3:]]))
FILTERED = history(
    Declared(1, 1, 4, 4, "evicted"),
    Told(1, 4, 12, (GAP.digest, TWO[2].digest)),
    types=frozenset({"agent_tool_call", "gap"}),
)
HISTORIES = [SAW_ALL, CAME_LATE, IN_BETWEEN, FILTERED]
PRINTED = [
    Printed("all", [one.digest for one in EVERYTHING]),
    Printed("late", [one.digest for one in KEPT], missed=4),
]


def judged(
    log: Sequence[Entry] = KEPT,
    histories: Sequence[History] = HISTORIES,
    printed: Sequence[Printed] = (),
    *more: Entry,
) -> set[str]:
    said = {line for one in histories for line in one.lines()} | {line for one in printed for line in one.lines}
    lines = {one.digest: one for one in [*EVERYTHING, GAP, EARLIER, *log] if one.digest in said}
    lines.update({one.digest: one for one in more})
    found = judge_retained({"r": 4, "s": 4}, EPOCH, log, lines, histories, printed)
    return kinds(found)


def kinds(findings: Sequence[Finding]) -> set[str]:
    return {finding.kind for finding in findings}


def test_what_is_as_it_should_be_has_no_findings() -> None:
    assert judged(KEPT, HISTORIES, PRINTED) == set()
    assert judged(EVERYTHING, [SAW_ALL], PRINTED[:1]) == set()


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        pytest.param([GAP, *TWO], "lost", id="the end of a run is not kept"),
        pytest.param([ONE[5], *TWO], "undeclared", id="nothing declares what is gone"),
        pytest.param([gap(5, "r", (1, 4)), ONE[5], *TWO], "undeclared", id="the gap is a number short"),
        pytest.param([gap(5, "r", (2, 5)), ONE[5], *TWO], "undeclared", id="the gap begins late"),
        pytest.param([gap(5, "r", (1, 6)), ONE[5], *TWO], "differs", id="the gap declares what is kept"),
        pytest.param([gap(4, "r", (1, 5)), gap(5, "r", (1, 5)), ONE[5], *TWO], "repeated", id="two gaps of a run"),
        pytest.param([gap(6, "r", (1, 5)), ONE[5]._replace(offset=7), *TWO[1:]], "differs", id="an entry moved on"),
        pytest.param([ONE[5], gap(8, "r", (1, 5)), TWO[0], *TWO[2:]], "differs", id="the gap in another run's place"),
        pytest.param([GAP, ONE[5], *TWO[:2], *TWO[3:]], "undeclared", id="something else went with it"),
        pytest.param([gap(4, "r", (1, 5)), ONE[5], *TWO], "reordered", id="the gap stands too early"),
        pytest.param([GAP._replace(reason="source"), ONE[5], *TWO], "differs", id="another reason is given"),
    ],
)
def test_what_is_wrong_with_what_is_kept_is_found(log: Sequence[Entry], kind: str) -> None:
    assert kind in judged(log, [SAW_ALL])


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        pytest.param(history(told(KEPT, prev=4)), "undeclared", id="a hole without a word"),
        pytest.param(history(told(KEPT), start=4), "", id="placed behind what had gone"),
        pytest.param(history(told(KEPT[1:]), start=5), "undeclared", id="placed behind what is kept"),
        pytest.param(
            history(Declared(1, 1, 5, 5, "evicted"), told(KEPT[1:])), "undeclared", id="declared as gone, and kept"
        ),
        pytest.param(
            history(Declared(1, 1, 4, 3, "evicted"), told(KEPT)), "position", id="a gap that counts too few"
        ),
        pytest.param(history(told(EVERYTHING[:6]), told(EVERYTHING[4:])), "repeated", id="told twice"),
        pytest.param(
            history(told([*EVERYTHING[:4], ONE[5]._replace(offset=5), *EVERYTHING[5:]])), "differs", id="a wrong line"
        ),
        pytest.param(history(told(EVERYTHING[:9])), "undeclared", id="not told to the end"),
        pytest.param(
            History("h", [*FILTERED.facts[:2], Told(1, 4, 12, (GAP.digest,))], FILTERED.types),
            "undeclared",
            id="the filter's line is left out",
        ),
        pytest.param(
            History("h", [*FILTERED.facts[:2], Told(1, 4, 12, (TWO[2].digest, ONE[2].digest))], FILTERED.types),
            "differs",
            id="a line of before comes late",
        ),
        pytest.param(
            History("h", [*SAW_ALL.facts[:1], told(EVERYTHING[:2]), Confirmed(2, (EPOCH, 2), (EPOCH, 4), False),
                          Declared(2, 3, 4, 2, "evicted"), Told(2, 4, 12, tuple(e.digest for e in KEPT))]),
            "", id="a hole of the confirmation, declared behind it",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_what_was_told_is_found(one: History, kind: str) -> None:
    found = judged(KEPT, [SAW_ALL, one])
    assert kind in found if kind else found == set()


@pytest.mark.parametrize(
    ("lines", "missed", "kind"),
    [
        (KEPT, 3, "undeclared"),
        (KEPT, 5, "differs"),
        ([*KEPT[:4], *KEPT[3:]], 3, "repeated"),
        ([*KEPT[:3], KEPT[4], KEPT[3], *KEPT[5:]], 4, "reordered"),
    ],
)
def test_what_is_wrong_with_what_was_printed_is_found(lines: Sequence[Entry], missed: int, kind: str) -> None:
    assert kind in judged(KEPT, HISTORIES, [Printed("p", [one.digest for one in lines], missed)])


def test_a_number_that_came_back_is_found() -> None:
    assert "differs" in judged(KEPT, HISTORIES, (), gap(9, "s", (1, 3)))  # somebody was told of it once


def test_what_is_dropped_while_processes_are_killed_is_declared_to_everybody(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    """Forty rounds are played by hand: ``python -m tests.faults.lab.campaign --rounds 40 --retain 300KB``."""
    flow = {"pieces": 40, "pause_s": 0.01, "within_s": 0.3, "in_flow": True, "lines": False}  # strikes meet somebody
    plan = Plan(rounds=2, events=150, seed=chosen_seed(), targets=["hub", "publisher"], retained=True, **flow)
    hub = SqliteHub(tmp_path, environment, "--retain", "120ev", mutant="retain-often")
    with closing(Campaign(plan, hub, tmp_path, environment)) as campaign:
        outcome = campaign.play()
    assert not outcome.findings, f"seed {plan.seed}: {shown(outcome.findings)}"
    assert sum(outcome.kills.values()) >= 1
    assert 100 < outcome.stored <= 120 + 2  # of the first run the end and a gap
