"""Descriptors: reading what is there, and writing without ever waiting.

The rule this module keeps: nobody's flags are changed. ``O_NONBLOCK`` belongs to the open file description, which we
share with our shell, our terminal and our neighbours in the pipe; so a pipe is opened anew through ``/proc`` and a
socket is written with ``MSG_DONTWAIT``. (The size of a pipe is no flag: a larger one does nobody harm.)
"""

import errno
import fcntl
import os
import stat
from typing import Protocol

from agentpipe.errors import OutputError, ReaderGone

__all__ = ["READ_BYTES", "Outlet", "is_terminal", "read_some", "widen"]

#: One read takes at most this: two default pipes full, so that a fast writer is met with few system calls. With twice
#: as much, malloc hands the blocks of each batch back to the system and faults them in again (a fifth of the time).
READ_BYTES = 128 * 1024

#: What a pipe holds when nobody chose otherwise (pipe(7)).
_DEFAULT_PIPE_BYTES = 64 * 1024

#: Room for what two reads bring: a default pipe takes half a batch, so that each waits for the reader to run first;
#: with this a filter passes a fifth more events. More brings nothing, and would let a slow reader fall further behind.
_PIPE_BYTES = 2 * READ_BYTES

#: POSIX: a pipe that polls as writable takes this much without blocking.
_PIPE_BUF = 4096


def read_some(fd: int) -> bytes | None:
    """What is there to read now: bytes, ``b""`` at the end of the input, None when there is nothing yet."""
    try:
        return os.read(fd, READ_BYTES)
    except BlockingIOError:
        return None  # somebody who shares the description made it non-blocking
    except OSError as error:
        if error.errno == errno.EIO:  # a terminal that has been hung up
            return b""
        raise OutputError("stdin" if fd == 0 else f"descriptor {fd}", os.strerror(error.errno or 0)) from error


def widen(fd: int) -> None:
    """Let the pipe *fd* hold more, as far as the system allows. A size that somebody chose stays, larger or smaller."""
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        return  # only Linux has it
    try:
        if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) == _DEFAULT_PIPE_BYTES:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        return  # no pipe, or the account has as many pages in pipes as it may (pipe(7)): slower, nothing else


def is_terminal(fd: int) -> bool:
    """Whether *fd* is a terminal; False when it is closed."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


class _Write(Protocol):
    def __call__(self, data: memoryview) -> int: ...


class Outlet:
    """The writing end of a descriptor that never makes its owner wait.

    ``write`` takes bytes and sends what goes at once; the rest is ``pending`` until `flush` is called, which the owner
    does when ``fileno()`` polls as writable. Raises ReaderGone when the reader has closed, OutputError otherwise.
    """

    def __init__(self, fd: int, name: str = "stdout") -> None:
        # given
        self._name = name
        self._fd, self._send = self._opened(fd)
        # changing
        self._rest = memoryview(b"")
        self.bytes_written = 0

    @property
    def pending(self) -> int:
        """Bytes accepted and not yet sent."""
        return len(self._rest)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._fd

    def write(self, data: bytes) -> None:
        """Send *data* after what is pending, as far as it goes."""
        self._rest = memoryview(bytes(self._rest) + data) if self._rest else memoryview(data)
        self.flush()

    def flush(self) -> bool:
        """Send what is pending as far as it goes; True when nothing is left."""
        while self._rest:
            try:
                sent = self._send(self._rest)
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                raise ReaderGone from None
            except OSError as error:
                raise OutputError(self._name, os.strerror(error.errno or 0)) from error
            self.bytes_written += sent
            self._rest = self._rest[sent:]
            if self._rest and self._send == self._send_slice:
                return False  # ask poll again before the next slice
        return True

    def _opened(self, fd: int) -> tuple[int, _Write]:
        try:
            mode = os.fstat(fd).st_mode
        except OSError as error:
            raise OutputError(self._name, os.strerror(error.errno or 0)) from error
        if stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(fd)):
            return fd, self._send_whole  # a file, /dev/null, /dev/full: none of them ever waits
        if stat.S_ISFIFO(mode):
            return self._opened_pipe(fd)
        if stat.S_ISSOCK(mode):
            import socket  # 3 ms of start-up that only a socket as output is worth

            self._socket = socket.socket(fileno=os.dup(fd))
            self._dont_wait = socket.MSG_DONTWAIT
            return self._socket.fileno(), self._send_socket
        return fd, self._send_slice

    def _opened_pipe(self, fd: int) -> tuple[int, _Write]:
        widen(fd)
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC), self._send_whole
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise ReaderGone from None
            return fd, self._send_slice  # no /proc here: small slices after poll do the same, slower

    def _send_whole(self, data: memoryview) -> int:
        return os.write(self._fd, data)

    def _send_slice(self, data: memoryview) -> int:
        return os.write(self._fd, data[:_PIPE_BUF])

    def _send_socket(self, data: memoryview) -> int:
        return self._socket.send(data, self._dont_wait)
