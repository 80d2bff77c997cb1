"""A campaign: a hub or several, six watchers, and round after round of a pipeline in which processes are killed; then
the judge.

The rule this module keeps: a round is over only when its run's end is stored, a campaign only when every watcher stands
at the head of the log; what then is missing anywhere is a finding, never a matter of waiting.

    python -m tests.faults.lab.campaign --rounds 300 --events 200000     # the full one, about ten minutes
    python -m tests.faults.lab.campaign --minutes 60                     # campaigns of 100 rounds, one after another
    python -m tests.faults.lab.campaign --redis                          # two hubs on one Redis
    python -m tests.faults.lab.campaign --rounds 40 --retain 2000ev      # a hub that drops what is old meanwhile
    AGENTPIPE_SEED=4711 python -m tests.faults.lab.campaign --rounds 20  # the same strikes again
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.lab.checker import Finding, judge_history, judge_pair, judge_printed, judge_store, shown
from tests.faults.lab.hubs import Hubs, SqliteHub
from tests.faults.lab.journal import Entry, digest, entry
from tests.faults.lab.killer import SEED_VARIABLE, Killer, Strike, Target, chosen_seed, schedule
from tests.faults.lab.pipeline import Agent, Pipeline
from tests.faults.lab.proxy import Proxy
from tests.faults.lab.retained import judge_retained
from tests.faults.lab.watchers import PrintingWatcher, RawWatcher

__all__ = ["Campaign", "Outcome", "Plan"]

#: How long a round may take.
PATIENCE_S = 120.0

#: A fault of a proxy holds so long, then the line is well again.
FAULT_S = 0.3

#: What may be killed of the pipeline; the rest falls down with it. Not `run`: its end is the end of the run for those
#: who read it, and what comes after a run's end is none of it.
_STAGES = {"publisher": "publish", "buffer": "buffer", "parse": "parse"}

#: What may happen to the lines meanwhile; `_apply` knows the words.
LINE_FAULTS = tuple(
    Strike(0.0, line, how)
    for line in ("publisher's line", "watchers' line")
    for how in ("cut", "close", "stall", "trickle", "delay", "limit", "silent", "refuse")
)

#: A watcher that comes late joins after this share of the rounds.
LATE = 0.4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a campaign is to do. *targets* are killed, of ``publisher``, ``buffer``, ``parse`` and the hubs' own names;
    *most* times a round, *within_s* of its start, or, with *in_flow*, of the moment in which its first event is stored.
    *pause_s* lies between the *pieces* that the agent prints. *retained*: the hub drops what is old meanwhile.
    """

    rounds: int
    events: int  # marked lines a round
    seed: int
    targets: Sequence[str] = ()  # all of them
    most: int = 2
    within_s: float = 1.2
    in_flow: bool = False
    pieces: int = 12
    pause_s: float = 0.03
    lines: bool = True  # faults of the lines too
    outbox: bool = True
    retained: bool = False
    patience_s: float = 30.0  # who is told nothing for so long at the end is told nothing more


@dataclasses.dataclass
class Outcome:
    """What came of it."""

    plan: Plan
    findings: list[Finding]
    stored: int
    kills: dict[str, int]
    restarts: int
    connections: dict[str, int]
    seconds: float

    def summary(self) -> dict[str, object]:
        """The figures, as JSON takes them."""
        kinds = ("lost", "repeated", "reordered", "undeclared", "position", "differs")
        return {
            "rounds": self.plan.rounds,
            "stored": self.stored,
            "kills": self.kills,
            "pipelines started again": self.restarts,
            "connections": self.connections,
            "seconds": round(self.seconds, 1),
            "seed": self.plan.seed,
            **{kind: sum(finding.kind == kind for finding in self.findings) for kind in kinds},
        }


class Campaign:
    """Plays *plan* against *hubs* in *folder*. Nothing that it starts outlives `close`."""

    def __init__(self, plan: Plan, hubs: Hubs, folder: Path, environment: Mapping[str, str]) -> None:
        # given
        self._plan = plan
        self._hubs = hubs
        self._folder = folder
        self._environment = environment
        self._targets = plan.targets or (*_STAGES, *hubs.targets)
        port = hubs.ports[0]
        self._lines = {name: Proxy(port, seed=plan.seed) for name in ("publisher's line", "watchers' line")}
        self._killer = Killer(
            {
                **hubs.targets,
                **{name: Target(functools.partial(self._pids, stage)) for name, stage in _STAGES.items()},
            }
        )
        self._others = [f"ws://127.0.0.1:{other}" for other in hubs.ports[1:]]
        # changing
        self._pipeline: Pipeline | None = None
        self._repairs: list[tuple[float, Callable[[], None]]] = []
        self._told_lines: dict[int, bytes] = {}  # by digest; only where the store will not have them
        self._printing = [
            PrintingWatcher("printing", folder, environment, hubs.token_file, f"ws://127.0.0.1:{port}", *self._others),
            PrintingWatcher(
                "printing, proxied", folder, environment, hubs.token_file, self._watched.url, *self._others
            ),
        ]
        self._raw = [
            self._watcher("raw", 1),
            self._watcher("slow", 2, slow=0.4),
            self._watcher("filtered", 3, filter_types=["agent_tool_call", "gap"]),
        ]
        self._sent: dict[str, int] = {}
        self._restarts = 0

    @property
    def _watched(self) -> Proxy:
        return self._lines["watchers' line"]

    def _watcher(self, name: str, number: int, **more: Any) -> RawWatcher:
        lines = self._told_lines if self._plan.retained else None
        seed = self._plan.seed + number
        return RawWatcher(name, self._watched.port, self._hubs.token, seed=seed, lines=lines, **more)

    def play(self, say: Callable[[str], None] = lambda text: None) -> Outcome:
        """All rounds, then the judgement. Raises AssertionError when something never ends."""
        started = time.monotonic()
        for number in range(self._plan.rounds):
            if number == max(1, int(LATE * self._plan.rounds)):  # there is something to be late for
                self._raw.append(self._watcher("late", 4))
            self._round(number)
            took = time.monotonic() - started
            say(f"round {number + 1} of {self._plan.rounds}, {took:.0f} s, killed {self._killer.kills}")
        findings, stored = self._judged()
        connections = {one.history.name: one.connections for one in self._raw}
        seconds = time.monotonic() - started
        return Outcome(self._plan, findings, stored, self._killer.kills, self._restarts, connections, seconds)

    def close(self) -> None:
        """End everything that still runs."""
        if self._pipeline is not None:
            self._pipeline.kill()
        for one in (*self._raw, *self._printing):
            with contextlib.suppress(Exception):  # it was told already, or the campaign has failed for a better reason
                one.stop()
        for line in self._lines.values():
            line.close()
        self._hubs.stop()

    # --- one round

    def _round(self, number: int) -> None:
        plan = self._plan
        run = f"round-{number}"
        agent = Agent(self._folder / run, run, plan.events, pieces=plan.pieces, pause_s=plan.pause_s)
        self._sent[run] = agent.count
        urls = [self._lines["publisher's line"].url, *self._others]
        outbox = self._folder / "outbox" if plan.outbox else None
        pipeline = self._pipeline = Pipeline(
            agent, self._folder, self._environment, self._hubs.token_file, urls, outbox=outbox
        )
        faults = LINE_FAULTS if plan.lines else ()
        strikes = schedule(plan.seed, number, self._targets, plan.within_s, most=plan.most, faults=faults)
        self._watched.point(self._hubs.ports[number % len(self._hubs.ports)])  # who comes back, comes to another hub
        before = self._raw[0].offset
        began = started = time.monotonic()
        pipeline.start()
        while not self._over(pipeline):
            now = time.monotonic()
            assert now < started + PATIENCE_S, f"{run} does not end: {pipeline.statuses()}\n{pipeline.notes}"
            if plan.in_flow and self._raw[0].offset == before:
                began = now
            due = [strike for strike in strikes if strike.at_s < now - began]
            strikes = strikes[len(due) :]
            self._strike(due)
            self._repair()
            time.sleep(0.005)
        self._repair(all_of_them=True)
        self._restarts += pipeline.starts - 1

    def _over(self, pipeline: Pipeline) -> bool:
        """Whether the run's end is stored; a pipeline that fell down before that is started again."""
        if not pipeline.ended:
            return False
        if self._hubs.state(pipeline.agent.run) in ("completed", "failed", "cancelled"):
            return True
        pipeline.start()
        return False

    def _strike(self, strikes: Sequence[Strike]) -> None:
        struck = self._killer.strike([strike for strike in strikes if strike.how == "kill"])
        if self._pipeline is not None and _STAGES.keys() & set(struck):
            self._pipeline.fall()
        for strike in strikes:
            if strike.how != "kill":
                self._apply(self._lines[strike.target], strike.how)

    def _apply(self, line: Proxy, how: str) -> None:
        match how:
            case "cut" | "close":
                line.cut(reset=how == "cut")
                return
            case "refuse":
                line.refuse()
                line.cut()
                self._later(line.accept)
                return
            case "stall":
                line.behave(stall=True)
            case "trickle":
                line.behave(trickle_s=0.0)
            case "delay":
                line.behave(delay_s=0.05, jitter_s=0.05)
            case "limit":
                line.behave(limit_bytes=1000)
            case "silent":
                line.behave(silent=True)
                self._later(line.cut)
        self._later(line.behave)

    def _later(self, repair: Callable[[], None]) -> None:
        self._repairs.append((time.monotonic() + FAULT_S, repair))

    def _repair(self, *, all_of_them: bool = False) -> None:
        now = time.monotonic()
        due = [repair for at, repair in self._repairs if at <= now or all_of_them]
        self._repairs = [] if all_of_them else [(at, repair) for at, repair in self._repairs if at > now]
        for repair in due:
            repair()

    def _pids(self, stage: str) -> list[int]:
        return self._pipeline.pids(stage) if self._pipeline is not None else []

    # --- the judgement

    def _judged(self) -> tuple[list[Finding], int]:
        epoch, head = self._hubs.head()
        self._await(head)
        for one in (*self._raw, *self._printing):
            one.stop()
        told = self._told()
        self._hubs.stop()
        log = self._hubs.stored()
        findings = judge_pair("the API", log, told)
        if self._plan.retained:
            return findings + self._judged_by_what_was_seen(epoch, log), len(log)
        findings += judge_store(self._sent, log, whole=self._plan.outbox)
        for printing in self._printing:
            findings += judge_printed(printing.printed(), log)
        for raw in self._raw:
            findings += judge_history(raw.history, epoch, log)
        return findings, len(log)

    def _judged_by_what_was_seen(self, epoch: str, log: Sequence[Entry]) -> list[Finding]:
        for one in self._printing:
            self._told_lines.update((digest(line), line) for line in one.lines())
        lines = {name: entry(0, line) for name, line in self._told_lines.items()}
        histories = [raw.history for raw in self._raw]
        return judge_retained(self._sent, epoch, log, lines, histories, [one.printed() for one in self._printing])

    def _told(self) -> list[Entry]:
        """What the API tells; of a hub that drops what is old, when it has come to an end with that."""
        told = self._hubs.told(list(self._sent))
        while self._plan.retained:
            time.sleep(0.5)
            before, told = told, self._hubs.told(list(self._sent))
            if told == before:
                break
        return told

    def _at_the_end(self, head: int) -> bool:
        """Whether everyone has been told everything. Who prints lines alone is there with the last run's end."""
        if not self._plan.retained:
            return min(one.offset for one in (*self._raw, *self._printing)) >= head
        last = [entry(0, one.last) for one in self._printing if one.offset]
        ends = [one.run for one in last if one.terminal]
        return min(one.offset for one in self._raw) >= head and ends == [list(self._sent)[-1]] * len(self._printing)

    def _await(self, head: int) -> None:
        """Until everyone has been told everything, or nobody is told anything more: that will be a finding."""
        at: list[int] = []
        moved = time.monotonic()
        while not self._at_the_end(head):
            now = [one.offset for one in (*self._raw, *self._printing)]
            if now != at:
                at, moved = now, time.monotonic()
            if time.monotonic() > moved + self._plan.patience_s:
                return
            time.sleep(0.05)


# --- by hand


def main() -> int:
    """What the command line asks for; status 1 when anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--events", type=int, default=67_000, help="events in all rounds of a campaign")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin new campaigns for so long")
    parser.add_argument("--redis", action="store_true", help="two hubs on one Redis, all three killed as well")
    parser.add_argument("--retain", default="", metavar="LIMITS", help="the hub drops what is old, as `serve --retain`")
    options = parser.parse_args()
    if options.redis and options.retain:
        parser.error("--retain is for the hub on a file")
    seed = chosen_seed()
    until = time.monotonic() + 60 * options.minutes
    found = 0
    while True:
        events = -(-options.events // options.rounds)
        plan = Plan(rounds=options.rounds, events=events, seed=seed, retained=bool(options.retain))
        outcome = _played(plan, redis=options.redis, retain=options.retain)
        print(json.dumps(outcome.summary()), flush=True)
        if outcome.findings:
            print(shown(outcome.findings), flush=True)
            found += 1
        if time.monotonic() >= until:
            return 1 if found else 0
        seed += 1
        print(f"{SEED_VARIABLE}={seed}", flush=True)


def _played(plan: Plan, *, redis: bool, retain: str) -> Outcome:
    """One campaign in a folder of its own, which is kept when anything was wrong."""
    folder = Path(tempfile.mkdtemp(prefix="agentpipe-lab-"))
    print(f"files in {folder}, kept when something is found", file=sys.stderr)
    hubs = _hubs(folder, redis=redis, retain=retain)
    with contextlib.closing(Campaign(plan, hubs, folder, _environment(folder))) as campaign:
        outcome = campaign.play(lambda text: print(f"\r{text}  ", end="", file=sys.stderr, flush=True))
    print(file=sys.stderr)
    if not outcome.findings:
        shutil.rmtree(folder)
    return outcome


def _hubs(folder: Path, *, redis: bool, retain: str) -> Hubs:
    if retain:
        return SqliteHub(folder, _environment(folder), "--retain", retain, mutant="retain-often")
    if not redis:
        return SqliteHub(folder, _environment(folder))
    from tests.faults.lab.redis_hubs import RedisHubs  # needs the package's extra

    return RedisHubs(folder, _environment(folder))


def _environment(folder: Path) -> dict[str, str]:
    """Ours, with an empty home and the commands that stand beside our Python."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTPIPE_", "XDG_"))}
    return {**kept, "HOME": str(folder), "PATH": path}


if __name__ == "__main__":
    sys.exit(main())
