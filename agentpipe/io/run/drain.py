"""The thread that empties an agent's pipes the moment there is something in them.

The rule this module keeps: nothing that happens downstream delays it. It only reads, writes the ``--tee`` file and puts
into the `Backlog`; agents that find their pipe full throw their output away and exit with status 0.
"""

import errno
import fcntl
import os
import select
import threading
from collections.abc import Callable, Mapping

from agentpipe.io.clock import Clock, now
from agentpipe.io.run.backlog import Backlog, Chunk

__all__ = ["Drain", "Tee", "enlarge"]

#: One read takes at most this: a default pipe full. Short lines grow a hundredfold as events, so more costs memory.
_READ_BYTES = 64 * 1024

#: What an unprivileged process may ask for (``/proc/sys/fs/pipe-max-size``); at 64 KiB agents lose their last lines.
_PIPE_BYTES = 1024 * 1024


def enlarge(fd: int) -> None:
    """Make the pipe *fd* as large as we may; smaller works too, so a refusal is no error."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        pass  # not a pipe, or the user's share of pipe memory is used up


class Tee:
    """The file that gets what the agent wrote to its stdout, byte for byte.

    A disk that is full harms nobody: it is said once, and the bytes that are missing are counted in ``lost_bytes``.
    Raises OSError when *path* cannot be opened.
    """

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        # given
        self._path = path
        self._warn = warn
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        # changing
        self.lost_bytes = 0

    def write(self, data: bytes) -> None:
        """Append *data*; after a failure nothing more is written, so that what is there has no hole."""
        if self.lost_bytes:
            self.lost_bytes += len(data)
            return
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            self.lost_bytes = len(rest)
            self._warn(f"{self._path}: {os.strerror(error.errno or 0)}; the file ends here, the agent goes on")

    def close(self) -> None:
        """Close the file and say what it lacks."""
        os.close(self._fd)
        if self.lost_bytes:
            self._warn(f"{self._path}: {self.lost_bytes} bytes were not written")


class Drain:
    """Reads *sources* (descriptor → index of the stream) to their end, into *backlog*.

    An empty chunk marks the end of a stream. Stream 0 goes to *tee* too. ``last_at`` is when something last came. The
    descriptors are closed at the end.
    """

    def __init__(
        self, sources: Mapping[int, int], backlog: Backlog, tee: Tee | None = None, clock: Clock = now
    ) -> None:
        # given
        self._sources = dict(sources)
        self._backlog = backlog
        self._tee = tee
        self._clock = clock
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._buffer = bytearray(_READ_BYTES)  # a fresh one a read would leave a page behind for every short line
        self._thread = threading.Thread(target=self._run, name="agentpipe-drain", daemon=True)
        # changing
        self.last_at = clock()
        self.stopping = False
        for fd in self._sources:
            os.set_blocking(fd, False)  # our own end of a pipe: nobody shares its description

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether everything has been read and put."""
        return not self._thread.is_alive()

    def stop_reading(self) -> None:
        """Read what is there and then no more, though somebody still holds the other end."""
        if not self.ended:
            self.stopping = True
            os.eventfd_write(self._stop, 1)

    def finish(self) -> None:
        """Stop reading, wait for the thread to end, and keep nothing open."""
        self._backlog.close()
        if not self.ended:
            self.stop_reading()
            self._thread.join()
        for fd in self._sources:
            os.close(fd)
        os.close(self._stop)

    def _run(self) -> None:
        """Read until every source has ended; whatever happens, every stream gets its end."""
        try:
            self._read_all()
        finally:
            for fd in list(self._sources):
                self._end(fd)

    def _read_all(self) -> None:
        poll = select.poll()
        for fd in (*self._sources, self._stop):
            poll.register(fd, select.POLLIN)
        while self._sources:
            ready = [fd for fd, _ in poll.poll()]
            if self._stop in ready:
                self._read_rest()
                return
            for fd in ready:
                if not self._read(fd):
                    poll.unregister(fd)
                    self._end(fd)

    def _read(self, fd: int) -> bool:
        """Take what one read brings; False at the end."""
        try:
            size = os.readv(fd, [self._buffer])
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: the last process let go of a pseudo-terminal
                raise
            size = 0
        if not size:
            return False
        data = bytes(memoryview(self._buffer)[:size])
        self.last_at = self._clock()
        stream = self._sources[fd]
        if self._tee is not None and stream == 0:
            self._tee.write(data)
        self._backlog.put(Chunk(stream, self.last_at, data))
        return True

    def _read_rest(self) -> None:
        """Read what is in the pipes, and no more than fits into them, for somebody may still be writing."""
        for fd in self._sources:
            for _ in range(_PIPE_BYTES // _READ_BYTES):
                if not self._read(fd):
                    break

    def _end(self, fd: int) -> None:
        self._backlog.put(Chunk(self._sources.pop(fd), self._clock(), b""))
        os.close(fd)
