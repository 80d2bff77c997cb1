"""Tokens and cost in one meaning, whatever the agent counts.

The rules this module keeps: ``input_tokens`` is without the cache, which is told apart; what an agent does not tell is
left out, not zero; figures of one message or turn (``cumulative`` false) are never mixed with totals of the run; no
cost is made up.
"""

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.fields import number, whole
from agentpipe.parse.vocabulary.stamp import Stamp

__all__ = ["Tokens", "Totals", "tokens", "update"]

#: The schema's names of what is counted.
Tokens = dict[str, int]

NAMES = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def tokens(
    given: JSON, output: JSON, cache_read: JSON = None, cache_write: JSON = None, *, includes_cache: bool = False
) -> Tokens:
    """Counts under the schema's names; what is no number is left out. *includes_cache*: *given* counts the cached
    tokens too (Codex, Gemini), so they are taken off.
    """
    counts = {name: whole(value) for name, value in zip(NAMES, (given, output, cache_read, cache_write), strict=True)}
    found = {name: max(0, count) for name, count in counts.items() if count is not None}
    if includes_cache and "input_tokens" in found:
        cached = found.get("cache_read_tokens", 0) + found.get("cache_write_tokens", 0)
        found["input_tokens"] = max(0, found["input_tokens"] - cached)
    return found


def update(
    stamp: Stamp, counts: Tokens, *, cumulative: bool, model: str = "", cost: JSON = None, context: int | None = None
) -> list[Draft]:
    """A ``usage_update``; nothing when nothing is known. *context* is how many tokens the model's window holds."""
    cost_usd = number(cost)
    if not counts and cost_usd is None:
        return []
    payload: dict[str, JSON] = {"model": model} if model else {}
    payload |= {"input_tokens": 0, "output_tokens": 0, **counts, "cumulative": cumulative}
    if cost_usd is not None:
        payload["cost_usd"] = cost_usd
    if context is not None:
        payload["context_used"] = context
    return [Draft("usage_update", payload, stamp.at, stamp.scope)]


class Totals:
    """What one run has used, added up or as the source's own running total."""

    def __init__(self) -> None:
        self.counts: Tokens = {}
        self.cost_usd: float | None = None

    def add(self, counts: Tokens, cost: JSON = None) -> None:
        """Figures of one message, step or turn."""
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        found = number(cost)
        if found is not None:
            self.cost_usd = round((self.cost_usd or 0.0) + found, 9)

    def grown(self, total: Tokens, cost: JSON = None) -> tuple[Tokens, float | None]:
        """Take the source's running *total*, and return by how much it has grown since the last one."""
        turn = {name: max(0, count - self.counts.get(name, 0)) for name, count in total.items()}
        self.counts = {**self.counts, **total}
        found = number(cost)
        if found is None:
            return turn, None
        grown = max(0.0, round(found - (self.cost_usd or 0.0), 9))
        self.cost_usd = found
        return turn, grown
