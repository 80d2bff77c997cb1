"""Holding events between bursts and a slow reader.

The way through the room: `stage` holds the options and what happens when it is full, `memory` is the part in memory,
`spilling` the part that goes on to a file (which ``agentpipe.io.spill_file`` writes).
"""

from agentpipe.buffer.stage import HAND_ON_BYTES, SPEC, Buffer, BufferOptions, DropNewest, DropOldest, Fail, build

__all__ = ["HAND_ON_BYTES", "SPEC", "Buffer", "BufferOptions", "DropNewest", "DropOldest", "Fail", "build"]
