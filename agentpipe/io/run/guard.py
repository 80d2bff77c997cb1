"""The guardian of ``run``: a process that does nothing but outlive the one that works.

The rule this module keeps: whichever of the two is ended by SIGKILL, the other ends what the agent has started. The
guardian is the process that the shell knows. It hands every signal on to the worker, ends as the worker ends, and, as
a child subreaper, becomes the parent of whatever a worker that was killed leaves behind. A worker whose guardian is
killed gets SIGTERM from the kernel and ends the agent in order. The worker has a process group of its own, so that the
keyboard's signals reach it once, through the guardian.
"""

import os
import signal
import time

from agentpipe.io.run.reaper import adopt_orphans, bury, children, descendants, die_with_parent, send
from agentpipe.io.signals import die_of

__all__ = ["guarded"]

#: Handed on to the worker as they come.
_HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT)

#: What a killed worker leaves is asked to end for this long, then killed.
_GRACE_S = 2.0

#: How long SIGKILL is repeated: what is stuck in the kernel dies when it comes out, with or without us.
_KILLING_S = 3.0

_LOOK_S = 0.05


def guarded() -> int | None:
    """Split in two. None in the worker, which goes on; in the guardian, once the worker has ended, the exit status.

    To be called from the main thread of a process that has no others. When the worker died of a signal the guardian
    does too, or, after SIGKILL, returns 137 once nothing is left of what the worker had started.
    """
    wanted = {number for number in _HANDED_ON if signal.getsignal(number) is not signal.SIG_IGN}
    before = children()
    adopt_orphans()
    for_children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, it would swallow the status
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*wanted, signal.SIGCHLD})
    guardian = os.getpid()
    worker = os.fork()
    if worker == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGCHLD, for_children)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        die_with_parent(guardian)
        return None
    status = _wait(worker, wanted)
    if not os.WIFSIGNALED(status):
        return os.waitstatus_to_exitcode(status)
    number = signal.Signals(os.WTERMSIG(status))
    if number != signal.SIGKILL:
        die_of(number)
    _end_what_is_left(before)
    return 128 + number


def _wait(worker: int, wanted: set[signal.Signals]) -> int:
    """Hand signals on until the worker has ended; its wait status."""
    while True:
        number = signal.sigwait({*wanted, signal.SIGCHLD})
        if number != signal.SIGCHLD:
            os.kill(worker, number)
            continue
        ended, status = os.waitpid(worker, os.WNOHANG | os.WUNTRACED)
        if not ended:
            continue
        if not os.WIFSTOPPED(status):
            return status
        os.kill(os.getpid(), signal.SIGSTOP)  # the shell sees us stop, as it would see the worker
        os.kill(worker, signal.SIGCONT)


def _end_what_is_left(before: frozenset[int]) -> None:
    """End the descendants that became ours when the worker was killed."""
    started = time.monotonic()
    asked = False
    while (left := descendants(before)) and time.monotonic() < started + _GRACE_S + _KILLING_S:
        if time.monotonic() >= started + _GRACE_S:
            send("SIGKILL", pids=frozenset(left))
        elif not asked:
            send("SIGTERM", pids=frozenset(left))
            asked = True
        time.sleep(_LOOK_S)
        bury(before)
