"""The token that guards a hub: a file that only its owner can read.

The rule this module keeps: a token is never in an argument, a query string or a log. ``serve`` makes the file on its
first start; ``publish`` and ``subscribe`` of the same account read it for loopback hubs.
"""

import os
import secrets

from agentpipe.errors import InputMissing, OutputError

__all__ = ["default_path", "read", "read_or_make", "state_directory"]

#: 256 bits, URL-safe, so that it fits a fragment and a header as it is.
TOKEN_BYTES = 32

#: More than any token; whoever names another file by mistake is told so instead of sending it.
MAX_TOKEN_LENGTH = 4096


def state_directory() -> str:
    """``$XDG_STATE_HOME/agentpipe`` (``~/.local/state/agentpipe``): where tokens and stores live by default."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(home, "agentpipe")


def default_path() -> str:
    """The token file that is used when none is named."""
    return os.path.join(state_directory(), "token")


def read(path: str) -> str:
    """The token in the file *path*. Raises InputMissing when it cannot be read or holds none."""
    try:
        with open(path, encoding="ascii") as file:
            token = file.read(MAX_TOKEN_LENGTH + 1).strip()
    except OSError as error:
        raise InputMissing(path, error.strerror or str(error)) from error
    except UnicodeDecodeError:
        raise InputMissing(path, "this is no token") from None
    if not token or len(token) > MAX_TOKEN_LENGTH or any(character.isspace() for character in token):
        raise InputMissing(path, "the file holds no token")
    return token


def read_or_make(path: str) -> str:
    """The token in the file *path*, made (mode 0600) when it is not there. Raises OutputError, InputMissing.

    The file appears whole: who looks for it at the same moment finds no token or this one.
    """
    if not os.path.lexists(path):
        part = f"{path}.{secrets.token_hex(4)}"
        try:
            os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
            made = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(made, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
            _appear(part, path)
        except FileExistsError:
            pass  # a file where the folder should be: reading says so
        except OSError as error:
            raise OutputError(path, error.strerror or str(error)) from error
    return read(path)


def _appear(part: str, path: str) -> None:
    """Give the file *part* its name unless somebody else was quicker. Raises OSError."""
    try:
        os.link(part, path)
    except FileExistsError:
        return  # theirs counts
    finally:
        os.unlink(part)
