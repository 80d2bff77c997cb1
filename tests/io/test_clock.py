"""The one clock: Unix seconds that never step back."""

import time

from agentpipe.io.clock import now


def test_it_is_unix_time() -> None:
    assert abs(now() - time.time()) < 60  # the wall clock may have been set since the process began


def test_it_never_steps_back() -> None:
    seen = [now() for _ in range(10_000)]
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]
