"""Reconnect delays: the ceiling doubles and stops growing."""

import itertools

from agentpipe.backoff import CEILING_S, FIRST_S, STABLE_S, ceiling


def test_the_ceiling_doubles_from_the_first_to_the_last() -> None:
    found = [ceiling(attempt) for attempt in range(12)]
    assert found[0] == FIRST_S
    assert all(later == min(2 * earlier, CEILING_S) for earlier, later in itertools.pairwise(found))
    assert found[-1] == CEILING_S
    assert ceiling(10**9) == CEILING_S  # a hub that is away for a month


def test_a_reconnect_takes_less_than_three_seconds_on_average() -> None:
    """Full jitter waits half the ceiling on average (requirements §6)."""
    assert CEILING_S / 2 < 3
    assert STABLE_S > CEILING_S
