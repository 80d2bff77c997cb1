"""What a store keeps, and what goes when it is over its limits.

The rules this module keeps: **what is old goes first, and as a whole**: the runs whose last event is the oldest,
several at once, down to seven eighths of the limit, so that a block is written anew once, not once a run. Only of the
last run that is left the beginning goes. By age goes what is older, whoever's it is. Of each run its last terminal
event stays and a ``gap`` (see ``sqlite/eviction.py``), of at most `MAX_REMNANTS` runs; these count against no limit.

Each step is one short transaction, so that a commit waits for a few milliseconds at most. What was decided is kept in
memory alone: after a crash in the middle the runs that had begun to go are still the oldest, and go on going when there
is need.
"""

import itertools
import os
import sqlite3
from typing import NamedTuple

from agentpipe.io.sqlite.eviction import Step
from agentpipe.io.sqlite.file import LEFT_BYTES, Transaction, note
from agentpipe.io.sqlite.holdings import Held, Holdings
from agentpipe.io.sqlite.rounds import Beginning, Forgetting, Round, WholeRuns

__all__ = ["UNLIMITED", "Age", "Retainer", "Retention"]

#: As many runs as the index of runs shows (``agentpipe.runs.MAX_RUNS``) keep their last events.
MAX_REMNANTS = 10_000

#: What stays of runs may take an eighth of the limit in bytes, or this much: 1600 bytes each.
REMNANT_BYTES = 16 << 20

#: Runs that go together: each is looked up before the first step, in 3 µs.
MAX_CHOSEN = 500

#: Ids that stay known though their events are gone: as many as the hub's door knows; and how many go in one step.
MAX_GONE_IDS = 100_000
IDS_AT_ONCE = 500

#: A clock that has moved by more than this since the last look (there is one every 20 s) has jumped, or was not looked
#: at; the time that it shows then is believed when it has gone on from there for a while.
JUMP_S = 600.0
BELIEVED_AFTER_S = 3600.0

#: Free pages are given back while they are more than this part of the file: fewer are soon needed again. Each of those
#: given back in one step is replaced by one from the end of the file, which takes 0.05 ms.
FREE_PART = 4
VACUUM_PAGES = 32

#: How long commits may wait for the readers, that SQLite's own log can start anew.
FOLD_PATIENCE_MS = 20


class Retention(NamedTuple):
    """How much is kept; 0 means no limit. Age in seconds, size in bytes of lines."""

    age_s: float = 0.0
    size_bytes: int = 0
    events: int = 0


UNLIMITED = Retention()


class Age:
    """The time by which entries are old: that of a clock, but for its jumps. It goes on from *start* (0: there is
    nothing to go by), as the clock goes on; it is never ahead of the clock.

    So nothing is dropped because a clock was wrong for a moment, at the price that after a month's pause what has
    become too old is kept for another hour.
    """

    def __init__(self, start: float) -> None:
        # changing
        self._believed = start
        self._seen = start
        self._steady_s = 0.0

    def at(self, clock: float) -> float:
        """What is believed when the clock says *clock*."""
        passed = clock - self._seen
        if not self._believed:
            self._believed = clock
        elif 0 <= passed <= JUMP_S:
            self._steady_s += passed
            self._believed += passed
        else:
            self._steady_s = 0.0
        if self._steady_s >= BELIEVED_AFTER_S:
            self._believed = clock
        self._seen = clock
        return min(self._believed, clock)

    def doubts(self, moment: float) -> float:
        """What is believed instead when *moment* cannot be now, or be a little later; else 0."""
        return self._believed if moment > self._believed + JUMP_S else 0.0


class Retainer:
    """Keeps the store within *limits*, a step at a time."""

    def __init__(
        self, connection: sqlite3.Connection, path: str, holdings: Holdings, limits: Retention, age: Age
    ) -> None:
        # given
        self._connection = connection
        self._path = path
        self._holdings = holdings
        self._limits = limits
        self._age = age
        # changing
        self._round: Round | None = None
        self._passed = 0  # all entries up to the block at this offset are remnants
        self._untidy = False

    def step(self, now: float, head: int) -> bool:
        """Do a little; whether there is more to do. Raises OutputError, and goes on from there the next time."""
        believed = self._age.at(now)
        going_on, self._round = self._round or self._next_round(believed, head), None
        if going_on is None:
            return self._look_after_file()
        self._evict(going_on, now, head)
        self._untidy = True
        if not going_on.done:
            self._round = going_on
        return True

    def _evict(self, going_on: Round, now: float, head: int) -> None:
        holdings = self._holdings
        with Transaction(self._connection, self._path) as connection:
            step = Step(connection, self._path, holdings.numbers, holdings.remnants, now)
            finished = going_on.go_on(step)
            step.write()
            left = holdings.left(step)
            rows = [(*held, run) for run, held in {**left, **dict.fromkeys(finished, Held())}.items()]
            connection.executemany("UPDATE run SET count = ?, size = ? WHERE id = ?", rows)
            note(connection, head=head)
        holdings.emptied(step, left)
        for run in finished:
            holdings.finished(run)
        if isinstance(going_on, Beginning):
            self._passed = going_on.passed

    def _next_round(self, now: float, head: int) -> Round | None:
        limits, held = self._limits, self._holdings
        before = now - limits.age_s
        if limits.age_s and self._any_before(before):
            return Beginning(self._connection, held, self._passed, before=before)
        remnant_bytes = max(REMNANT_BYTES, limits.size_bytes // 8) if limits.size_bytes else held.ended_held.size_bytes
        if len(held.ended) > MAX_REMNANTS or held.ended_held.size_bytes > remnant_bytes:
            return Forgetting(held, MAX_REMNANTS * 9 // 10, remnant_bytes * 9 // 10)
        if not _over(self._beyond(limits.events, limits.size_bytes)):
            return None
        if len(held.recent) > 1:
            return WholeRuns(self._connection, self._oldest_runs(), until=head)
        more = held.recent and self._any_before(float("inf"))
        return Beginning(self._connection, held, self._passed, enough=self._enough) if more else None

    def _any_before(self, moment: float) -> bool:
        found = self._connection.execute(_OLDEST, (self._passed,)).fetchone()
        return found is not None and found[0] < moment

    def _oldest_runs(self) -> list[int]:
        """The runs that have to go as a whole: never the one that was written last."""
        over = self._beyond(*self._goal)
        recent = self._holdings.recent
        chosen = []
        for run, held in itertools.islice(recent.items(), min(MAX_CHOSEN, len(recent) - 1)):
            if not _over(over):
                break
            chosen.append(run)
            over = Held(over.entries - held.entries, over.size_bytes - held.size_bytes)
        return chosen

    def _enough(self, step: Step) -> bool:
        """Whether *step* has brought us down to where eviction stops; a gap more for each of its runs is counted in."""
        over = self._beyond(*self._goal)
        return not _over(Held(over.entries - step.entries + len(step.dropped), over.size_bytes - step.size_bytes))

    @property
    def _goal(self) -> tuple[int, int]:
        events, size = self._limits.events, self._limits.size_bytes
        return events - events // 8, size - size // 8

    def _beyond(self, events: int, size_bytes: int) -> Held:
        """What is held beyond these limits (0: none), remnants left out; below zero there is room."""
        held, ended = self._holdings, self._holdings.ended_held
        count = held.entries - ended.entries - events if events else 0
        size = held.size_bytes - ended.size_bytes - size_bytes if size_bytes else 0
        return Held(count, size)

    def _look_after_file(self) -> bool:
        """Forget ids and give free pages back, a little; whether there is more."""
        if self._untidy:
            with Transaction(self._connection, self._path) as connection:
                self._untidy = connection.execute(_FORGET_IDS, (MAX_GONE_IDS, IDS_AT_ONCE)).rowcount > 0
            return True
        free, pages, kind = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("freelist_count", "page_count", "auto_vacuum")
        )
        if kind and free > max(pages // FREE_PART, VACUUM_PAGES):
            # As a script, because a statement that gives no rows is done one step of, which is one page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
            return True
        self._fold()
        return False

    def _fold(self) -> None:
        """Start SQLite's own log anew when it has grown because there was always somebody who read."""
        try:
            grown = os.path.getsize(f"{self._path}-wal") > 2 * LEFT_BYTES
        except OSError:
            return  # it is not there
        if grown:
            patience = self._connection.execute("PRAGMA busy_timeout").fetchone()[0]
            self._connection.execute(f"PRAGMA busy_timeout = {FOLD_PATIENCE_MS}")
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {patience}")


def _over(held: Held) -> bool:
    return held.entries > 0 or held.size_bytes > 0


_OLDEST = "SELECT at FROM block WHERE first > ? ORDER BY first LIMIT 1"
_FORGET_IDS = """DELETE FROM alias WHERE event_id IN (SELECT event_id FROM alias WHERE first < 0 AND first > (
    SELECT first FROM alias WHERE first < 0 ORDER BY first LIMIT 1 OFFSET ?) LIMIT ?)"""
