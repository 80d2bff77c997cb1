"""What is in the store, run by run, so that it is known at once which runs have to go.

The rule this module keeps: what it says is what is committed; nothing here changes before a transaction is through.
"""

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from agentpipe.io.sqlite.eviction import Remnant, Step

__all__ = ["Held", "Holdings"]


class Held(NamedTuple):
    """How much of something there is: entries, and bytes of their lines."""

    entries: int = 0
    size_bytes: int = 0


class Holdings:
    """``recent`` are the runs that have more than remnants, the one that was written longest ago first, with about what
    they have; ``ended`` are the others, of which ``remnants`` are left. ``entries`` and ``size_bytes`` are of all.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        # changing
        self.numbers: dict[str, int] = {}
        self.recent: dict[int, Held] = {}
        self.remnants: dict[int, Remnant] = {}
        self.ended: dict[int, None] = {}
        self.ended_held = Held()
        for run, run_id, count, size, gap, terminal, remnant_size in connection.execute(_ALL):
            self.numbers[run_id] = run
            if gap is not None:
                self.remnants[run] = Remnant(gap, terminal, remnant_size)
            if count:
                self.recent[run] = Held(count, size)
            elif gap is not None:
                self._end(run)
        self.entries, self.size_bytes = connection.execute(_SUMS).fetchone()

    def added(self, run_id: str, run: int, held: Held) -> None:
        """So much was stored of the run *run_id*, whose number is *run*."""
        self.numbers[run_id] = run
        self._revive(run)
        before = self.recent.pop(run, Held())
        self.recent[run] = Held(before.entries + held.entries, before.size_bytes + held.size_bytes)
        self.entries += held.entries
        self.size_bytes += held.size_bytes

    def left(self, step: Step) -> dict[int, Held]:
        """What the runs of which *step* dropped something will have. One entry at least, until the run is `finished`:
        of a file of an older version it is not known exactly.
        """
        found = {}
        for run, (count, size) in step.dropped.items():
            before = self.recent.get(run, Held())
            found[run] = Held(max(1, before.entries - count), max(0, before.size_bytes - size))
        return found

    def emptied(self, step: Step, left: Mapping[int, Held]) -> None:
        """*step* was committed, its runs have *left* now."""
        self.entries -= step.entries
        self.size_bytes -= step.size_bytes
        for run, remnant in step.remnants.items():
            ended = run in self.ended
            self._revive(run)
            self.remnants[run] = remnant
            if not any(remnant):
                del self.remnants[run]
            elif ended:
                self._end(run)
        for run, held in left.items():
            if run in self.recent:
                self.recent[run] = held

    def finished(self, run: int) -> None:
        """Nothing but remnants is left of *run*."""
        self.recent.pop(run, None)
        if run in self.remnants and run not in self.ended:
            self._end(run)

    def _end(self, run: int) -> None:
        self.ended[run] = None
        self._count_ended(self.remnants[run], 1)

    def _revive(self, run: int) -> None:
        if run in self.ended:
            del self.ended[run]
            self._count_ended(self.remnants[run], -1)

    def _count_ended(self, remnant: Remnant, sign: int) -> None:
        count = bool(remnant.gap) + bool(remnant.terminal)
        before = self.ended_held
        self.ended_held = Held(before.entries + sign * count, before.size_bytes + sign * remnant.size_bytes)


#: In the order in which the runs were written last; those of which nothing is left come first.
_ALL = """SELECT run.id, run_id, run.count, run.size, gap, terminal, remnant.size
    FROM run LEFT JOIN remnant ON remnant.run = run.id
    ORDER BY (SELECT max(first) FROM part WHERE part.run = run.id)"""
_SUMS = """SELECT coalesce(sum(count), 0) - coalesce((SELECT value FROM meta WHERE name = 'blank'), 0),
    coalesce(sum(size), 0) FROM block"""
