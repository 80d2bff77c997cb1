"""The account of one run of Codex, which its stream and its rollouts keep alike: acts, tokens, turns and failures.

The rule this module keeps: a failure is told once. Codex says why as an ``error`` and again as the end of the turn;
the turn's end repeats the text in ``run_iteration`` and as the run's error, not as a second ``error`` event.
"""

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Outcome
from agentpipe.parse.codex.acts import Acts
from agentpipe.parse.codex.usage import Meter
from agentpipe.parse.codex.words import problem_of, trouble
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary import usage
from agentpipe.parse.vocabulary.account import Account
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.usage import Tokens

__all__ = ["CodexAccount"]


class CodexAccount(Account):
    """See `agentpipe.parse.adapter.Adapter` for the contract; ``name`` and the readers are the subclass's."""

    agent = "codex"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # given
        self.acts = Acts(self.calls, self.plans, options.max_content)
        self.meter = Meter(self.turns.totals)
        # changing
        self.answer = ""  # the last text of the turn: its result
        self.model = ""
        self._failure = ""  # the last error that was not a retry
        self._turn_open = False
        self._texts_told: dict[str, int] = {}  # texts that have no id of their own, by what they are

    def text_id(self, word: str) -> str:
        """An id for a whole text that has none: ``message-1``, as that of its parts."""
        name = self.open_text_id(word)
        self._texts_told[word] = self._texts_told.get(word, 0) + 1
        return name

    def open_text_id(self, word: str) -> str:
        """The id of the text that is under way."""
        return f"{word}-{self._texts_told.get(word, 0) + 1}"

    def used(self, counts: Tokens, thread: str, stamp: Stamp, context: int | None = None) -> list[Draft]:
        """The running total of *thread* is *counts* now; nothing when that is known already."""
        if not counts or not self.meter.total(counts, thread):
            return []
        return usage.update(stamp, self.meter.totals.counts, cumulative=True, model=self.model, context=context)

    def failed(self, text: str, stamp: Stamp) -> list[Draft]:
        """Codex says that something went wrong: a warning when it tries again, else its API has failed for good."""
        out = trouble("agent", text, stamp.at)
        if out[0].payload["rank"] != "warning":
            self._failure = text
        return out

    def turn_began(self) -> None:
        """A turn has begun."""
        self._turn_open = True
        self.answer = self._failure = ""

    @property
    def failure(self) -> str:
        """The last error of the turn that was not a retry; empty when there was none."""
        return self._failure

    def turn_ended(
        self,
        stamp: Stamp,
        *,
        ok: bool,
        failed: str = "",
        duration_ms: int | None = None,
        cancelled: bool = False,
        **more: JSON,
    ) -> list[Draft]:
        """A turn has ended; *failed* says why it did not end well, as Codex words it."""
        problem = problem_of(failed)
        out = self.turns.ended(
            stamp,
            ok=ok,
            result=self.answer,
            failed=problem.message,
            code=problem.code,
            usage=self.meter.turn() or None,
            duration_ms=duration_ms,
            cancelled=cancelled,
            **more,
        )
        self._turn_open = False
        self.answer = self._failure = ""
        return out

    def outcome(self) -> Outcome:
        """How the run ended by its last turn; one without an end makes the account incomplete."""
        cut = self._turn_open and self.turns.count
        outcome = self.turns.outcome(incomplete="the last turn has no end" if cut else None)
        if not self._failure:
            return outcome
        told = {**outcome.fields, "error": problem_of(self._failure).message}
        return outcome._replace(ok=False, fields=told)
