"""Finding, signalling and burying what a command has started, wherever it has gone.

The rule this module keeps: only descendants are touched, and only those that came after us. Agents run their commands
in sessions of their own, which no signal to the agent's group reaches; as a child subreaper we become the parent of
every orphan, so that walking down from ourselves finds them all. Children that we had before (a shell that started
background jobs and then became us with ``exec``) are nobody's business.

One kind of descendant is never found: the senders of ``agentpipe hook``, which an agent's hooks start and which bring
to the hub what the agent's last hooks have said. They are ours, hold nothing of the agent's and end by themselves; the
agent's end is not theirs.
"""

import ctypes
import os
import signal
from collections.abc import Set as AbstractSet
from itertools import dropwhile
from typing import NamedTuple

__all__ = ["adopt_orphans", "bury", "children", "descendants", "die_with_parent", "send"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: Program and first words of a sender; what a command line has more is arguments.
_CMDLINE_BYTES = 4096

#: What we are called: the installed command, and the module that a sender is run as (``-m agentpipe_cli``).
_OURS = frozenset({b"agentpipe", b"agentpipe_cli"})

_libc = ctypes.CDLL(None, use_errno=True)


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int
    state: str


def adopt_orphans() -> bool:
    """Make this process the parent of its descendants' orphans; False when the system cannot (before Linux 3.4)."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Ask, in a child between fork and exec, for SIGTERM when the thread that forked it ends; *parent* is its pid.

    It is the last resort for a parent that was ended by SIGKILL and could run no code.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), signal.SIGTERM)


def children() -> frozenset[int]:
    """The pids of our children, zombies too."""
    own = os.getpid()
    return frozenset(process.pid for process in _processes() if process.parent == own)


def descendants(besides: AbstractSet[int] = frozenset()) -> list[int]:
    """The pids of our living descendants, without those in *besides* and theirs, and without senders of hooks."""
    families: dict[int, list[_Process]] = {}
    for process in _processes():
        families.setdefault(process.parent, []).append(process)
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        for process in families.get(waiting.pop(), ()):
            if process.pid in besides:
                continue
            waiting.append(process.pid)
            if process.state != "Z" and not _sends_hooks(process):
                found.append(process.pid)
    return found


def bury(besides: AbstractSet[int]) -> None:
    """Reap our dead children, so that no zombie of an adopted orphan stays; not those in *besides*."""
    own = os.getpid()
    for process in _processes():
        if process.parent == own and process.state == "Z" and process.pid not in besides:
            try:
                os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:
                pass  # somebody else in this process was quicker


def send(name: str, *, group: int | None = None, pids: AbstractSet[int] = frozenset()) -> None:
    """Send the signal called *name* to a process group and to single processes; those that are gone are no error."""
    number = signal.Signals[name]
    if group is not None:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            pass  # all gone, or a program that runs as somebody else: the rest of the ladder cannot do more
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # as above


def _processes() -> list[_Process]:
    """Every process we can see."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent, _, session = file.read().rpartition(b")")[2].split(maxsplit=4)[:4]
            except (OSError, ValueError):
                continue  # it ended while we looked
            found.append(_Process(int(name), int(parent), int(session), state.decode()))
    return found


def _sends_hooks(process: _Process) -> bool:
    """Whether *process* is the sender of a hook, or about to become it.

    A sender is a session leader from its first step on (`agentpipe.io.hook.entry`), so that few command lines are read
    at all. The command line tells it in every moment: between `fork` and `exec`, which may be two seconds, it is the
    hook's own, which a mark in the environment, or a name, that is set at `exec` would miss. Nobody has ``agentpipe
    hook`` as program and first word by accident; who has it on purpose could get away from us by ``at`` as well.
    """
    if process.session != process.pid:
        return False
    try:
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            words = file.read(_CMDLINE_BYTES).split(b"\0")
    except OSError:
        return False  # it ended while we looked
    if words[0].rpartition(b"/")[2] not in _OURS:  # an interpreter, its options, and the program
        words = list(dropwhile(lambda word: word.startswith(b"-") and word != b"-c", words[1:]))
    return len(words) > 1 and words[0].rpartition(b"/")[2] in _OURS and words[1] == b"hook"


def _prctl(request: int, value: int) -> bool:
    try:
        return bool(_libc.prctl(request, value, 0, 0, 0) == 0)
    except AttributeError:
        return False  # not Linux
