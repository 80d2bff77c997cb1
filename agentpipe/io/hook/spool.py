"""The spool of a session: a file to which every hook appends its payload as one line.

The rules this module keeps: a line is whole or not there; what could not be kept is counted in the file itself, and
said in it as soon as a line can be written again; nothing here waits beyond the moment that its caller names.

The first line is the header: how many payloads were lost since the last line, the generation and the run's id. Then
come the lines of the hooks, each with the time of its receipt as its first key, and marks of our own, which have
``agentpipe`` as theirs: ``end`` (what follows belongs to the next generation, a run of its own), ``lost`` (a count),
``cut`` (of this payload only the head was kept). So the file alone says which events it makes.

The hook imports this file: it may import nothing that costs time (``typing``, ``json`` and ``re`` cost as much as
Python's own start).
"""

import fcntl
import os
import time

__all__ = [
    "FIRST",
    "HEADER_START",
    "LAST",
    "LOCK_FD",
    "MARK",
    "Late",
    "Spool",
    "folder",
    "header",
    "lock_sender",
    "said_at",
    "spool_name",
    "stamp",
]

#: A session of a long day: thousands of calls with their results. Beyond it, a payload's head is kept.
LIMIT_BYTES = 64 << 20

#: Room for heads beyond the limit (twenty thousand of them); beyond that, payloads are counted.
HEADS_BYTES = 16 << 20

#: The largest payload that is kept whole: what every stage takes as a line (`agentpipe.ndjson.DEFAULT_MAX_LINE`).
PAYLOAD_BYTES = 16 << 20

#: Of a payload that is not kept: session, event and tool stand in its first bytes.
HEAD_BYTES = 512

#: The hooks that begin and end a session. The last is written whatever the limit: without it a session that ended
#: would look alive.
FIRST, LAST = b'"SessionStart"', b'"SessionEnd"'

_EVENT = b'"hook_event_name"'

#: How a line of ours begins; those of hooks begin with the time.
MARK = b'{"agentpipe":"'

#: Where a sender finds the lock that a hook took for it.
LOCK_FD = 3

HEADER_START = b'{"lost":'
_COUNT = len(HEADER_START)
_COUNT_DIGITS = 10

_NAME_BYTES = 120

_RETRY_S = 0.0005


class Late(TimeoutError):
    """The moment that the caller named has passed; nothing was changed."""


def folder() -> str:
    """``$XDG_STATE_HOME/agentpipe/hooks``: where spools are kept. A path that is not absolute counts as none (XDG Base
    Directory Specification): the sender is in another folder than the hook.
    """
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):
        home = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(home, "agentpipe", "hooks")


def spool_name(session: bytes) -> str:
    """The name of the spool of the session with this id: the id itself where it is fit for a file's name."""
    safe = "".join(chr(byte) if _is_plain(byte) else f"%{byte:02X}" for byte in session)
    if safe[:1] in (".", "-"):
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
    if len(safe) > _NAME_BYTES:
        import zlib  # no session of Claude Code's has such an id

        safe = f"{safe[:_NAME_BYTES]}%{zlib.crc32(session):08X}"
    return safe or "%"


def _is_plain(byte: int) -> bool:
    return byte in b"-._0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def stamp() -> bytes:
    """The time as events have it: RFC 3339, UTC, milliseconds."""
    whole, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return b"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" % (*time.gmtime(whole)[:6], milliseconds)


def said_at(data: bytes, event: bytes) -> int:
    """Where *data* says for the last time that a hook's event is *event* (its name between quotes), or -1. White space
    is where JSON allows it.
    """
    place = data.rfind(event)
    while place >= 0:
        before = data[max(0, place - 100) : place].rstrip()
        if before[-1:] == b":" and before[:-1].rstrip().endswith(_EVENT):
            break
        place = data.rfind(event, 0, place)
    return place


def lock_sender(path: str) -> int | None:
    """The descriptor of the lock of the spool at *path*, ours now; None while a sender holds it. Raises OSError."""
    fd = os.open(f"{path.removesuffix('.ndjson')}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


class Spool:
    """A spool that is open and locked: nobody else appends to it, or puts another in its place. A context.

    *session* is the text between the quotes of the session's id, as the payload has it; it is needed for the header of
    a new file. *deadline* (monotonic seconds) bounds the wait for the lock: Late. Raises OSError.
    """

    def __init__(self, path: str, session: bytes, deadline: float, *, limit: int = LIMIT_BYTES) -> None:
        # given
        self.path = path
        self._session = session
        self._limit = limit
        # changing
        self._fd = _opened(path, deadline)

    def __enter__(self) -> "Spool":  # noqa: PYI034 - `Self` is in `typing`
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._fd).st_size

    @property
    def lost(self) -> int:
        """How many payloads were lost since the last line."""
        count = os.pread(self._fd, _COUNT + _COUNT_DIGITS, 0)[_COUNT:].strip()
        return int(count) if count.isdigit() else 0

    def add(self, payload: bytes, more: int = 0) -> None:
        """Append the *payload* of a hook, of which *more* bytes were left away: whole, or its head, or by count."""
        size = self.size
        if not more and (
            size + len(payload) <= self._limit or (len(payload) <= HEAD_BYTES * 8 and said_at(payload, LAST) >= 0)
        ):
            self._write(_line(payload))
        elif size <= self._limit + HEADS_BYTES:
            self._write([_cut(payload, more)])
        else:
            self._count_lost()

    def mark(self, text: bytes) -> None:
        """Append a mark of ours: *text* is what follows ``{"agentpipe":"``. Raises OSError when it cannot be kept."""
        if not self._append([MARK, text, b"\n"]):
            raise OSError("the mark was not written")

    def declare(self) -> None:
        """Say now what was lost, if something was and the disk takes it."""
        if self.lost:
            self._append([])

    def read(self, at: int, count: int) -> bytes:
        """As much of the file as there is."""
        return os.pread(self._fd, count, at)

    def replace(self, start: bytes, rest: bytes = b"") -> None:
        """Put a file of the header *start* and the lines *rest* in this one's place; it appears whole, or not at all.
        For who holds the sender's lock.
        """
        beside = f"{self.path}.new"
        made = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(made, [start, rest], 0)
        finally:
            os.close(made)
        os.replace(beside, self.path)

    def _write(self, parts: list[bytes]) -> None:
        if not self._append(parts):
            self._count_lost()

    def _append(self, parts: list[bytes]) -> bool:
        """Write *parts* behind what is there, after the loss that comes before them; False, and nothing is changed,
        when the disk does not take them.
        """
        size = self.size
        lost = 0
        try:
            if not size:
                parts = [header(1, _run_id(self._session)), *parts]
            else:
                lost = self.lost
                if lost:
                    parts = [b'%slost","count":%d,"at":"%s"}\n' % (MARK, lost, stamp()), *parts]
                if os.pread(self._fd, 1, size - 1) != b"\n":
                    parts = [b"\n", *parts]  # somebody was killed while writing
            _write_all(self._fd, parts, size)
        except OSError:
            os.ftruncate(self._fd, size)
            return False
        if lost:
            self._set_lost(0)
        return True

    def _count_lost(self) -> None:
        """Count in place, which takes no room on a full disk. A new file that could not even be begun stays empty."""
        if self.size:
            self._set_lost(self.lost + 1)

    def _set_lost(self, count: int) -> None:
        os.pwrite(self._fd, b"%*d" % (_COUNT_DIGITS, count), _COUNT)


def header(generation: int, run_id: bytes, lost: int = 0) -> bytes:
    """The first line of a spool; *run_id* is the text between its quotes."""
    return b'%s%*d,"generation":%d,"run_id":"%s"}\n' % (HEADER_START, _COUNT_DIGITS, lost, generation, run_id)


def _run_id(session: bytes) -> bytes:
    """A second teller of the session has a run id of its own that says so (DESIGN §3, Identity)."""
    return (session or os.urandom(16).hex().encode()) + b"/hooks"


def _line(payload: bytes) -> list[bytes]:
    """The line of a payload, in parts: 5 MB are not copied for a few bytes before them."""
    start = b'{"received_at":"%s"' % stamp()
    if payload[:1] != b"{":
        import json  # not what Claude Code sends

        return [start, b',"text":', json.dumps(payload.decode("utf-8", "replace")).encode(), b"}\n"]
    rest = payload[1:]
    return [start, b"" if rest[:20].lstrip()[:1] in (b"}", b"") else b",", rest, b"\n"]


def _cut(payload: bytes, more: int) -> bytes:
    import json  # only for what is too large

    head = json.dumps(payload[:HEAD_BYTES].decode("utf-8", "replace")).encode()
    return b'%scut","bytes":%d,"at":"%s","head":%s}\n' % (MARK, len(payload) + more, stamp(), head)


def _opened(path: str, deadline: float) -> int:
    """The file at *path*, made when it is not there, locked by us. Raises Late, OSError."""
    while True:
        fd = _made(path)
        try:
            _lock(fd, deadline)
            if _is_at(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # another file was put in its place while we waited


def _made(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(os.path.dirname(path)), 0o700, exist_ok=True)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _lock(fd: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Late from None
            time.sleep(_RETRY_S)
        else:
            return


def _is_at(fd: int, path: str) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return there.st_ino == os.fstat(fd).st_ino


def _write_all(fd: int, parts: list[bytes], at: int) -> None:
    """Write *parts* at the offset *at*; a short write (1 GiB at most is taken at once, or the disk is full) goes on."""
    written = os.pwritev(fd, parts, at)
    whole = sum(map(len, parts))
    if written < whole:
        rest = memoryview(b"".join(parts))
        while written < whole:
            written += os.pwrite(fd, rest[written:], at + written)
