"""Signals as something a poll loop can wait for.

The rule this module keeps: a signal that we inherited as ignored stays ignored (``nohup``, ``&`` in a script), and
handlers do nothing but count, so that no write is ever cut in the middle.
"""

import os
import signal
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

__all__ = ["SignalWatch", "die_of"]


class SignalWatch:
    """A context in which SIGINT, SIGTERM and SIGHUP are counted instead of killing; ``fileno()`` wakes a poll.

    ``interrupts`` counts SIGINT; ``ended_by`` is the first of SIGTERM and SIGHUP, or None. Only for the main thread.
    """

    def __init__(self) -> None:
        self.interrupts = 0
        self.ended_by: signal.Signals | None = None
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        os.set_blocking(self._read_end, False)
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1

    def fileno(self) -> int:
        """Polls as readable after a signal."""
        return self._read_end

    def drain(self) -> None:
        """Forget the wake-up, not the counts."""
        try:
            while os.read(self._read_end, 512):
                pass
        except BlockingIOError:
            pass  # empty now

    def __enter__(self) -> Self:
        self._wakeup_before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._read_end)
        os.close(self._write_end)

    def _count(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's shape
        if number == signal.SIGINT:
            self.interrupts += 1
        elif self.ended_by is None:
            self.ended_by = signal.Signals(number)


def die_of(number: signal.Signals) -> NoReturn:
    """End this process as the signal *number* would have, so that the parent's shell sees it (128+n)."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # only when the default action does not end us (PID 1 in a container)
