"""Saved logs: a file, a packed one, or a descriptor, read block by block.

The rule this module keeps: nothing is read ahead of what was asked for, and a file that cannot be read is an error that
names it.
"""

import gzip
import os
import stat
import zlib
from typing import Protocol, Self

from agentpipe.errors import InputMissing, OutputError
from agentpipe.io.streams import READ_BYTES, read_some

__all__ = ["Source", "opened"]


class Source(Protocol):
    """A log being read: ``read`` gives a block, ``b""`` at its end, None when there is nothing yet."""

    fd_to_poll: int | None

    def read(self) -> bytes | None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *details: object) -> None: ...


def opened(path: str) -> Source:
    """The log at *path* (``-`` is descriptor 0; gzip is recognised). Raises InputMissing, also while it is read."""
    if path == "-":
        return _Plain(0, path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputMissing(path, os.strerror(error.errno or 0)) from None
    try:
        packed = os.pread(fd, 2, 0) == b"\x1f\x8b"
    except OSError:  # a pipe or a terminal cannot be looked into
        packed = False
    return _Packed(fd, path) if packed else _Plain(fd, path)


class _Plain:
    """A descriptor; one that is no regular file is polled before each read."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path
        self.fd_to_poll = None if _is_regular(fd) else fd

    def read(self) -> bytes | None:
        try:
            return read_some(self._fd)
        except OutputError as error:
            raise InputMissing(self._path, error.problem) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        if self._fd > 2:
            os.close(self._fd)


class _Packed:
    """A gzip file."""

    fd_to_poll: int | None = None

    def __init__(self, fd: int, path: str) -> None:
        self._path = path
        self._raw = os.fdopen(fd, "rb")
        self._file = gzip.GzipFile(fileobj=self._raw)

    def read(self) -> bytes | None:
        try:
            return self._file.read1(READ_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise InputMissing(self._path, f"damaged gzip: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._file.close()
        self._raw.close()


def _is_regular(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False
