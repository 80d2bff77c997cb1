"""What goes together: a round of eviction, made of steps.

The rule this module keeps: a round goes through the blocks once, from the oldest on, and only through those that hold
what has to go. It ends at where the log ended when it began, so that a run that is being written is not run after.
"""

import heapq
import sqlite3
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from agentpipe.io.sqlite.eviction import ROOM, Step
from agentpipe.io.sqlite.holdings import Holdings

__all__ = ["Beginning", "Forgetting", "Round", "WholeRuns"]


class Round(Protocol):
    """``done`` when there is nothing more to do for it."""

    done: bool

    def go_on(self, step: Step) -> Collection[int]:
        """Do in *step* as much as it takes; the runs of which nothing but remnants is left then."""
        ...


class WholeRuns:
    """All that the *chosen* runs have up to the offset *until*."""

    def __init__(self, connection: sqlite3.Connection, chosen: Collection[int], until: int) -> None:
        # given
        self._connection = connection
        self._chosen = frozenset(chosen)
        self._until = until
        # changing
        self._ahead: list[tuple[int, int]] = []  # each run's next block
        self._gone: list[int] = []
        for run in chosen:
            self._look_on(run, 0)
        self.done = False

    def go_on(self, step: Step) -> Collection[int]:
        while self._ahead and not step.full:
            first = self._ahead[0][0]
            if not step.empty(first, self._chosen, _never):
                break
            while self._ahead and self._ahead[0][0] == first:
                self._look_on(heapq.heappop(self._ahead)[1], first)
        self.done = not self._ahead
        gone, self._gone = self._gone, []
        return gone

    def _look_on(self, run: int, place: int) -> None:
        found = self._connection.execute(_NEXT_PART, (run, place)).fetchone()[0]
        if found is None:
            self._gone.append(run)
        elif found <= self._until:
            heapq.heappush(self._ahead, (found, run))


class Beginning:
    """The oldest entries, whoever's they are, after the block at *passed*: those that were stored *before* some moment,
    or until it is *enough* with what a step has evicted.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        holdings: Holdings,
        passed: int,
        *,
        before: float = float("inf"),
        enough: Callable[[Step], bool] | None = None,
    ) -> None:
        # given
        self._connection = connection
        self._holdings = holdings
        self._before = before
        self._enough = enough
        # changing
        self.passed = passed  # all entries up to the block at this offset are remnants
        self.done = False

    def go_on(self, step: Step) -> Collection[int]:
        enough = self._enough
        rows = self._connection.execute(_NEXT_BLOCKS, (self.passed, ROOM.blocks)).fetchall()
        self.done = not rows
        finished: set[int] = set()
        for first, at in rows:
            if at >= self._before or (enough is not None and enough(step)):
                self.done = True
                break
            whole = step.empty(first, None, _never if enough is None else lambda: enough(step))
            if not whole:
                break
            self.passed = first
            finished.update(self._ended(step.runs_in(first), first))
            if step.full:
                break
        return finished

    def _ended(self, runs: Iterable[int], first: int) -> list[int]:
        """Which of *runs* have nothing behind the block at *first*."""
        recent = self._holdings.recent
        found = [run for run in runs if run in recent]
        return [run for run in found if self._connection.execute(_NEXT_PART, (run, first)).fetchone()[0] is None]


class Forgetting:
    """What is left of the runs that ended first, until no more than *runs* and *size_bytes* are left."""

    def __init__(self, holdings: Holdings, runs: int, size_bytes: int) -> None:
        # given
        self._holdings = holdings
        self._runs = runs
        self._size_bytes = size_bytes
        # changing
        self.done = False

    def go_on(self, step: Step) -> Collection[int]:
        held = self._holdings
        runs, size = len(held.ended), held.ended_held.size_bytes
        for run in held.ended:
            if step.full or (runs <= self._runs and size <= self._size_bytes):
                break
            size -= held.remnants[run].size_bytes
            runs -= 1
            step.forget(run)
        self.done = runs <= self._runs and size <= self._size_bytes
        return ()


def _never() -> bool:
    return False


_NEXT_PART = "SELECT min(first) FROM part WHERE run = ? AND first > ?"
_NEXT_BLOCKS = "SELECT first, at FROM block WHERE first > ? ORDER BY first LIMIT ?"
