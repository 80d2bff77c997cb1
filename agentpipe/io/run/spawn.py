"""Starting a command so that it runs as it would without us.

The rule this module keeps: the command gets its own name as ``argv[0]``, its arguments as bytes, our environment, our
open descriptors and the signal dispositions that we were started with; only its stdin, stdout and stderr, its session
and its working directory are what `spawn` was told.

`sh` forks, makes the session and wires the descriptors; nothing of its reading or writing is used, for that loses what
a slow consumer has not taken 2 s after the end. This is the only module that imports it.
"""

import dataclasses
import errno
import os
import shutil
import signal
from collections.abc import Sequence
from typing import Any, cast

import sh

from agentpipe.io.run.reaper import die_with_parent

__all__ = ["Child", "Program", "Refused", "find", "spawn"]

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """A command that can be started: the file, the words as given, and where it will run."""

    path: str
    words: tuple[str, ...]
    folder: str


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """A command that cannot be started, with the exit status of shells for that."""

    status: int
    problem: str


def find(words: Sequence[str], folder: str) -> Program | Refused:
    """Look for the command *words* as a shell would that stands in *folder*."""
    name = words[0]
    if "/" in name:
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            return Refused(_NOT_FOUND, f"{name}: no such file")
    else:
        path = shutil.which(name) or ""
        if not path and not (path := shutil.which(name, mode=os.F_OK) or ""):
            return Refused(_NOT_FOUND, f"{name}: command not found")
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        return Refused(_NOT_EXECUTABLE, f"{name}: not executable")
    return Program(os.path.abspath(path), tuple(words), folder)


class Child:
    """A started command. ``fileno()`` polls as readable once it has ended."""

    def __init__(self, process: "sh.OProc") -> None:
        # given
        self._process = process
        self.pid: int = process.pid
        self.group: int = process.pgid
        self._fd = _watch(self.pid)
        # changing
        self.status: int | None = None

    def fileno(self) -> int:
        """The descriptor to poll; -1 when there is none, since the command had ended already."""
        return self._fd

    def poll(self) -> int | None:
        """The exit status, or minus the number of the signal that ended it; None while it runs."""
        if self.status is None and not self._process.is_alive()[0]:
            self.status = self._process.wait()
        return self.status

    def release(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _watch(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:  # it ended at once, or a kernel before 5.3
        return -1


def spawn(program: Program, stdin: int, stdout: int, stderr: int) -> Child | Refused:
    """Start *program* in a session of its own with these descriptors, which stay the caller's to close.

    To be called from the main thread before others are started: the child is told to end with the thread that forked.
    """
    hangup = signal.SIG_IGN if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else signal.SIG_DFL
    parent = os.getpid()
    arguments = [os.fsencode(word) for word in program.words]
    environment = _environment()

    def become() -> None:
        signal.signal(signal.SIGHUP, hangup)  # sh ignores it for background commands
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        die_with_parent(parent)
        _exec(program.path, arguments, environment)

    try:
        command = sh.Command(program.path)(
            _in=cast("Any", stdin),  # a descriptor works; the stub forgot it
            _out=stdout,  # being a descriptor, it makes `_tty_out` irrelevant, and an error when it is a terminal
            _err=stderr,
            _cwd=program.folder,
            _new_session=True,
            _close_fds=False,  # ours are all close-on-exec; others were left open for the command
            _preexec_fn=become,
            _bg=True,
            _bg_exc=False,
        )
    except (sh.ForkException, sh.CommandNotFound, OSError) as error:
        return Refused(_NOT_EXECUTABLE, f"{program.words[0]}: {_reason(error)}")
    return Child(command.process)


def _exec(path: str, arguments: list[bytes], environment: dict[bytes, bytes]) -> None:
    """Become the program; a script without an interpreter line is the shell's, as POSIX has it for ``execvp``."""
    try:
        os.execve(path, arguments, environment)  # noqa: S606 - starting what the user named is the point
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    os.execve("/bin/sh", [b"/bin/sh", os.fsencode(path), *arguments[1:]], environment)  # noqa: S606 - as above


def _environment() -> dict[bytes, bytes]:
    """Our environment without what Python added to it: ``LC_CTYPE``, when it found itself in the C locale."""
    environment = dict(os.environb)
    if environment.get(b"LC_CTYPE") == b"C.UTF-8":
        try:
            with open("/proc/self/environ", "rb") as file:
                given = file.read().split(b"\0")
        except OSError:
            return environment
        if not any(pair.startswith(b"LC_CTYPE=") for pair in given):
            del environment[b"LC_CTYPE"]
    return environment


def _reason(error: Exception) -> str:
    """The last line of the traceback that `sh` brings from the child."""
    lines = str(error).strip().replace("\\n", "\n").splitlines()
    return lines[-1].strip("'\"") if lines else type(error).__name__
