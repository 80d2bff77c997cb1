"""What the agent runs and waits for: read the payload, append it to the session's spool, see that a sender lives.

The rule this module keeps: **the agent is never harmed.** Whatever happens the status is 0 and nothing is written to
stdout or stderr. What does not go at once (a payload that is still being written, a lock that is held) goes on in a
process of its own, which holds none of the agent's descriptors but its end of the payload.

It may import nothing that costs time: half of the time that the agent waits is Python's own start.
"""

import os
import sys
import time

from agentpipe.io.hook.spool import LOCK_FD, PAYLOAD_BYTES, Late, Spool, folder, lock_sender, spool_name

__all__ = ["is_plain", "main"]

#: The agent waits no longer than this for us, beside Python's start: together they stay under 50 ms.
BUDGET_S = 0.025

#: What goes on in a process of its own ends all the same: an agent gives a hook a minute.
PATIENCE_S = 60.0

#: A sender that ended soon after its start had a reason that the next one may have too (settings that make no sense):
#: the next one starts so long after it, so that what a start costs is not paid for every hook.
RESTART_S = 2.0

#: What the sender is told too.
_OPTIONS = ("--url", "--token-file", "--ca-file", "--linger")
_FLAGS = ("--insecure",)

#: These ask for something else than keeping a payload.
_OTHERS = ("--help", "-h", "--install", "--uninstall", "--send")

_READ_BYTES = 1 << 20


def is_plain(arguments: list[str]) -> bool:
    """Whether ``agentpipe hook`` with these *arguments* is called by an agent. A wrong option is no reason to say no:
    an agent takes a hook's status 2 as a refusal.
    """
    return not any(argument.partition("=")[0] in _OTHERS for argument in arguments) and not _is_terminal(0)


def main(arguments: list[str]) -> None:
    """Keep the payload on stdin; ends the process with status 0. It returns only where no agent waits: there is no
    payload, and an option is wrong, which somebody will want to know.
    """
    try:
        with _Undisturbed():
            if not _keep(arguments) and _wrong(arguments):
                return
    except BaseException:  # noqa: BLE001 - whatever it is, it is not the agent's business
        os._exit(0)
    os._exit(0)


class _Undisturbed:
    """A context: Ctrl-C and a closed terminal are for the agent, whose last hooks are kept all the same."""

    def __enter__(self) -> None:
        import _signal  # type: ignore[import-not-found] # the module `signal` makes enumerations: 4 ms

        self._before = [(n, _signal.signal(n, _signal.SIG_IGN)) for n in (_signal.SIGINT, _signal.SIGHUP)]

    def __exit__(self, *_: object) -> None:
        import _signal

        for number, handler in self._before:
            _signal.signal(number, handler)


def _keep(arguments: list[str]) -> bool:
    """Keep the payload, and see that somebody sends it; False when there is none."""
    deadline = time.monotonic() + BUDGET_S
    try:
        payload, more = _read(deadline)
    except Late as late:
        _detach(keep_stdin=True)
        deadline = time.monotonic() + PATIENCE_S
        payload, more = _read(deadline, late.args[0])
    if not payload:
        return False
    session = _session(payload)
    path = os.path.join(folder(), f"{spool_name(session)}.ndjson")
    try:
        _append(path, session, payload, more, deadline)
    except Late:
        _detach(keep_stdin=False)
        _append(path, session, payload, more, time.monotonic() + PATIENCE_S)
    lock = lock_sender(path)
    if lock is not None:
        _send(path, lock, arguments)
    return True


def _append(path: str, session: bytes, payload: bytes, more: int, deadline: float) -> None:
    with Spool(path, session, deadline) as spool:
        spool.add(payload, more)


def _read(deadline: float, read: "tuple[list[bytes], int] | None" = None) -> tuple[bytes, int]:
    """The payload without white space around it and without line ends, and how many bytes of it were left away.

    Raises Late with what was read when its end has not come at *deadline*; *read* is what was read before.
    """
    import select

    poll = select.poll()
    poll.register(0, select.POLLIN)
    parts, more = read or ([], 0)
    size = sum(map(len, parts))
    while True:
        if not poll.poll(max(0.0, (deadline - time.monotonic()) * 1000)):
            raise Late((parts, more))
        part = os.read(0, _READ_BYTES)
        if not part:
            return _flat(b"".join(parts)), more
        if size <= PAYLOAD_BYTES:
            parts.append(part)
            size += len(part)
        else:
            more += len(part)


def _flat(payload: bytes) -> bytes:
    payload = payload.removeprefix(b"\xef\xbb\xbf").strip()
    for line_end in (b"\n", b"\r"):  # in JSON they are white space, or wrong
        if line_end in payload:
            payload = payload.replace(line_end, b" ")
    return payload


def _session(payload: bytes) -> bytes:
    """The text of the session's id; empty when there is none. Claude Code writes it first."""
    key = b'"session_id"'
    place = payload.find(key)
    if place < 0:
        return b""
    rest = payload[place + len(key) : place + len(key) + 300].lstrip(b" \t:")
    if rest[:1] != b'"':
        return b""
    text, end, _ = rest[1:].partition(b'"')
    return text if end and b"\\" not in text else b""


def _detach(*, keep_stdin: bool) -> None:
    """Go on in a child that the agent does not wait for; the agent sees us end."""
    if os.fork():
        os._exit(0)
    os.setsid()
    _stand_alone(0 if keep_stdin else None)


def _stand_alone(kept: int | None) -> None:
    """Close everything but *kept*: the agent waits until nobody holds our stdout and stderr."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        if fd != kept:
            os.dup2(null, fd)
            os.set_inheritable(fd, True)  # also where *null* itself got the number of one that was closed
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _send(path: str, lock: int, arguments: list[str]) -> None:
    """Start the sender, to which the *lock* of the spool at *path* goes over, and do not wait for it."""
    if os.fork():
        return
    import _signal

    os.setsid()
    for number in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGTERM])  # until the sender can see to it
    named = _handed_on(arguments)
    os.dup2(lock, 0)  # where `_stand_alone` leaves it
    _stand_alone(0)
    os.dup2(0, LOCK_FD)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.closerange(LOCK_FD + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
    os.nice(5)  # the agent goes first
    _wait_for_turn()
    name = os.path.basename(path).removesuffix(".ndjson")
    # -P: a module in the working folder is not ours
    os.execv(  # noqa: S606 - no shell is what is wanted
        sys.executable, [sys.executable, "-P", "-m", "agentpipe_cli", "hook", "--send", name, *named]
    )


def _wait_for_turn() -> None:
    """Wait until the last start is long enough ago. The lock's file remembers it: its time, and who started, which is
    us, for `exec` keeps the process id.
    """
    last = os.fstat(LOCK_FD)
    since_s = time.time() - last.st_mtime
    os.pwrite(LOCK_FD, b"%-10d\n" % os.getpid(), 0)
    if last.st_size and 0 <= since_s < RESTART_S:  # an empty one was made just now
        time.sleep(RESTART_S - since_s)


def _handed_on(arguments: list[str]) -> list[str]:
    """Those of our *arguments* that are the sender's too; a file's path made absolute, for the sender is elsewhere."""
    found: list[str] = []
    for name, value in _split(arguments):
        if name in _OPTIONS and value:
            found += [name, os.path.abspath(value) if name.endswith("-file") else value]
        elif name in _FLAGS:
            found.append(name)
    return found


def _wrong(arguments: list[str]) -> bool:
    return any(name not in _FLAGS and (name not in _OPTIONS or not value) for name, value in _split(arguments))


def _split(arguments: list[str]) -> list[tuple[str, str]]:
    """Names of options, each with its value; words that are neither stand as names."""
    found = []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        found.append((name, value if equals or name not in _OPTIONS else next(waiting, "")))
    return found


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False
