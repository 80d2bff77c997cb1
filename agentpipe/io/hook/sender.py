"""The sender: a process that brings the spool of one session to the hub, and follows it while it grows.

The rules this module keeps: nobody waits for it; what a hub has not stored stays in the spool; a run is ended when its
session says so, not because nothing comes; it never lives long without work.
"""

import enum
import fcntl
import os
import select
import signal

from agentpipe.io.clock import Clock, now
from agentpipe.io.delivery import Delivery
from agentpipe.io.hook.spool import LOCK_FD, lock_sender
from agentpipe.io.hook.tape import Tape
from agentpipe.io.signals import SignalWatch

__all__ = ["Ending", "Sender", "taken_lock"]

#: How often the spool is looked at: an event is at the hub within this, for a fiftieth of a percent of a processor.
POLL_S = 0.025

#: Hooks run side by side: one that began before ``SessionEnd`` may come after it, if its 50 ms are not over.
SETTLE_S = 0.15

#: Somebody asks us to end, as a system that goes down does: Docker kills 10 s later, systemd 90 s. (``agentpipe run``
#: knows a sender and does not ask.)
HURRY_S = 4.0

#: The same, from our start on, while no hub was reached: on this machine that takes some milliseconds.
HURRY_ALONE_S = 0.5

GOODBYE_S = 0.5


class Ending(enum.Enum):
    """Why a sender ended: everything is stored; the hub did not take it; it was asked to; the hub came back with
    another log, which has nothing of what the one before had stored: the next sender begins with the first line.
    """

    DELIVERED = enum.auto()
    AWAY = enum.auto()
    ASKED = enum.auto()
    ANEW = enum.auto()


class Sender:
    """Sends what *tape* holds by *delivery*; *lock* is the spool's, held by us. `run` once.

    It ends when nothing came for *linger* seconds, when a hub stored nothing for so long, or, once the session has
    ended (or *closing*: it is known to be over), when everything is stored. At the end it has given the lock back,
    unless it is to begin anew.
    """

    def __init__(
        self, delivery: Delivery, tape: Tape, lock: int, *, linger: float, closing: bool = False, clock: Clock = now
    ) -> None:
        # given
        self._delivery = delivery
        self._tape = tape
        self._lock = lock
        self._linger = linger
        self._clock = clock
        self._began_at = clock()
        # changing
        self._closing = closing
        self._signals = SignalWatch()
        self._moved_at = self._began_at  # when something came, or the hub stored something
        self._came_at = 0.0
        self._hurried_at: float | None = None
        self._epoch = ""  # of the log that has what was stored
        self._ending: Ending | None = None

    def run(self) -> Ending:
        """Send until one of the reasons to end. Raises OutputError when the spool cannot be read."""
        try:
            with self._signals:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # blocked by the hook that started us
                while self._ending is None:
                    self._step()
            return self._ending
        finally:
            self._delivery.close(GOODBYE_S if self._delivery.reached else 0.0)
            self._tape.close()
            if self._ending not in (Ending.DELIVERED, Ending.ANEW):  # the former has given the lock back already
                os.close(self._lock)

    def _step(self) -> None:
        ready = dict(self._poll().poll(self._timeout_ms()))
        if self._signals.fileno() in ready:
            self._obey()
        self._delivery.attend(ready)
        self._epoch = self._epoch or self._delivery.epoch
        if self._delivery.epoch != self._epoch:
            self._ending = Ending.ANEW  # before anything is sent: the log takes nothing below what it has
            return
        self._read()
        self._delivery.advance()
        self._settle()

    def _poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        for fd, events in self._delivery.interests():
            poll.register(fd, events)
        return poll

    def _timeout_ms(self) -> float:
        if self._tape.behind and not self._delivery.window.full:
            return 0.0
        due = self._delivery.deadline
        return 1000 * (POLL_S if due is None else max(0.0, min(POLL_S, due - self._clock())))

    def _read(self) -> None:
        """Take in what came; a window that is full is no reason to drop: the spool keeps the rest."""
        if self._delivery.window.full or not self._tape.behind:
            return
        at = self._clock()
        self._moved_at = self._came_at = at
        events = self._tape.read()
        if events:
            self._delivery.window.offer(events, at)

    def _settle(self) -> None:
        """See whether it is time to end a run, or ourselves."""
        at = self._clock()
        if not self._tape.behind:
            if self._over(at):
                self._close_run()
            elif not self._delivery.window.held:
                self._all_stored(at)
        if self._ending is None:
            self._give_up(at)

    def _over(self, at: float) -> bool:
        """Whether the session has ended, and what ran beside its last hook too."""
        if self._tape.closed or not (self._tape.ended or self._closing):
            return False
        if not self._tape.ended:
            return self._delivery.reached > 0  # its silence counts from its last line: nothing is written without need
        return self._closing or self._hurried_at is not None or at >= self._came_at + SETTLE_S

    def _close_run(self) -> None:
        reason = "session_end" if self._tape.ended else "silence"
        self._closing = False  # what comes now is another run
        try:
            self._tape.close_run(reason)
        except OSError:
            self._ending = Ending.AWAY  # a full disk: the next sender may find room

    def _all_stored(self, at: float) -> None:
        if self._tape.closed and self._tape.done_with:
            try:
                self._tape.forget()
            except OSError:
                self._ending = Ending.AWAY  # as above
                return
        idle = at >= self._moved_at + self._linger
        if (self._tape.closed or idle or self._hurried_at is not None) and self._tape.leave(self._lock):
            self._ending = Ending.DELIVERED

    def _give_up(self, at: float) -> None:
        delivery = self._delivery
        if self._hurried_at is not None:
            answers = delivery.reached > 0 and delivery.fatal is None
            if at >= (self._hurried_at + HURRY_S if answers else self._began_at + HURRY_ALONE_S):
                self._ending = Ending.ASKED
        elif at >= max(self._moved_at, delivery.progress_at) + self._linger:
            self._ending = Ending.AWAY

    def _obey(self) -> None:
        self._signals.drain()
        if self._hurried_at is None and (self._signals.ended_by is not None or self._signals.interrupts):
            self._hurried_at = self._clock()


def taken_lock(path: str) -> int | None:
    """The lock of the spool at *path*: the one that a hook took for us, or taken now; None while another sends it.

    Raises OSError.
    """
    lock = f"{path.removesuffix('.ndjson')}.lock"
    try:
        ours = os.path.samestat(os.fstat(LOCK_FD), os.stat(lock))
    except OSError:
        ours = False  # nothing at that descriptor
    if not ours:
        return lock_sender(path)
    os.set_inheritable(LOCK_FD, False)
    fcntl.flock(LOCK_FD, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return LOCK_FD
