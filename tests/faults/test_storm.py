"""A recovery storm: everybody is cut off at once and comes back at once, while events are published."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.faults.lab.storm import Checked, storm
from tests.hub_process import HubProcess


@pytest.mark.parametrize("store", ["hub.db", "memory"])
@pytest.mark.parametrize(("clients", "kicks", "rate"), [(60, 3, 1000.0)])
def test_all_are_back_with_everything_and_nothing_twice(
    tmp_path: Path, environment: Mapping[str, str], store: str, clients: int, kicks: int, rate: float
) -> None:
    """The full size, 500 cut 10 times at 2,000 events a second, is a benchmark: bench/storm.py."""
    hub = HubProcess(tmp_path, environment, store=store)
    hub.start()
    try:
        found = storm(hub.port, hub.token, clients=clients, kicks=kicks, rate=rate)
    finally:
        hub.stop()
    assert found.wrong == {}
    assert found.published > kicks * 0.1 * rate
    assert len(found.reconnects) == clients * kicks
    assert max(found.waves) < 20  # seconds; a quiet machine takes a fifth of one, and bench/storm.py measures it


def test_a_storm_tells_what_was_wrong() -> None:
    """The counting itself, by messages that no hub sends."""
    client = Checked(("e", 4))
    counts = [client.moved(prev, pos, events) for prev, pos, events in [(4, 6, 2), (7, 8, 1), (7, 9, 2), (9, 12, 2)]]
    assert counts == [(0, 0), (1, 0), (0, 1), (1, 0)]
