"""What a hub refuses or cannot take is counted to the event, and harms nothing beside it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.io.hubs import RealHub, events


@pytest.fixture
def hub(tmp_path: Path, environment: Mapping[str, str]) -> Iterator[RealHub]:
    real = RealHub(tmp_path, environment)
    yield real
    real.stop()


def test_every_refused_event_is_counted_however_many_there_are(hub: RealHub, agentpipe: Callable[..., Any]):
    """Of a batch the hub tells five one by one and the rest as a number."""
    nameless = b'{"type":"agent_output","agent_id":"a","sequence":1,"payload":{}}\n' * 27
    deep = b'{"type":"x","run_id":"r","agent_id":"a","sequence":50,"payload":%b%b}\n' % (b"[" * 980, b"]" * 980)
    done = agentpipe("publish", hub.url, input=events(1, 3) + nameless + deep + events(51, 60))
    assert done.returncode == 75
    assert b"28 events not delivered: 28 refused; 41 read, 41 acknowledged" in done.stderr
    assert hub.stored() == (events(1, 3) + events(51, 60)).splitlines()


def test_a_batch_as_large_as_the_hub_takes_is_taken(hub: RealHub, agentpipe: Callable[..., Any]):
    given = events(1, 5000, text="x" * 900)
    done = agentpipe("publish", hub.url, "--batch-bytes", "1MiB", "--batch", "20", input=given)
    assert done.returncode == 0, done.stderr
    large = events(5001, 5040, text="x" * 100_000)  # eleven of them would pass the limit by the envelope alone
    done = agentpipe("publish", hub.url, "--batch-bytes", "1MiB", input=large)
    assert done.returncode == 0, done.stderr
    assert hub.stored() == (given + large).splitlines()
