"""What happened in saved logs, in figures: runs, tools, files, tokens, cost, errors, and where the time went.

The way through the room: `told` reads a few fields of a line, `run` counts one run (its time in `split`, how long tools
took in `durations`), `summary` puts the runs together and counts each session once, `table` is what people read.
"""

from agentpipe.stats.summary import Summary
from agentpipe.stats.table import table
from agentpipe.stats.told import told

__all__ = ["Summary", "table", "told"]
