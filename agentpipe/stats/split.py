"""Where the time of one run went: the model, its tools, a human, nobody, or nobody knows.

Every moment between the run's first event and its last is counted once, by what the main agent was doing then:

``tool``     at least one of its calls had no result yet. Calls that ran at once count once, and what a sub-agent does
             is inside the call that started it.
``waiting``  it had asked a human (``permission_request``) and told nothing since. Whether the human or the tool took
             the last part of it cannot be known.
``idle``     between turns, before the first (also while a process had started and told nothing yet), after the last,
             until a human wrote, and pauses before a retry that the agent announced.
``model``    the rest of a turn: the model, its API and the agent's own work.
``unknown``  between turns when nothing tells where the next began; and all of a run whose events have no times of their
             own (a saved log in which only the results are dated, or nothing is).

The rule this module keeps: the five add up to the run's duration, and nothing is guessed into the first four.
"""

from agentpipe.stats.told import Facts, count_of, text_of

__all__ = ["PARTS", "Split"]

PARTS = ("model", "tool", "waiting", "idle", "unknown")

#: By these the main agent shows that it works.
_ACTS = frozenset({"agent_output", "agent_thinking", "agent_tool_call", "agent_tool_result", "permission_request"})
_NO_TIME_OF_THEIR_OWN = frozenset({"heartbeat", "progress_update"})  # the latter is told with the next line that comes
_MADE_BY_MODEL = frozenset({"agent_output", "agent_thinking", "agent_tool_call"})

#: Origins of a text in the user's name by which a human wrote it.
_HUMAN = frozenset({"", "human", "replay"})


#: Calls without a result that are remembered; an agent has some dozens, a log that lost its results any number.
_MOST_OPEN = 1000


class Split:
    """The time of one run, fed with its events in order."""

    def __init__(self) -> None:
        self._spent_ms = dict.fromkeys(PARTS, 0.0)
        self._open: set[str] = set()  # the main agent's calls
        self._asked = False
        self._stretch_ms = 0.0  # of the model, since anything else took time
        self._retry_ms = 0.0  # of the pause that was announced last
        self._first_s: float | None = None
        self._last_s = 0.0
        self._between = True  # no turn is under way
        self._between_ms = 0.0  # since the last turn's end, until the agent was seen to work
        self._began_s = 0.0  # when it was
        self._turns = 0
        self._modelled = False  # whether time ever went by until an event of the model: they have times

    def take(self, type: str, facts: Facts, at_s: float, *, nested: bool) -> None:  # noqa: A002 - the event's field
        """An event at *at_s* (Unix seconds; 0: it has no time); *nested*: it is a sub-agent's."""
        step_ms = 0.0 if type in _NO_TIME_OF_THEIR_OWN else self._step(at_s)
        human = type == "agent_output" and facts.role == "user" and text_of(facts.origin) in _HUMAN and not nested
        if step_ms:
            self._modelled = self._modelled or (type in _MADE_BY_MODEL and facts.role != "user" and not nested)
            self._spend(step_ms, human=human)
        if nested:
            return
        if self._between and (type in _ACTS or human):
            self._begin_turn(human=human)
        if type in _ACTS:
            self._asked = False
        if type == "agent_tool_call" and 0 < at_s < self._last_s:
            self._began_before(at_s)
        self._change(type, facts)

    def report(self, told_ms: int | None, *, by_process: bool = False) -> dict[str, int]:
        """Milliseconds by part; *told_ms* is the duration that the run's end tells, *by_process* as a process's, which
        begins before its first event and ends with the last.
        """
        span_ms = round((self._last_s - self._first_s) * 1000) if self._first_s is not None else 0
        if not self._modelled or (told_ms is not None and span_ms < told_ms / 2):
            return {**dict.fromkeys(PARTS, 0), "unknown": max(span_ms, told_ms or 0)}
        spent = dict(self._spent_ms)
        if self._between:
            spent["idle"] += self._between_ms
        else:
            spent["model" if self._turns == 0 else "unknown"] += self._between_ms
        whole = {part: round(ms) for part, ms in spent.items()}
        whole["idle" if by_process else "unknown"] += max(0, (told_ms or 0) - span_ms)
        return whole

    def _step(self, at_s: float) -> float:
        """Milliseconds since the last event that had a time; a clock that went back stands still."""
        if at_s <= 0:
            return 0.0
        if self._first_s is None:
            self._first_s = self._last_s = at_s
        step_ms = max(0.0, (at_s - self._last_s) * 1000)
        self._last_s = max(self._last_s, at_s)
        return step_ms

    def _spend(self, step_ms: float, *, human: bool) -> None:
        if self._between:
            self._between_ms += step_ms
        elif self._asked:
            self._spent_ms["waiting"] += step_ms
        elif self._open:
            self._spent_ms["tool"] += step_ms
        else:
            paused_ms = step_ms if human else min(step_ms, self._retry_ms)
            self._spent_ms["idle"] += paused_ms
            self._spent_ms["model"] += step_ms - paused_ms
            self._stretch_ms += step_ms - paused_ms
        if self._between or self._asked or self._open:
            self._stretch_ms = 0.0
        self._retry_ms = 0.0

    def _began_before(self, at_s: float) -> None:
        """A call is told late, as agents do that tell it with its result: since *at_s* it was no more the model."""
        moved_ms = min(self._stretch_ms, (self._last_s - at_s) * 1000)
        self._spent_ms["model"] -= moved_ms
        self._spent_ms["tool"] += moved_ms
        self._stretch_ms = 0.0

    def _begin_turn(self, *, human: bool) -> None:
        """The agent is at work again; whoever asked it was idle until then."""
        self._between, self._began_s = False, self._last_s
        if human:
            self._spent_ms["idle"] += self._between_ms
            self._between_ms = 0.0

    def _end_turn(self, took_ms: int | None) -> None:
        """A turn has ended; *took_ms* tells how much of the time before it was seen was already its own."""
        if self._between_ms:
            if took_ms is not None:
                seen_ms = 0.0 if self._between else (self._last_s - self._began_s) * 1000
                own_ms = min(self._between_ms, max(0.0, took_ms - seen_ms))
                self._spent_ms["model"] += own_ms
                self._spent_ms["idle"] += self._between_ms - own_ms
            else:
                self._spent_ms["model" if self._turns == 0 else "unknown"] += self._between_ms
            self._between_ms = 0.0
        self._turns += 1
        self._between = True
        self._open.clear()
        self._asked = False

    def _change(self, type: str, facts: Facts) -> None:  # noqa: A002 - the event's field
        if type == "agent_tool_call" and len(self._open) < _MOST_OPEN:
            self._open.add(text_of(facts.tool_use_id))
        elif type == "agent_tool_result":
            self._open.discard(text_of(facts.tool_use_id))
        elif type == "permission_request":
            self._asked = True
        elif type == "error":
            self._retry_ms = float(count_of(facts.retry_in_ms) or 0)
        elif type == "run_iteration":
            self._end_turn(count_of(facts.duration_ms))
