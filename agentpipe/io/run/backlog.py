"""What the agent has printed and the reader has not taken yet: first in memory, then on disk, first in first out.

The rule this module keeps: putting never waits while there is room, whatever the reader does, and memory stays bounded.
Once anything is on disk everything new goes behind it, so order stands. Only when the disk's share is full too does
`Backlog.put` wait, and it says so first.

On disk the queue is a row of temporary files without a name, each given back to the file system as soon as it is read,
so that a queue that never runs quite empty does not grow, and nothing is left behind however the process ends.
"""

import os
import struct
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["MEMORY_BYTES", "Backlog", "Chunk"]

#: Twice what an agent prints in a burst (lines of 4 MB): the disk is for readers that stall.
MEMORY_BYTES = 8 * 1024 * 1024

#: What a chunk in memory costs beyond its bytes: the bytes object's head, the tuple, the float.
_CHUNK_COST = 160

#: One file of the disk's share: large enough to be few, small enough that what was read is soon given back.
_FILE_BYTES = 64 * 1024 * 1024

_HEAD = struct.Struct("<BdI")


class Chunk(NamedTuple):
    """What one read brought: the index of its stream, when it came (Unix seconds), and the bytes; none at the end."""

    stream: int
    at: float
    data: bytes


class Backlog:
    """A bounded queue of chunks from one thread to another.

    ``fileno()`` polls as readable while there is something to take. *disk_bytes* of 0 keeps it in memory.
    *on_full* is called by the putting thread, with a reason, when it is about to wait; again only after the queue was
    half empty. *on_full* None makes waiting a matter of course. *file_bytes* is the size of one file on disk.
    """

    def __init__(
        self,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = 0,
        *,
        on_full: Callable[[str], None] | None = None,
        file_bytes: int = _FILE_BYTES,
    ) -> None:
        # given
        self._memory_limit = memory_bytes
        self._disk_limit = disk_bytes
        self._on_full = on_full
        # changing
        self._memory: deque[Chunk] = deque()
        self._memory_used = 0
        self._spill = _Spill(file_bytes)
        self._disk_problem: str | None = None
        self._said_full = False
        self._closed = False
        self._waiting = False
        self._changed = threading.Condition()
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.times_full = 0

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._event

    @property
    def held_bytes(self) -> int:
        """Bytes put and not yet taken, with what they cost."""
        return self._memory_used + self._spill.used

    @property
    def on_disk_bytes(self) -> int:
        """How much of it is on disk."""
        return self._spill.used

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for room."""
        return self._waiting

    def put(self, chunk: Chunk) -> bool:
        """Add *chunk*; wait while there is no room. False when the queue was closed: the chunk is not kept."""
        cost = len(chunk.data) + _CHUNK_COST
        with self._changed:
            while not self._closed and not self._store(chunk, cost):
                self._wait_for_room()
            return not self._closed

    def take(self, limit_bytes: int) -> list[Chunk]:
        """Remove and return the oldest chunks, at least one if there is any, at most *limit_bytes* of data."""
        taken: list[Chunk] = []
        size = 0
        with self._changed:
            while size < limit_bytes and (chunk := self._oldest()) is not None:
                taken.append(chunk)
                size += len(chunk.data)
            if not self._memory and not self._spill.used:
                self._clear_event()
            if self.held_bytes <= (self._memory_limit + self._disk_limit) // 2:
                self._said_full = False
            self._changed.notify_all()
        return taken

    def close(self) -> None:
        """Let nobody wait any longer and keep nothing that is put from now on; what is there can be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def release(self) -> None:
        """Give the files and the descriptor back; the queue is of no use afterwards."""
        with self._changed:
            self._closed = True
            self._spill.release()
            os.close(self._event)

    def _store(self, chunk: Chunk, cost: int) -> bool:
        """Put *chunk* where there is room for it. A chunk over a limit has room in what is empty."""
        if not self._spill.used and (not self._memory or self._memory_used + cost <= self._memory_limit):
            if not self._memory:
                os.eventfd_write(self._event, 1)
            self._memory.append(chunk)
            self._memory_used += cost
            return True
        if not self._disk_limit or self._spill.used + len(chunk.data) > self._disk_limit:
            return False
        try:
            self._spill.push(chunk)
        except OSError as error:
            self._disk_problem = error.strerror
            return False
        self._disk_problem = None
        return True

    def _wait_for_room(self) -> None:
        if not self._said_full and self._on_full is not None:
            self._said_full = True
            self.times_full += 1
            self._on_full(self._disk_problem or "the queue is full")
        self._waiting = True
        self._changed.wait()
        self._waiting = False

    def _oldest(self) -> Chunk | None:
        if self._memory:
            chunk = self._memory.popleft()
            self._memory_used -= len(chunk.data) + _CHUNK_COST
            return chunk
        return self._spill.pop() if self._spill.used else None

    def _clear_event(self) -> None:
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            pass  # nothing has come since it was last cleared


class _Spill:
    """The part on disk: chunks appended to the last file and read from the first; ``used`` counts bytes."""

    def __init__(self, file_bytes: int) -> None:
        self._file_bytes = file_bytes
        self._files: deque[_File] = deque()
        self.used = 0

    def push(self, chunk: Chunk) -> None:
        """Append *chunk*. Raises OSError and keeps nothing of it when the disk is full."""
        if not self._files or self._files[-1].end >= self._file_bytes:
            self._files.append(_File())
        self._files[-1].append(_HEAD.pack(chunk.stream, chunk.at, len(chunk.data)) + chunk.data)
        self.used += _HEAD.size + len(chunk.data)

    def pop(self) -> Chunk:
        """Remove the oldest chunk; there is one."""
        while self._files[0].start == self._files[0].end:
            self._files.popleft().close()
        first = self._files[0]
        stream, at, size = _HEAD.unpack(first.read(_HEAD.size))
        chunk = Chunk(stream, at, first.read(size))
        self.used -= _HEAD.size + size
        if not self.used:
            self.release()
        return chunk

    def release(self) -> None:
        """Give every file back."""
        while self._files:
            self._files.pop().close()
        self.used = 0


class _File:
    """One temporary file without a name; ``start`` is how far it was read, ``end`` how far it was written."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="agentpipe-", buffering=0)  # noqa: SIM115 - closed by `close`
        self.start = 0
        self.end = 0

    def append(self, data: bytes) -> None:
        """Write all of *data* at the end, or nothing that counts: a cut write is written over by the next."""
        fd, rest, place = self._file.fileno(), memoryview(data), self.end
        while rest:
            written = os.pwrite(fd, rest, place)
            rest, place = rest[written:], place + written
        self.end = place

    def read(self, size: int) -> bytes:
        """The next *size* bytes, which are there."""
        data = os.pread(self._file.fileno(), size, self.start)
        if len(data) != size:
            raise OSError(5, "the queue's file is shorter than what was written to it")
        self.start += size
        return data

    def close(self) -> None:
        """Give its space back to the file system."""
        self._file.close()
