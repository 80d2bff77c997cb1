"""Every exception agentpipe raises, and nothing else.

The tree, with the exit status that ``agentpipe_cli.main`` gives to each leaf::

    AgentpipeError                       1
    ├── CallerError                           what we were asked to do, or the machine we do it on
    │   ├── OptionError                  2    an option, file or URL makes no sense
    │   ├── InputError                  65    a malformed line under --strict
    │   ├── InputMissing                66    a file that is not there
    │   └── OutputError                 74    reading or writing failed (disk full, I/O error)
    │       └── ContinuityLost          74    entries of a shared log are gone: what is known of it is worth nothing
    └── PeerError                             the process or server at the other end
        ├── ReaderGone                 141    whoever reads our stdout has closed it: end silently
        ├── HubUnreachable              69    the hub cannot be reached and --required was given
        ├── Undelivered                 75    the input ended and events were not acknowledged
        ├── ProtocolError               76    the hub said something that the protocol does not allow
        └── AuthError                   77    the hub refused our token

Fields are stored, text is built in ``__str__``; the statuses are those of ``sysexits.h`` and of shells.
"""

from typing import ClassVar

__all__ = [
    "AgentpipeError",
    "AuthError",
    "CallerError",
    "ContinuityLost",
    "HubUnreachable",
    "InputError",
    "InputMissing",
    "OptionError",
    "OutputError",
    "PeerError",
    "ProtocolError",
    "ReaderGone",
    "Undelivered",
]


class AgentpipeError(Exception):
    """Root of the tree: whatever agentpipe raises on purpose."""

    status: ClassVar[int] = 1


class CallerError(AgentpipeError):
    """What we were asked to do cannot be done."""


class PeerError(AgentpipeError):
    """The other end is gone or misbehaves."""


class OptionError(CallerError):
    """The value of an option, a setting or a URL makes no sense; ``option`` names it."""

    status = 2

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(option, problem)
        self.option = option
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.option}: {self.problem}"


class InputError(CallerError):
    """A line of the input is not what it should be; ``line`` counts from 1, ``column`` in bytes from 1."""

    status = 65

    def __init__(self, source: str, line: int, column: int, problem: str) -> None:
        super().__init__(source, line, column, problem)
        self.source = source
        self.line = line
        self.column = column
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}: {self.problem}"


class InputMissing(CallerError):
    """A file that was named is not there or cannot be read."""

    status = 66

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class OutputError(CallerError):
    """Reading or writing failed below us; ``target`` is the path or ``stdout``."""

    status = 74

    def __init__(self, target: str, problem: str) -> None:
        super().__init__(target, problem)
        self.target = target
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.target}: {self.problem}"


class ContinuityLost(OutputError):
    """The log that several hubs share is no longer the one that was opened: entries that were seen in it are gone. It
    has a new epoch, and what is known of it has to be read anew.
    """


class ReaderGone(PeerError):
    """Whoever reads our stdout has closed it; the process ends as if killed by SIGPIPE."""

    status = 141

    def __str__(self) -> str:
        return "the reader of the output is gone"


class HubUnreachable(PeerError):
    """No hub answered at ``url``."""

    status = 69

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(url, problem)
        self.url = url
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.url}: {self.problem}"


class Undelivered(PeerError):
    """The input ended and ``count`` events were never acknowledged by the hub."""

    status = 75

    def __init__(self, count: int, problem: str) -> None:
        super().__init__(count, problem)
        self.count = count
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.count} events not delivered: {self.problem}"


class ProtocolError(PeerError):
    """A message that ``docs/protocol.md`` does not allow; ``code`` is the wire's error code."""

    status = 76

    def __init__(self, code: str, problem: str) -> None:
        super().__init__(code, problem)
        self.code = code
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.code}: {self.problem}"


class AuthError(PeerError):
    """The hub refused our token, or what we asked is outside its scope."""

    status = 77

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(url, problem)
        self.url = url
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.url}: {self.problem}"
