"""All runs of one or many logs, and their totals, each session counted once.

The rules this module keeps:

- An event counts once: what comes again with a number that its run has had is *repeated* and left out. Two runs of one
  id whose first events are about different things (a session that was resumed in a process of its own) are two runs.
- A session counts once in the totals, by whoever tells it best: the agent's own output; without that its transcript
  (``<session>/transcript``, with those of its sub-agents, ``<session>/agent-…``); without that its hooks
  (``<session>/hooks``). The other tellers have their rows, and ``counted`` is false there.
- Memory is bounded: beyond a number of runs the oldest (that have ended, as long as there are such) are added to the
  totals and have no row.
"""

from collections.abc import Iterable

from agentpipe.event import JSON
from agentpipe.stats.durations import Durations
from agentpipe.stats.run import TOKENS, Files, RunAccount, Tool, bump
from agentpipe.stats.split import PARTS
from agentpipe.stats.told import Told, opening_of

__all__ = ["Summary"]

#: Runs with a row of their own: some thousand bytes each, and more than anybody reads.
_MOST_RUNS = 5000

#: By this many first events two runs of the same id are told apart.
_OPENING_EVENTS = 8

#: Files of the totals that are named, those with most lines first.
_NAMED_FILES = 20

_TRANSCRIPT, _HOOKS, _SUB_AGENT = "transcript", "hooks", "agent-"


class Summary:
    """Takes events in order and makes the report. *most_runs* bounds the rows."""

    def __init__(self, most_runs: int = _MOST_RUNS) -> None:
        # given
        self._most_runs = most_runs
        # changing
        self._known: dict[str, RunAccount] = {}  # the newest of each id
        self._rows: list[RunAccount] = []  # in the order in which they began
        self._folded = _Totals()  # runs that have no row any more
        self.repeated = 0  # events

    def take(self, told: Told, line: bytes) -> None:
        """An event, as `told` found it in *line*."""
        facts = told.payload
        assert facts is not None  # `told` makes no event without
        run = self._known.get(told.run_id) or self._begin(told, 1)
        if told.type == "gap":
            run.missed(facts)
            return
        number = told.sequence
        if number is not None:
            if number <= run.highest:
                if not self._is_other(run, number, line):
                    self.repeated += 1
                    return
                run = self._begin(told, run.number + 1)
            if number <= _OPENING_EVENTS:
                run.openings[number] = opening_of(line)
            run.highest = number
        run.take(told, facts)

    def report(self) -> dict[str, JSON]:
        """``totals`` and ``runs``; the shape is documented in ``agentpipe-stats``(1)."""
        counted = _counted(self._rows)
        totals = _Totals()
        totals.merge(self._folded)
        for run in self._rows:
            totals.add(run, counted=id(run) in counted)
        rows = []
        for run in self._rows:
            session, teller = _teller(run)
            row = {**run.report(), "session_id": session, "teller": teller, "counted": id(run) in counted}
            rows.append({**row, "tools": _tools(run.tools), "kinds": _kinds(run.tools)})
        return {"totals": {**totals.report(), "repeated_events": self.repeated}, "runs": rows}

    def _begin(self, told: Told, number: int) -> RunAccount:
        if len(self._rows) >= self._most_runs:
            self._fold()
        run = self._known[told.run_id] = RunAccount(told.run_id, told.agent_id, number)
        self._rows.append(run)
        return run

    def _is_other(self, run: RunAccount, number: int, line: bytes) -> bool:
        """Whether an event with a number that *run* has had is another run's."""
        before = run.openings.get(number)
        return before is not None and before != opening_of(line)

    def _fold(self) -> None:
        """Add the oldest runs that have ended, or the oldest of all, to the totals: a tenth of the bound at once."""
        counted = _counted(self._rows)
        leaving = ([run for run in self._rows if run.ended] or self._rows)[: max(1, self._most_runs // 10)]
        for run in leaving:
            self._folded.add(run, counted=id(run) in counted)
            self._folded.folded += 1
            if self._known.get(run.run_id) is run:
                del self._known[run.run_id]
        gone = set(map(id, leaving))
        self._rows = [run for run in self._rows if id(run) not in gone]


class _Totals:
    """The figures of many runs added up."""

    def __init__(self) -> None:
        self.folded = 0
        self.states: dict[str, int] = {}
        self.others = 0  # tellers of sessions that another one tells better
        self.counts = dict.fromkeys(("events", "turns", "failed_turns", "raw"), 0)
        self.time = dict.fromkeys(PARTS, 0)
        self.tools: dict[tuple[str, str], Tool] = {}
        self.files = Files()
        self.tokens: dict[str, int] = {}
        self.untold = {"tokens": 0, "cost_usd": 0, "duration_ms": 0}  # runs that do not tell it
        self.cost_usd: float | None = None
        self.words: dict[str, dict[str, int]] = {"errors": {}, "gaps": {}}
        self.durations = Durations()  # of runs

    def add(self, run: RunAccount, *, counted: bool) -> None:
        """One run; one that is not *counted* is another teller of a session that is."""
        if not counted:
            self.others += 1
            return
        report = run.report()
        bump(self.states, run.state)
        for name in self.counts:
            self.counts[name] += report[name]
        for part, ms in report["time_ms"].items():
            self.time[part] += ms
        for key, tool in run.tools.items():
            self.tools.setdefault(key, Tool()).merge(tool)
        self.files.merge(run.files)
        for table, words in self.words.items():
            for word, count in report[table].items():
                bump(words, word, count)
        self._add_spent(report)

    def merge(self, folded: "_Totals") -> None:
        """The runs that have no row any more, into totals that are empty."""
        self.folded, self.others = folded.folded, folded.others
        self.states = dict(folded.states)
        self.counts, self.time = dict(folded.counts), dict(folded.time)
        for key, tool in folded.tools.items():
            self.tools.setdefault(key, Tool()).merge(tool)
        self.files.merge(folded.files)
        self.tokens, self.untold = dict(folded.tokens), dict(folded.untold)
        self.cost_usd = folded.cost_usd
        self.words = {table: dict(words) for table, words in folded.words.items()}
        self.durations.merge(folded.durations)

    def report(self) -> dict[str, JSON]:
        """The totals as ``--json`` shows them."""
        runs: dict[str, JSON] = {"counted": sum(self.states.values()), **self.states}
        runs |= {"other_tellers": self.others, "without_row": self.folded}
        return {
            "runs": runs,
            **self.counts,
            "duration_ms": self.durations.sum_ms,
            "tokens": {name: self.tokens[name] for name in TOKENS if name in self.tokens},
            "cost_usd": None if self.cost_usd is None else round(self.cost_usd, 9),
            "runs_that_do_not_tell": dict(self.untold),
            "time_ms": self.time,
            "tools": _tools(self.tools),
            "kinds": _kinds(self.tools),
            "files": self.files.report(),
            "most_changed_files": _most_changed(self.files),
            **self.words,
        }

    def _add_spent(self, report: dict[str, JSON]) -> None:
        """Tokens, cost and duration, which not every run tells."""
        for name in self.untold:
            self.untold[name] += name not in report
        for name, count in report.get("tokens", {}).items():
            if name in TOKENS:
                self.tokens[name] = self.tokens.get(name, 0) + count
        if "cost_usd" in report:
            self.cost_usd = (self.cost_usd or 0.0) + report["cost_usd"]
        if "duration_ms" in report:
            self.durations.add(report["duration_ms"])


def _teller(run: RunAccount) -> tuple[str, str]:
    """The session of *run*, and who tells it: ``agent`` for the agent's own output."""
    session, _, suffix = run.run_id.rpartition("/")
    if session and (suffix in (_TRANSCRIPT, _HOOKS) or suffix.startswith(_SUB_AGENT)):
        return session, suffix
    return run.session or run.run_id, "agent"


def _counted(runs: Iterable[RunAccount]) -> set[int]:
    """The runs (by identity) that count in the totals."""
    sessions: dict[str, list[tuple[int, RunAccount]]] = {}
    for run in runs:
        session, teller = _teller(run)
        rank = {"agent": 0, _HOOKS: 2}.get(teller, 1)
        sessions.setdefault(session, []).append((rank, run))
    return {
        id(run) for tellers in sessions.values() for rank, run in tellers if rank == min(other for other, _ in tellers)
    }


def _tools(tools: dict[tuple[str, str], Tool]) -> list[JSON]:
    """Most called first, then by name."""
    order = sorted(tools.items(), key=lambda row: (-row[1].calls, row[0]))
    return [{"name": name, "kind": kind, **tool.report()} for (name, kind), tool in order]


def _kinds(tools: dict[tuple[str, str], Tool]) -> list[JSON]:
    kinds: dict[str, Tool] = {}
    for (_, kind), tool in tools.items():
        kinds.setdefault(kind, Tool()).merge(tool)
    order = sorted(kinds.items(), key=lambda row: (-row[1].calls, row[0]))
    return [{"kind": kind, **tool.report()} for kind, tool in order]


def _most_changed(files: Files) -> list[JSON]:
    order = sorted(files.lines.items(), key=lambda row: (-row[1][0] - row[1][1], -row[1][2], row[0]))
    return [
        {"path": path, "added": added, "removed": removed, "changes": changes, "uncounted": silent}
        for path, (added, removed, changes, silent) in order[:_NAMED_FILES]
    ]
