"""The account of one run: calls, files, tokens, errors and time, counted as its events come.

The rules this module keeps: a total that the run tells itself is never added to the parts that make it up; every table
is bounded, and what goes beyond a bound is still counted, only not told apart.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from agentpipe.event import JSON, seconds
from agentpipe.stats.durations import Durations
from agentpipe.stats.split import Split
from agentpipe.stats.told import Facts, Told, count_of, number_of, text_of

__all__ = ["TOKENS", "Files", "RunAccount", "Tool", "Usage", "bump"]

TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")

#: Tools told apart in one run; an agent has some dozens, and those of MCP servers.
_MOST_TOOLS = 300

#: Distinct files told apart in one run, as the hub's index has it.
_MOST_FILES = 2000

#: Kinds of a small table (ranks, reasons) told apart: the schema has five.
_MOST_WORDS = 20

#: Texts that a row shows are cut here.
_SHOWN = 200

_STATES = {"run_completed": "completed", "run_failed": "failed", "run_cancelled": "cancelled"}
_UNDATED = "1970-01-01T00:00:00.000Z"  # what parse says of a line without a time when it is read at second 0
_BEYOND = "(further)"


def bump(table: dict[str, int], word: str, by: int = 1) -> None:
    """Count *word*; beyond the bound it is counted with others."""
    key = word if word in table or len(table) < _MOST_WORDS else _BEYOND
    table[key] = table.get(key, 0) + by


class Tool(msgspec.Struct, gc=False):
    """What is counted of one tool, or of one kind of tools."""

    calls: int = 0
    results: int = 0
    failures: int = 0
    durations: Durations = msgspec.field(default_factory=Durations)

    def merge(self, other: "Tool") -> None:
        """All of *other* as well."""
        self.calls += other.calls
        self.results += other.results
        self.failures += other.failures
        self.durations.merge(other.durations)

    def report(self) -> dict[str, JSON]:
        """``calls failures unanswered`` and the durations."""
        unanswered = max(0, self.calls - self.results)
        return {
            "calls": self.calls, "failures": self.failures, "unanswered": unanswered, **self.durations.report(),
        }  # fmt: skip


class Files:
    """Files that changed, by path: lines added and removed."""

    def __init__(self) -> None:
        self.lines: dict[str, list[int]] = {}  # added, removed, changes, and how many of these say nothing about lines
        self.added = self.removed = 0
        self.uncounted = 0  # changes that say nothing about lines
        self.beyond = 0  # changes of files that are not told apart any more

    def take(self, facts: Facts) -> None:
        """A file has changed."""
        added, removed = count_of(facts.added), count_of(facts.removed)
        silent = added is None and removed is None
        self._add(text_of(facts.path), [added or 0, removed or 0, 1, silent])

    def merge(self, other: "Files") -> None:
        """All of *other* as well; a file of the same path is the same file."""
        for path, row in other.lines.items():
            self._add(path, row)
        self.beyond += other.beyond
        told = [sum(column) for column in zip(*other.lines.values(), strict=True)] or [0, 0, 0, 0]
        self.added += other.added - told[0]
        self.removed += other.removed - told[1]
        self.uncounted += other.uncounted - told[3]

    def report(self) -> dict[str, JSON]:
        """``files changes added removed uncounted``; ``at_least`` when there are more files than were told apart."""
        told: dict[str, JSON] = {
            "files": len(self.lines), "changes": sum(row[2] for row in self.lines.values()) + self.beyond,
            "added": self.added, "removed": self.removed, "uncounted": self.uncounted,
        }  # fmt: skip
        return {**told, "at_least": True} if self.beyond else told

    def _add(self, path: str, row: Sequence[int]) -> None:
        self.added += row[0]
        self.removed += row[1]
        self.uncounted += row[3]
        if path not in self.lines and len(self.lines) >= _MOST_FILES:
            self.beyond += row[2]
            return
        known = self.lines.get(path, (0, 0, 0, 0))
        self.lines[path] = [mine + more for mine, more in zip(known, row, strict=True)]


class Usage:
    """Tokens and cost of one run, by who tells them: its end, its own running total, its turns, or its messages. The
    first of these that tells anything is taken, and they are never added to each other.
    """

    def __init__(self) -> None:
        self._told: dict[str, dict[str, float]] = {}
        self.provisional = False  # whether the sum over the messages holds some that were not final

    def take(self, event_type: str, facts: Facts, *, nested: bool) -> None:
        """An event that may tell tokens or cost."""
        if event_type == "usage_update":
            if facts.cumulative is True:
                if not nested:
                    self._told["total"] = _amounts(msgspec.structs.asdict(facts))
                return
            self.provisional = self.provisional or facts.provisional is True
            self._add("messages", _amounts(msgspec.structs.asdict(facts)))
        elif not nested:
            usage = facts.usage if type(facts.usage) is dict else {}
            found = _amounts({**usage, "cost_usd": facts.cost_usd})
            if event_type == "run_iteration":
                self._add("turns", found)
            else:
                self._told["run"] = found

    def report(self) -> dict[str, JSON]:
        """``tokens`` (with ``basis``) and ``cost_usd``, each when something tells it."""
        shown: dict[str, JSON] = {}
        for basis in ("run", "total", "turns", "messages"):
            told = self._told.get(basis, {})
            tokens = {name: int(told[name]) for name in TOKENS if name in told}
            if tokens and "tokens" not in shown:
                shown["tokens"] = {**tokens, "basis": basis}
                if basis == "messages" and self.provisional:
                    shown["tokens"]["at_least"] = True
            if "cost_usd" in told and "cost_usd" not in shown:
                shown["cost_usd"] = round(told["cost_usd"], 9)
        return shown

    def _add(self, basis: str, amounts: Mapping[str, float]) -> None:
        table = self._told.setdefault(basis, {})
        for name, amount in amounts.items():
            table[name] = table.get(name, 0) + amount


def _amounts(found: Mapping[str, JSON]) -> dict[str, float]:
    """The tokens and the cost that *found* tells."""
    told: dict[str, float] = {}
    for name in TOKENS:
        count = count_of(found.get(name))
        if count is not None:
            told[name] = count
    cost = number_of(found.get("cost_usd"))
    return told if cost is None else {**told, "cost_usd": cost}


class RunAccount:
    """One run; *number* tells apart those that have the same id and are not the same (a session that was resumed)."""

    def __init__(self, run_id: str, agent_id: str, number: int = 1) -> None:
        # given
        self.run_id = run_id
        self.agent_id = agent_id
        self.number = number
        # changing
        self.highest = 0  # the sequence number seen last
        self.openings: dict[int, int] = {}  # what the first events are about, by sequence
        self.ended = False
        self.session = ""
        self.tools: dict[tuple[str, str], Tool] = {}  # by name and kind
        self.files = Files()
        self.usage = Usage()
        self.split = Split()
        self.errors: dict[str, int] = {}  # by rank
        self.gaps: dict[str, int] = {}  # events, by reason
        self.state = "unfinished"
        self.events = self.turns = self.failed_turns = self.raw = 0
        self._agent = self._model = self._incomplete = ""
        self._started = ""
        self._told_ms: int | None = None
        self._by_process = False  # whether that is the time of a process

    def take(self, told: Told, facts: Facts) -> None:
        """The next event of the run."""
        self.events += 1
        nested = told.parent_id is not None
        self.split.take(told.type, facts, _at(told.timestamp), nested=nested)
        if not self._started and told.timestamp != _UNDATED:
            self._started = told.timestamp[:_SHOWN]
        reader = _READERS.get(told.type)
        if reader is not None and not (nested and told.type in _OF_ONE_AGENT):
            reader(self, facts)
        if told.type in _WITH_USAGE:
            self.usage.take(told.type, facts, nested=nested)

    def missed(self, facts: Facts) -> None:
        """A ``gap``: events that were made and are not here."""
        bump(self.gaps, text_of(facts.reason)[:_SHOWN] or "unknown", count_of(facts.count) or 0)

    @property
    def duration_ms(self) -> int | None:
        """How long the run took, by its events or by its end, whichever is longer; None when neither tells."""
        return sum(self.time.values()) or None

    @property
    def time(self) -> dict[str, int]:
        """Milliseconds by what they were spent on; see `agentpipe.stats.split`."""
        return self.split.report(self._told_ms, by_process=self._by_process)

    def report(self) -> dict[str, JSON]:
        """The run's own figures; what nothing tells is left out."""
        words = {
            "run_id": self.run_id, "execution": self.number if self.number > 1 else "", "session_id": self.session,
            "agent_id": self.agent_id, "agent": self._agent, "model": self._model, "state": self.state,
            "started_at": self._started, "incomplete": self._incomplete,
        }  # fmt: skip
        shown: dict[str, JSON] = {name: value for name, value in words.items() if value != ""}
        took_ms = self.duration_ms
        if took_ms is not None:
            shown["duration_ms"] = took_ms
        return {
            **shown,
            "events": self.events,
            "turns": self.turns,
            "failed_turns": self.failed_turns,
            **self.usage.report(),
            "time_ms": self.time,
            "files": self.files.report(),
            "errors": dict(self.errors),
            "gaps": dict(self.gaps),
            "raw": self.raw,
        }

    def _tool(self, facts: Facts) -> Tool:
        key = (text_of(facts.name)[:_SHOWN] or "unknown", text_of(facts.kind)[:_SHOWN] or "other")
        if key not in self.tools and len(self.tools) >= _MOST_TOOLS:
            key = (_BEYOND, "other")
        return self.tools.setdefault(key, Tool())

    def _start(self, facts: Facts) -> None:
        self._agent = text_of(facts.agent)[:_SHOWN]
        self._learn(facts.model, facts.session_id)

    def _learn(self, model: JSON, session: JSON) -> None:
        self._model = text_of(model)[:_SHOWN] or self._model
        self.session = text_of(session)[:_SHOWN] or self.session

    def _state(self, facts: Facts) -> None:
        if type(facts.changed) is dict:
            self._learn(facts.changed.get("model"), facts.changed.get("session_id"))

    def _called(self, facts: Facts) -> None:
        self._tool(facts).calls += 1

    def _returned(self, facts: Facts) -> None:
        tool = self._tool(facts)
        tool.results += 1
        tool.failures += facts.ok is False
        took_ms = count_of(facts.duration_ms)
        if took_ms is not None:
            tool.durations.add(took_ms)

    def _changed(self, facts: Facts) -> None:
        self.files.take(facts)

    def _failed(self, facts: Facts) -> None:
        bump(self.errors, text_of(facts.rank)[:_SHOWN] or "unknown")

    def _turned(self, facts: Facts) -> None:
        self.turns += 1
        self.failed_turns += facts.ok is False

    def _kept(self, facts: Facts) -> None:  # noqa: ARG002 - every reader's shape
        self.raw += 1

    def end(self, type: str, facts: Facts) -> None:  # noqa: A002 - the event's field
        """The run's last event."""
        self.ended = True
        self.state = _STATES[type]
        self._told_ms = count_of(facts.duration_ms) or None
        self._by_process = text_of(facts.reason) not in ("", "input_ended")
        self._incomplete = text_of(facts.incomplete)[:_SHOWN]
        self.turns = max(self.turns, count_of(facts.turns) or 0)


def _at(timestamp: str) -> float:
    """Unix seconds; 0 for what is no time."""
    try:
        return seconds(timestamp)
    except (ValueError, OverflowError):
        return 0.0


#: What an agent tells of itself; a sub-agent's turn is in its call.
_OF_ONE_AGENT = frozenset({"agent_state_update", "run_iteration"})

_WITH_USAGE = frozenset({"usage_update", "run_iteration", *_STATES})

_READERS: dict[str, Callable[[RunAccount, Facts], None]] = {
    "agent_state_update": RunAccount._state,  # noqa: SLF001 - the class's own table
    "agent_tool_call": RunAccount._called,  # noqa: SLF001 - the class's own table
    "agent_tool_result": RunAccount._returned,  # noqa: SLF001 - the class's own table
    "error": RunAccount._failed,  # noqa: SLF001 - the class's own table
    "file_changed": RunAccount._changed,  # noqa: SLF001 - the class's own table
    "raw": RunAccount._kept,  # noqa: SLF001 - the class's own table
    "run_iteration": RunAccount._turned,  # noqa: SLF001 - the class's own table
    "run_started": RunAccount._start,  # noqa: SLF001 - the class's own table
    "run_completed": lambda run, facts: run.end("run_completed", facts),
    "run_failed": lambda run, facts: run.end("run_failed", facts),
    "run_cancelled": lambda run, facts: run.end("run_cancelled", facts),
}
