"""Files that are nobody else's business: made with mode 0600 before anything is in them."""

import os

__all__ = ["create_private"]


def create_private(path: str) -> None:
    """Make the file *path* for this account alone when it is not there. Raises OSError when it cannot be made.

    A file that is there is not opened: closing any descriptor of a file drops this process' POSIX locks on it, those of
    SQLite among them ("How To Corrupt An SQLite Database File", 2.2).
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
