"""Adapters: one agent's own output in, events out.

The way through the room: `stage` sorts lines into runs, `run` numbers one run's events and gives it a start and an end,
`detect` finds out whose lines they are, and an adapter (`claude`, `plain`) knows one vocabulary. `adapter` holds the
contract between them.
"""

from agentpipe.parse.adapter import Adapter, Clock, Draft, Moment, Outcome
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.stage import Parse
from agentpipe.stage import StageSpec

__all__ = ["SPEC", "Adapter", "Clock", "Draft", "Moment", "Outcome", "Parse", "ParseOptions"]

SPEC = StageSpec("parse", "Turn an agent's own output into events.", ParseOptions, Parse, reads="lines")
