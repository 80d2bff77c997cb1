"""Tokens as Codex counts them: running totals of a thread, told again and again.

The rule this module keeps: totals are never added up. A turn used what its thread's total grew by; the run used what
all its threads' totals grew by.
"""

from agentpipe.event import JSON
from agentpipe.parse.vocabulary.fields import mapping
from agentpipe.parse.vocabulary.usage import Tokens, Totals, tokens

__all__ = ["Meter", "tokens_of"]


def tokens_of(usage: JSON) -> Tokens:
    """Counts of the wire under the schema's names; ``input_tokens`` of the wire include what was cached."""
    found = mapping(usage)
    return tokens(
        found.get("input_tokens"),
        found.get("output_tokens"),
        found.get("cached_input_tokens"),
        found.get("cache_write_input_tokens"),
        includes_cache=True,
    )


class Meter:
    """What one run and its present turn have used; *totals* are the run's."""

    def __init__(self, totals: Totals) -> None:
        # given
        self.totals = totals
        # changing
        self._threads: dict[str, Totals] = {}
        self._turn: Tokens = {}

    def total(self, counts: Tokens, thread: str) -> bool:
        """Take the running total of *thread*; False when it is what it was."""
        known = self._threads.setdefault(thread, Totals())
        before = dict(known.counts)
        grown, _ = known.grown(counts)
        self.add(grown)
        return known.counts != before

    def add(self, counts: Tokens) -> None:
        """Take the figures of one answer of the model."""
        self.totals.add(counts)
        for name, count in counts.items():
            self._turn[name] = self._turn.get(name, 0) + count

    def turn(self) -> Tokens:
        """What the turn that ends now has used."""
        used, self._turn = self._turn, {}
        return used
