"""A started command and everything it started in turn, until nothing of it is left.

The rule this module keeps: when custody is over (``gone``), no descendant is left, however the command ended and
wherever its descendants went; and each was asked before it was killed. The senders of hooks, which are ours, are none
of its business (`agentpipe.io.run.reaper`).
"""

import select
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from agentpipe.io.clock import Clock
from agentpipe.io.run.reaper import bury, descendants, send
from agentpipe.io.run.spawn import Child
from agentpipe.payload import EndReason
from agentpipe.stop import Descent, Rung, ladder, sweep

__all__ = ["Custody"]

#: After the command's own end, how long what it left behind may go on writing into its pipes (stream-cli C4).
HOLD_S = 2.0

#: The same for what no longer holds a pipe: helpers that are on their way out, too.
SETTLE_S = 0.3

#: How often descendants are looked for once the command has ended; one look costs about a millisecond.
LOOK_S = 0.05


class Custody:
    """Watches over *child*; *before* are children of ours that are none of its business.

    The owner calls `step` whenever something happened or ``deadline`` has passed. ``reason`` is why it ended,
    ``ended_at`` when the command itself did, ``gone`` that nothing is left.
    """

    def __init__(self, child: Child, before: AbstractSet[int], grace_s: float, warn: Callable[[str], None]) -> None:
        # given
        self.child = child
        self._before = before
        self._grace_s = grace_s
        self._warn = warn
        # changing
        self.reason: EndReason = "exit"
        self.stopping = False
        self.ended_at: float | None = None
        self.gone = False
        self._descent: Descent | None = None
        self._sweeping = False
        self._look_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When `step` has something to do though nothing happened."""
        due = [self._look_at, self._descent.deadline if self._descent is not None else None]
        return None if self.gone else min((moment for moment in due if moment is not None), default=None)

    def stop(self, first: str, reason: EndReason, now: float) -> None:
        """Begin to end the command with the signal called *first*; asked again, take the next rung at once."""
        if self.stopping:
            if self._descent is not None:
                self._descent.hurry(now)
            return
        self.stopping = True
        if self.ended_at is None:
            self.reason = reason
            self._descent = Descent(ladder(first, self._grace_s), now)
        self.step(now, quiet=False)

    def step(self, now: float, *, quiet: bool) -> None:
        """Do what is due. *quiet* says that nobody holds the command's pipes any more."""
        if self.gone:
            return
        if self.ended_at is None and self.child.poll() is not None:
            self.ended_at = now
            self._descent = None
        if self.ended_at is None:
            self._press(now)
        elif self._look_at is None or now >= self._look_at or (quiet and not self._sweeping):
            self._look_at = now + LOOK_S
            self._clear_up(now, self.ended_at, quiet=quiet)

    def suspend(self) -> None:
        """Stop the command and all that it started, as the terminal's stop key would."""
        send("SIGSTOP", pids=self._everyone())

    def resume(self) -> None:
        """Let them go on."""
        send("SIGCONT", pids=self._everyone())

    def end(self, clock: Clock) -> None:
        """Bring everything to its end now and wait for it; nothing is left to do when the run ended as it should."""
        self.stop("SIGTERM", "signal", clock())
        while not self.gone:
            self.step(clock(), quiet=False)
            select.select([], [], [], LOOK_S)

    def bury(self) -> None:
        """Reap orphans that have ended."""
        bury(self._before | {self.child.pid})

    def _press(self, now: float) -> None:
        rung = self._descent.due(now) if self._descent is not None else None
        if rung is not None:
            send(rung.signal, group=self.child.group, pids=self._everyone() if rung.everyone else frozenset())
        elif self._descent is not None and self._descent.spent:
            self._give_up(1)

    def _clear_up(self, now: float, ended_at: float, *, quiet: bool) -> None:
        left = self._everyone()
        if not left:
            self.bury()
            self.gone = True
            return
        if not self._sweeping:
            patience = 0.0 if self.stopping else SETTLE_S if quiet else HOLD_S
            if now < ended_at + patience:
                return
            self._begin_sweep(now, len(left), quiet=quiet)
        self._end_all(left, now)

    def _begin_sweep(self, now: float, count: int, *, quiet: bool) -> None:
        self._sweeping = True
        self._descent = Descent(sweep(self._grace_s), now)
        if not self.stopping:
            holding = "" if quiet else f" and still held its output {HOLD_S:g} s later"
            self._warn(f"the command left {_processes(count)} running{holding}; ending them")

    def _end_all(self, left: AbstractSet[int], now: float) -> None:
        assert self._descent is not None  # a sweep has begun
        rung: Rung | None = self._descent.due(now)
        if rung is not None:
            send(rung.signal, pids=left)
        elif self._descent.spent:
            self._give_up(len(left))

    def _give_up(self, count: int) -> None:
        self._warn(f"{_processes(count)} could not be ended, not even by SIGKILL")
        self.gone = True

    def _everyone(self) -> AbstractSet[int]:
        return frozenset(descendants(self._before))


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"
