"""Limiting how fast events pass.

The way through the room: `gcra` is the rate limit itself, `delay` waits, `coalesce` joins what would wait (`merge`),
and `stage` holds the options, the modes that drop, and the choice between them.
"""

from agentpipe.throttle.stage import SPEC, Drop, Sample, ThrottleOptions, build

__all__ = ["SPEC", "Drop", "Sample", "ThrottleOptions", "build"]
