"""The one clock: Unix seconds that never step back."""

import time
from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Clock", "now"]

Clock: TypeAlias = Callable[[], float]

# CLOCK_BOOTTIME counts through a laptop's sleep, unlike CLOCK_MONOTONIC, so timestamps stay true after it.
_TICKS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_ORIGIN = time.time() - time.clock_gettime(_TICKS)


def now() -> float:
    """Unix seconds: the wall clock at the process' start plus the time since then, so that intervals are true."""
    return _ORIGIN + time.clock_gettime(_TICKS)
