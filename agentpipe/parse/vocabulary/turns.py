"""Turns, and how the run ended by the agent's own account.

The rule this module keeps: a turn's end is told the moment the agent says so and is never the run's end; the run's
account is that of its last turn, and without any it is not complete.
"""

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft, Outcome
from agentpipe.parse.vocabulary.content import shortened
from agentpipe.parse.vocabulary.drafts import error
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.usage import Tokens, Totals

__all__ = ["Turns"]


class Turns:
    """The turns of one run; *limit* bounds a result's text in bytes."""

    def __init__(self, limit: int) -> None:
        # given
        self._limit = limit
        # changing
        self.totals = Totals()
        self.count = 0
        self.ok: bool | None = None  # of the last turn
        self.cancelled = False  # whether the last turn was interrupted
        self._error = ""
        self._result = ""
        self._spent_ms = 0

    def ended(
        self,
        stamp: Stamp,
        *,
        ok: bool,
        result: str = "",
        failed: str = "",
        code: str = "",
        usage: Tokens | None = None,
        cost_usd: float | None = None,
        duration_ms: int | None = None,
        cancelled: bool = False,
        **more: JSON,
    ) -> list[Draft]:
        """A turn has ended with *result*, or *failed* says why it did not end well; values of *more* that are None or
        empty are left out.
        """
        self.count += 1
        self.ok, self.cancelled = ok, cancelled
        turn: dict[str, JSON] = {"turn": self.count, "ok": ok}
        out: list[Draft] = []
        self._error = ""
        if ok and result:
            turn["result"] = self._result = shortened(result, self._limit)
        if not ok:
            turn["error"] = self._error = shortened(failed or "the turn failed", self._limit)
            out = error("turn", self._error, stamp.at, code=code)
        facts: dict[str, JSON] = {"usage": usage, "cost_usd": cost_usd, "duration_ms": duration_ms, **more}
        turn |= {name: value for name, value in facts.items() if value not in (None, "", {})}
        self._spent_ms += duration_ms or 0
        return [*out, Draft("run_iteration", turn, stamp.at, stamp.scope)]

    def outcome(self, *, incomplete: str | None = None, cancelled: bool = False) -> Outcome:
        """How the run ended. *incomplete* says what is missing besides the end of a turn."""
        fields: dict[str, JSON] = {"turns": self.count}
        if self._error:
            fields["error"] = self._error
        elif self._result:
            fields["result"] = self._result
        if self.totals.counts:
            fields["usage"] = self.totals.counts
        if self.totals.cost_usd is not None:
            fields["cost_usd"] = self.totals.cost_usd
        if not self.count:
            return Outcome(None, cancelled, incomplete or "no result from the agent", fields)
        return Outcome(self.ok, self.cancelled or cancelled, incomplete, fields, self._spent_ms or None)
