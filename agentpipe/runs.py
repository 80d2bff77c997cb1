"""What has become of each run and agent: the events reduced to a state.

The rule this module keeps: **the state is a function of the events alone**, so that a snapshot taken at one position
and the events after it always add up, and the same log always gives the same state. It is bounded: a run is a few
hundred bytes, and the oldest finished ones leave first.

The shapes are those of ``GET /api/runs`` and ``GET /api/agents`` (``docs/protocol.md``).
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from agentpipe.event import JSON, TERMINAL_TYPES, Event

__all__ = ["Agent", "Run", "Runs"]

#: Runs and agents kept; a person looks at a few hundred, an index of all is the store's business.
MAX_RUNS = 10_000

#: Distinct changed files that are told apart for each run; beyond it the count is "at least".
MAX_FILES = 2000

#: Text that a state shows (results, errors, titles) is cut here: the event has the whole.
MAX_TEXT = 500

#: Beyond this a number says nothing and harms those who read it: an integer of 400 digits is JSON too, but no float,
#: and no number of a page's.
LARGEST = 1 << 53

#: An agent is ``degraded`` when only heartbeats came for this long while its run goes on, ``offline`` when nothing did.
DEGRADED_AFTER_S = 120.0
OFFLINE_AFTER_S = 300.0


class Run(msgspec.Struct, omit_defaults=True, gc=False):
    """The state of one run. Timestamps are those of its events."""

    run_id: str
    agent_id: str = ""
    work_id: str | None = None
    session_id: str | None = None
    state: str = "running"
    started_at: str | None = None
    updated_at: str | None = None
    events: int = 0
    tool_calls: int = 0
    tool_failures: int = 0
    files_changed: int = 0
    turns: int = 0
    title: str | None = None
    model: str | None = None
    progress: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    cost_usd: float | None = None
    result: str | None = None
    reason: str | None = None
    error: str | None = None
    last_type: str | None = None
    _files: set[int] = msgspec.field(default_factory=set, name="_files")

    def shape(self) -> dict[str, JSON]:
        """The run as the API shows it: counts always, the rest when known."""
        shown = {name: getattr(self, name) for name in _SHOWN}
        return {name: value for name, value in shown.items() if value is not None}


_SHOWN = tuple(name for name in Run.__struct_fields__ if not name.startswith("_"))


class Agent(msgspec.Struct, gc=False):
    """The state of one agent; ``last_seen`` counts any event, ``last_progress`` all but heartbeats. Unix seconds."""

    agent_id: str
    seen: float = 0.0
    progressed: float = 0.0
    last_seen: str | None = None
    last_progress: str | None = None
    runs: int = 0
    running: int = 0
    last_run: str = ""
    status: str = "online"

    def shape(self) -> dict[str, JSON]:
        """The agent as the API shows it."""
        return {
            "agent_id": self.agent_id,
            "last_seen": self.last_seen,
            "last_progress": self.last_progress,
            "runs": self.runs,
            "state": "running" if self.running else "idle",
            "status": self.status,
        }


class _Facts(msgspec.Struct, gc=False):
    """The fields of any payload that a state is made of; anything else is skipped, not decoded."""

    ok: Any = None
    path: Any = None
    model: Any = None
    session_id: Any = None
    changed: Any = None
    title: Any = None
    command: Any = None
    agent: Any = None
    percent: Any = None
    done: Any = None
    total: Any = None
    current: Any = None
    eta_s: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_tokens: Any = None
    cache_write_tokens: Any = None
    cumulative: Any = None
    cost_usd: Any = None
    usage: Any = None
    result: Any = None
    reason: Any = None
    error: Any = None
    turns: Any = None


class _Line(msgspec.Struct, gc=False):
    parent_id: Any = None
    payload: _Facts | None = None


class _Stamp(msgspec.Struct, gc=False):
    timestamp: Any = None


_LINE = msgspec.json.Decoder(_Line)
_STAMP = msgspec.json.Decoder(_Stamp)
_USAGE = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


class Runs:
    """The states of all runs and agents, fed with every entry of the log in order."""

    def __init__(self, max_runs: int = MAX_RUNS) -> None:
        # given
        self._max_runs = max_runs
        # changing
        self._runs: dict[str, Run] = {}
        self._agents: dict[str, Agent] = {}

    def apply(self, events: Sequence[Event], now: float) -> None:
        """Reduce *events*; *now* in Unix seconds is when they arrived."""
        last: dict[str, Event] = {}
        for event in events:
            run = self._runs.get(event.run_id)
            if run is None:
                run = self._begin(event)
            run.events += 1
            reduce = _REDUCERS.get(event.type)
            if reduce is not None:
                self._reduce(run, event, reduce)
            if event.type != "content" or event.run_id not in last:
                last[event.run_id] = event
        for run_id, event in last.items():
            self._touch(self._runs[run_id], event, now)
        if len(self._runs) > self._max_runs:
            self._forget()

    def runs(self, limit: int | None = None) -> list[dict[str, JSON]]:
        """The states of the newest *limit* runs, newest first."""
        newest = list(reversed(self._runs.values()))
        return [run.shape() for run in newest[:limit]]

    def run(self, run_id: str) -> dict[str, JSON] | None:
        """The state of one run, or None."""
        run = self._runs.get(run_id)
        return run.shape() if run is not None else None

    def agents(self, limit: int | None = None) -> list[dict[str, JSON]]:
        """The states of the agents that were heard of last."""
        newest = sorted(self._agents.values(), key=lambda agent: agent.seen, reverse=True)
        return [agent.shape() for agent in newest[:limit]]

    def changes(self, now: float) -> list[dict[str, JSON]]:
        """The agents whose liveness is not what it was at the last call: ``agent_id, status, last_seen,
        last_progress``.
        """
        changed = []
        for agent in self._agents.values():
            status = _status(agent, now)
            if status != agent.status:
                agent.status = status
                shape = agent.shape()
                changed.append({name: shape[name] for name in ("agent_id", "status", "last_seen", "last_progress")})
        return changed

    def dump(self) -> bytes:
        """Everything, for `load` after a restart."""
        return msgspec.json.encode({"runs": list(self._runs.values()), "agents": list(self._agents.values())})

    def load(self, saved: bytes) -> None:
        """Take up what `dump` gave. Raises ValueError when it is not that."""
        found = msgspec.json.decode(saved, type=_Saved)
        self._runs = {run.run_id: run for run in found.runs}
        self._agents = {agent.agent_id: agent for agent in found.agents}

    def _begin(self, event: Event) -> Run:
        run = Run(event.run_id, agent_id=event.agent_id, work_id=event.work_id)
        self._runs[event.run_id] = run
        run.started_at = _timestamp(event)
        agent = self._agent(event.agent_id)
        agent.runs += 1
        agent.running += 1
        return run

    def _agent(self, agent_id: str) -> Agent:
        agent = self._agents.get(agent_id)
        if agent is None:
            agent = self._agents[agent_id] = Agent(agent_id)
        return agent

    def _reduce(self, run: Run, event: Event, reduce: "_Reducer") -> None:
        try:
            line = _LINE.decode(event.line)
        except (msgspec.DecodeError, RecursionError):
            line = _Line()  # a payload that is no object, or JSON that only the slow decoder takes
        if event.type in _OF_ONE_AGENT and isinstance(line.parent_id, str) and line.parent_id:
            return  # a sub-agent's, not the run's
        facts = line.payload or _Facts()
        before = run.state
        reduce(run, event, facts)
        if (before == "running") != (run.state == "running"):
            self._agent(run.agent_id).running += 1 if run.state == "running" else -1

    def _touch(self, run: Run, event: Event, now: float) -> None:
        if event.type != "content":  # a part of what the next event tells, no activity of its own
            run.last_type = event.type
        run.updated_at = _timestamp(event) or run.updated_at
        run.work_id = run.work_id or event.work_id
        agent = self._agent(run.agent_id)
        agent.seen, agent.last_seen, agent.last_run = now, run.updated_at, run.run_id
        if event.type != "heartbeat":
            agent.progressed, agent.last_progress = now, run.updated_at

    def _forget(self) -> None:
        """Drop the oldest finished runs, then the oldest of all, down to nine tenths of the limit."""
        excess = len(self._runs) - self._max_runs * 9 // 10
        finished = [run.run_id for run in self._runs.values() if run.state != "running"]
        chosen = finished[:excess] or list(self._runs)[:excess]
        for run_id in chosen:
            run = self._runs.pop(run_id)
            agent = self._agents.get(run.agent_id)
            if agent is None:
                continue
            agent.runs -= 1
            agent.running -= run.state == "running"
            if agent.runs <= 0:
                del self._agents[run.agent_id]


class _Saved(msgspec.Struct):
    runs: list[Run]
    agents: list[Agent]


_Reducer = Callable[[Run, Event, _Facts], None]


def _started(run: Run, event: Event, facts: _Facts) -> None:  # noqa: ARG001 - every reducer's shape
    run.state = "running"
    _identified(run, facts.session_id, facts.model)
    if isinstance(facts.title, str):
        run.title = facts.title[:MAX_TEXT]
    elif isinstance(facts.command, list) and run.title is None:
        run.title = " ".join(part for part in facts.command if isinstance(part, str))[:MAX_TEXT]


def _updated(run: Run, event: Event, facts: _Facts) -> None:  # noqa: ARG001 - every reducer's shape
    """What was not known when the run started."""
    if isinstance(facts.changed, dict):
        _identified(run, facts.changed.get("session_id"), facts.changed.get("model"))


def _identified(run: Run, session_id: JSON, model: JSON) -> None:
    if isinstance(session_id, str) and 0 < len(session_id) <= MAX_TEXT:  # cut, it would be another one's
        run.session_id = session_id
    if isinstance(model, str):
        run.model = model[:MAX_TEXT]


def _called(run: Run, event: Event, facts: _Facts) -> None:  # noqa: ARG001 - every reducer's shape
    run.tool_calls += 1


def _returned(run: Run, event: Event, facts: _Facts) -> None:  # noqa: ARG001 - every reducer's shape
    run.tool_failures += facts.ok is False


def _changed(run: Run, event: Event, facts: _Facts) -> None:  # noqa: ARG001 - every reducer's shape
    if isinstance(facts.path, str) and len(run._files) < MAX_FILES:  # noqa: SLF001 - this module's own field
        run._files.add(_digest(facts.path))  # noqa: SLF001 - this module's own field
        run.files_changed = len(run._files)  # noqa: SLF001 - this module's own field


def _progressed(run: Run, event: Event, facts: _Facts) -> None:  # noqa: ARG001 - every reducer's shape
    numbers = {name: getattr(facts, name) for name in ("percent", "done", "total", "eta_s")}
    progress: dict[str, JSON] = {name: value for name, value in numbers.items() if _is_number(value)}
    if isinstance(facts.current, str):
        progress["current"] = facts.current[:MAX_TEXT]
    run.progress = progress


def _used(run: Run, event: Event, facts: _Facts) -> None:  # noqa: ARG001 - every reducer's shape
    if facts.cumulative is not True:
        return  # figures of one message; the turn's or the run's own total replaces them
    usage = {name: getattr(facts, name) for name in _USAGE}
    run.usage = {name: value for name, value in usage.items() if _is_count(value)}
    _cost(run, facts)


def _turned(run: Run, event: Event, facts: _Facts) -> None:  # noqa: ARG001 - every reducer's shape
    run.turns += 1
    _outcome(run, facts)


def _ended(run: Run, event: Event, facts: _Facts) -> None:
    run.state = event.type.removeprefix("run_")
    if _is_count(facts.turns):
        run.turns = max(run.turns, facts.turns)
    if isinstance(facts.reason, str):
        run.reason = facts.reason[:MAX_TEXT]
    _outcome(run, facts)


def _outcome(run: Run, facts: _Facts) -> None:
    if isinstance(facts.result, str):
        run.result = facts.result[:MAX_TEXT]
    if isinstance(facts.error, str):
        run.error = facts.error[:MAX_TEXT]
    if isinstance(facts.usage, dict):
        run.usage = {name: facts.usage[name] for name in _USAGE if _is_count(facts.usage.get(name))}
    _cost(run, facts)


def _cost(run: Run, facts: _Facts) -> None:
    if _is_number(facts.cost_usd):
        run.cost_usd = float(facts.cost_usd)


def _is_count(value: object) -> bool:
    return type(value) is int and abs(value) <= LARGEST


def _is_number(value: object) -> bool:
    return _is_count(value) or (type(value) is float and abs(value) <= LARGEST)


_REDUCERS: dict[str, _Reducer] = {
    "agent_state_update": _updated,
    "agent_tool_call": _called,
    "agent_tool_result": _returned,
    "file_changed": _changed,
    "file_operation": _changed,
    "progress_update": _progressed,
    "run_iteration": _turned,
    "run_started": _started,
    "usage_update": _used,
    **dict.fromkeys(sorted(TERMINAL_TYPES), _ended),
}


#: What an agent tells of itself. A sub-agent's calls and files are the run's too; how far it has come, its turns, its
#: model and its sums are not: the turn that it was called in counts them.
_OF_ONE_AGENT = frozenset({"agent_state_update", "progress_update", "run_iteration", "usage_update"})


def _digest(path: str) -> int:
    """A number that stands for a path across restarts (`hash` is salted by process)."""
    number = 14695981039346656037  # FNV-1a, 64 bit
    for byte in path.encode(errors="surrogatepass"):
        number = (number ^ byte) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
    return number


def _timestamp(event: Event) -> str | None:
    try:
        found = _STAMP.decode(event.line).timestamp
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if isinstance(found, str) and len(found) < 64 else None


def _status(agent: Agent, now: float) -> str:
    if not agent.running:
        return "online" if now - agent.seen < OFFLINE_AFTER_S else "offline"
    if now - agent.seen >= OFFLINE_AFTER_S:
        return "offline"
    return "degraded" if now - agent.progressed >= DEGRADED_AFTER_S else "online"
