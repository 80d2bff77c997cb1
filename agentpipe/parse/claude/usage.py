"""Tokens and cost as Claude Code tells them.

The rules this module keeps: the usage of an API message is counted once, though every block of it repeats it; its
output is true only in a ``message_delta`` or in a result, and marked as ``provisional`` elsewhere; the cost in a result
is a total of the process, so the last one counts and they are never added up; no cost is made up.
"""

from agentpipe.event import JSON
from agentpipe.parse.vocabulary.fields import mapping, number, whole

__all__ = ["COSTS", "Ledger"]

#: Message ids remembered: blocks of one message come close together.
_REMEMBERED = 1024

#: The total cost under the names that it had, the newest first.
COSTS = ("total_cost_usd", "total_cost", "cost_usd")

#: What ``modelUsage`` calls the counts.
_CAMEL = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_tokens": "cacheReadInputTokens",
    "cache_write_tokens": "cacheCreationInputTokens",
}


class Ledger:
    """What one run has used."""

    def __init__(self) -> None:
        self._counted: dict[str, None] = {}
        self._turns: dict[str, int] = {}  # the sum of the turns' own usage
        self._models: dict[str, int] = {}  # the last total over all models
        self.cost_usd: float | None = None

    @property
    def total(self) -> dict[str, int]:
        """The run's tokens: over all models when the source says so, else the sum of the turns."""
        return self._models or self._turns

    def counts(self, message_id: str) -> bool:
        """Whether the usage of the message is counted already."""
        return message_id in self._counted

    def message(self, message_id: str, usage: JSON, model: str, *, final: bool) -> dict[str, JSON] | None:
        """The payload of ``usage_update`` for an API message, the first time that it is told; else None."""
        if message_id in self._counted or type(usage) is not dict:
            return None
        found = _tokens(usage)
        if not found:
            return None
        self._counted[message_id] = None
        if len(self._counted) > _REMEMBERED:
            del self._counted[next(iter(self._counted))]
        context = found["input_tokens"] + found["cache_read_tokens"] + found["cache_write_tokens"]
        payload: dict[str, JSON] = {"model": model, **found} if model else {**found}
        payload["context_used"] = context
        payload["cumulative"] = False
        if not final:
            payload["provisional"] = True
        return payload

    def add(self, payload: dict[str, JSON]) -> None:
        """Count a message's own usage, where no result line tells that of its turn."""
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"):
            self._turns[name] = self._turns.get(name, 0) + payload[name]

    def result(self, found: dict[str, JSON]) -> tuple[dict[str, int], float | None]:
        """Take a result line: the turn's own usage and what the turn cost (what the total has grown by)."""
        usage = _tokens(mapping(found.get("usage")))
        if usage:
            self._turns = {name: self._turns.get(name, 0) + count for name, count in usage.items()}
        self._models = _over_models(mapping(found.get("modelUsage"))) or self._models
        total: float | None = None
        for name in COSTS:
            total = number(found.get(name))
            if total is not None:
                break
        if total is None:
            return usage, None
        grown = total - (self.cost_usd or 0.0)
        self.cost_usd = total
        return usage, max(0.0, round(grown, 9))

    def update(self) -> dict[str, JSON] | None:
        """The payload of a cumulative ``usage_update``; None when nothing is known."""
        total, cost_usd = self.total, self.cost_usd
        if not total and cost_usd is None:
            return None
        payload: dict[str, JSON] = {"input_tokens": 0, "output_tokens": 0, **total, "cumulative": True}
        if cost_usd is not None:
            payload["cost_usd"] = cost_usd
        return payload


def _tokens(usage: dict[str, JSON]) -> dict[str, int]:
    """The schema's names; empty when there is no usage. The cache's nested counts stand in for a top one of 0."""
    given, output = usage.get("input_tokens"), usage.get("output_tokens")
    if given is None and output is None and "input_tokens" not in usage and "output_tokens" not in usage:
        return {}
    read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    if type(written) is not int:
        written = _count(written)
    if not written and "cache_creation" in usage:
        written = sum(map(_count, mapping(usage["cache_creation"]).values()))
    return {
        "input_tokens": given if type(given) is int else _count(given),
        "output_tokens": output if type(output) is int else _count(output),
        "cache_read_tokens": read if type(read) is int else _count(read),
        "cache_write_tokens": written,
    }


def _count(value: JSON) -> int:
    return whole(value) or 0


def _over_models(models: dict[str, JSON]) -> dict[str, int]:
    """The sum over all models of ``modelUsage``, which is in camel case and a total of the process."""
    if not models:
        return {}
    total = dict.fromkeys(_CAMEL, 0)
    for row in models.values():
        for ours, theirs in _CAMEL.items() if type(row) is dict else ():
            count = row.get(theirs)
            total[ours] += count if type(count) is int else _count(count)
    return total
