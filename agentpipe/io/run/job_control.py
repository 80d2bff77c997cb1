"""The signals around a command that `SignalWatch` leaves alone: a child's end, the terminal's stop and quit keys.

The rule this module keeps: the command is suspended and goes on with us. It is in a session of its own, which the
terminal's stop key does not reach; left alone it would fill its pipe while nobody can read, and lose output at its end.
"""

import os
import signal
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["JobControl"]


class JobControl:
    """A context in which SIGCHLD, SIGTSTP and SIGQUIT wake the loop of `SignalWatch` and are remembered.

    ``stop_asked``: the stop key was pressed, until `suspend` obeys; ``quit_asked``: the quit key was. Only for the main
    thread, inside a `SignalWatch`.
    """

    def __init__(self) -> None:
        self.stop_asked = False
        self.quit_asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # An inherited "ignore" of SIGCHLD would make the kernel throw exit statuses away: it alone is replaced.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._note)
        for number in (signal.SIGTSTP, signal.SIGQUIT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's shape
        if number == signal.SIGTSTP:
            self.stop_asked = True
        elif number == signal.SIGQUIT:
            self.quit_asked = True

    def suspend(self) -> None:
        """Stop this process until somebody continues it."""
        self.stop_asked = False
        os.kill(os.getpid(), signal.SIGSTOP)
