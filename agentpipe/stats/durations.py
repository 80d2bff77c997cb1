"""How long things took: sum, median and longest, in bounded memory.

The rule this module keeps: sum, count and longest are exact; for the median a duration is kept to three significant
digits (half a percent), which is what a person reads. So it takes at most 1000 counters, and 900 more for each further
power of ten, however many durations come.
"""

from agentpipe.event import JSON

__all__ = ["Durations"]

_EXACT_MS = 1000


class Durations:
    """Durations in whole milliseconds."""

    def __init__(self) -> None:
        self.count = 0
        self.sum_ms = 0
        self.max_ms = 0
        self.counts: dict[int, int] = {}  # by duration, rounded

    def add(self, took_ms: int) -> None:
        """One more duration, not negative."""
        self.count += 1
        self.sum_ms += took_ms
        self.max_ms = max(self.max_ms, took_ms)
        key = _rounded(took_ms)
        self.counts[key] = self.counts.get(key, 0) + 1

    def merge(self, other: "Durations") -> None:
        """All durations of *other* as well."""
        self.count += other.count
        self.sum_ms += other.sum_ms
        self.max_ms = max(self.max_ms, other.max_ms)
        for key, count in other.counts.items():
            self.counts[key] = self.counts.get(key, 0) + count

    @property
    def median_ms(self) -> float | None:
        """The middle one, or between the two in the middle; None when there is none."""
        if not self.count:
            return None
        middle = (self._at((self.count - 1) // 2) + self._at(self.count // 2)) / 2
        return min(middle, float(self.max_ms))  # rounding may have taken it beyond

    def report(self) -> dict[str, JSON]:
        """``timed`` (how many), ``sum_ms``, ``median_ms`` and ``max_ms``; only ``timed`` when there is none."""
        if not self.count:
            return {"timed": 0}
        return {"timed": self.count, "sum_ms": self.sum_ms, "median_ms": self.median_ms, "max_ms": self.max_ms}

    def _at(self, rank: int) -> int:
        passed = 0
        for key in sorted(self.counts):
            passed += self.counts[key]
            if passed > rank:
                return key
        return self.max_ms


def _rounded(took_ms: int) -> int:
    """*took_ms* to three significant digits."""
    if took_ms < _EXACT_MS:
        return took_ms
    scale: int = 10 ** (len(str(took_ms)) - 3)
    return (took_ms + scale // 2) // scale * scale
