"""The descriptors between a command and us: what it gets as stdin, stdout and stderr, and what we read.

The rule this module keeps: the command never holds one of our own descriptors unless the user said ``inherit``, so
whatever flags it sets are its own affair.
"""

import fcntl
import os
import struct
import termios
from typing import Literal

from agentpipe.io.run.drain import enlarge

__all__ = ["STREAMS", "Plumbing"]

#: The names of the streams by their index in chunks.
STREAMS = ("stdout", "stderr")

#: What programs assume when nobody tells them.
_ROWS, _COLUMNS = 24, 80


class Plumbing:
    """Opens what a command needs. *large* asks for pipes of 1 MiB."""

    def __init__(
        self, stdin: Literal["null", "inherit"], stderr: Literal["events", "inherit", "null"], *, pty: bool, large: bool
    ) -> None:
        # changing
        self._sources: dict[int, int] = {}
        self._opened: list[int] = []
        # given
        self._large = large
        self.stdin = 0 if stdin == "inherit" else self._own(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        self.stdout = self._terminal(0) if pty else self._pipe(0)
        self.stderr = self._stderr(stderr)

    def hand_over(self) -> None:
        """Close our copies of the command's ends, so that a pipe ends when the command lets go of it."""
        while self._opened:
            os.close(self._opened.pop())

    def take_sources(self) -> dict[int, int]:
        """The descriptors that we read, each with the index of its stream; they are the caller's from now on."""
        sources, self._sources = self._sources, {}
        return sources

    def close(self) -> None:
        """Close what nobody has taken."""
        self.hand_over()
        while self._sources:
            os.close(self._sources.popitem()[0])

    def _stderr(self, mode: Literal["events", "inherit", "null"]) -> int:
        if mode == "inherit":
            return 2
        if mode == "null":
            return self._own(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        return self._pipe(1)

    def _pipe(self, stream: int) -> int:
        read_end, write_end = os.pipe()
        if self._large:
            enlarge(read_end)
        self._sources[read_end] = stream
        return self._own(write_end)

    def _terminal(self, stream: int) -> int:
        """A pseudo-terminal that hands bytes through as they are: without it, each LF would come as CR LF."""
        ours, theirs = os.openpty()
        modes = termios.tcgetattr(theirs)
        modes[1] &= ~termios.OPOST
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self._sources[ours] = stream
        return self._own(theirs)

    def _own(self, fd: int) -> int:
        self._opened.append(fd)
        return fd
