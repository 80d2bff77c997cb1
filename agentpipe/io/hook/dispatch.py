"""Delivering a spool, and then what other sessions have left behind.

The rules this module keeps: one sender a spool; a spool that waits for a hub is found again by the next sender that
reaches one; nothing is kept for ever, and what is thrown away is counted where the next sender finds it.
"""

import os
import time
from collections.abc import Callable, Iterator

from agentpipe.errors import InputMissing, OutputError, Undelivered
from agentpipe.inflight import Window
from agentpipe.io.address import Address
from agentpipe.io.delivery import Delivery
from agentpipe.io.hook import spool
from agentpipe.io.hook.sender import Ending, Sender, taken_lock
from agentpipe.io.hook.spool import FIRST, LAST, MARK, Spool, header, lock_sender, said_at
from agentpipe.io.hook.tape import LOCK_S, Tape, heading
from agentpipe.parse import Parse, ParseOptions
from agentpipe.stage import Stage

__all__ = ["deliver", "send", "sweep"]

#: Events that the hub has not stored, in memory; the others wait in the spool.
WINDOW_BYTES = 8 << 20

#: A session that said nothing for a day and never said its end: it was killed, or the machine was.
SILENT_S = 86_400.0

#: A hub that could not be reached for a week is not going to get these payloads.
EXPIRED_S = 7 * 86_400.0

#: A session can be resumed for as long as Claude Code keeps its transcript, 30 days; until then its spool, empty,
#: remembers which runs there were.
FORGOTTEN_S = 90 * 86_400.0

#: Where the last payload of a session is looked for.
_TAIL_BYTES = 16 * 1024

_SUFFIX = ".ndjson"


def send(name: str, address: Address, *, linger: float, warn: Callable[[str], None]) -> int:
    """Send the spool called *name*, or ``all``, and what others left; the exit status: 0 when everything is stored, or
    another process is at it, else 75. Raises InputMissing when there is no such spool, OutputError.
    """
    where = spool.folder()
    paths = list(_spools(where)) if name == "all" else [_path_of(where, name)]
    endings = {deliver(path, address, linger=linger, warn=warn) for path in paths}
    if Ending.ASKED not in endings:
        sweep(where, address if Ending.DELIVERED in endings else None, linger=linger, warn=warn)
    return 0 if endings <= {Ending.DELIVERED, None} else Undelivered.status


def _path_of(folder: str, name: str) -> str:
    path = os.path.join(folder, name + _SUFFIX)
    if os.path.basename(name) != name or not os.path.exists(path):
        raise InputMissing(name, "no hook of such a session is kept")
    return path


def deliver(
    path: str, address: Address, *, linger: float, warn: Callable[[str], None], closing: bool = False
) -> Ending | None:
    """Send the spool at *path* until its session has ended, or nothing came for *linger* seconds; None when another
    process does so already. *closing* says that the session is over though it has not said so. Raises OutputError.
    """
    try:
        lock = taken_lock(path)
        if lock is None:
            return None
        os.pwrite(lock, b"%-10d\n" % os.getpid(), 0)  # for people who wonder who this is
        with Spool(path, b"", time.monotonic() + LOCK_S) as held:
            held.declare()
        ending = Ending.ANEW
        while ending is Ending.ANEW:
            tape = Tape(path, _parser)
            delivery = Delivery([address], Window(WINDOW_BYTES), warn=warn)
            ending = Sender(delivery, tape, lock, linger=linger, closing=closing).run()
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    return ending


def _parser(run_id: str) -> Stage:
    return Parse(ParseOptions(format="claude-hooks", run_id=run_id))


def sweep(folder: str, address: Address | None, *, linger: float, warn: Callable[[str], None]) -> None:
    """See to the spools in *folder* that no sender holds: send those of sessions that are over to the hub at *address*,
    None while it cannot be reached, and forget the old ones.
    """
    for path in _spools(folder):
        age = _age_s(path)
        if _is_blank(path):
            if age > FORGOTTEN_S:
                _remove(path)
            continue
        ending: Ending | None = Ending.AWAY
        if address is not None and (age > SILENT_S or _said_its_end(path)):
            ending = deliver(path, address, linger=linger, warn=warn, closing=True)
        if ending is Ending.ASKED:
            return
        if ending is Ending.AWAY and age > EXPIRED_S:
            _expire(path)


def _spools(folder: str) -> Iterator[str]:
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if name.endswith(_SUFFIX):
            yield os.path.join(folder, name)


def _age_s(path: str) -> float:
    return time.time() - os.stat(path).st_mtime


def _is_blank(path: str) -> bool:
    """Whether the spool holds no more than which runs there were."""
    with open(path, "rb") as file:
        start = file.readline(4096)
        return not start or (not file.read(1) and b":         0," in start)


def _said_its_end(path: str) -> bool:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        tail = file.read()
    return said_at(tail, LAST) > said_at(tail, FIRST)  # one that was resumed has not


def _locked(path: str, step: Callable[[Spool], None]) -> None:
    """Do something with a spool that nobody sends and nobody writes to."""
    try:
        lock = lock_sender(path)
        if lock is None:
            return
        try:
            with Spool(path, b"", time.monotonic() + LOCK_S) as held:
                step(held)
        finally:
            os.close(lock)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error


def _remove(path: str) -> None:
    def remove(_: Spool) -> None:
        if _age_s(path) > FORGOTTEN_S:
            os.unlink(path)
            os.unlink(path.removesuffix(_SUFFIX) + ".lock")

    _locked(path, remove)


def _expire(path: str) -> None:
    """Keep of a spool how many payloads it held: its next run begins with that. A hub may have stored some of them
    long ago, which nobody remembers: rather too many are called lost than one too few.
    """

    def expire(held: Spool) -> None:
        if _age_s(path) <= EXPIRED_S:
            return
        with open(path, "rb") as file:
            base, generation = heading(file.readline(), path)
            marks = payloads = 0
            for line in file:
                marks += line.startswith(MARK + b"end")
                payloads += not line.startswith(MARK)
        held.replace(header(generation + marks + 1, base.encode(), held.lost + payloads))

    _locked(path, expire)
