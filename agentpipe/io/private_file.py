"""Files that are nobody else's business: made with mode 0600 before anything is in them."""

import errno
import os
import stat

__all__ = ["create_private"]


def create_private(path: str) -> None:
    """Make the file *path* for this account alone when it is not there; where a symbolic link leads nowhere, the file
    that it names. Raises OSError when it cannot be made, or is a directory, a pipe or a device: SQLite would make files
    of its own beside ``/dev/null``.

    A file that is there is not opened: closing any descriptor of a file drops this process' POSIX locks on it, those of
    SQLite among them ("How To Corrupt An SQLite Database File", 2.2).
    """
    try:
        os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Is no regular file", path) from None
