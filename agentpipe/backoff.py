"""Reconnect delays: full jitter, the numbers stated once.

The scheme is "full jitter": a random moment between nothing and a ceiling that doubles, so that a thousand clients
of a hub that restarted do not come back in the same instant.
"""

__all__ = ["CEILING_S", "FIRST_S", "STABLE_S", "ceiling"]

FIRST_S = 0.1  # the ceiling before the first retry: a hub that restarts is back well within a second
CEILING_S = 2.0  # a reconnect should take less than 3 s on average (requirements §6) once the hub is back
STABLE_S = 3.0  # a link that held this long was good: the count of attempts starts anew


def ceiling(attempt: int) -> float:
    """Seconds: the longest wait before retry number *attempt*, counted from 0."""
    return float(min(CEILING_S, FIRST_S * 2 ** min(attempt, 10)))
