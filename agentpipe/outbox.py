"""The outbox of a publisher: its window with a file behind it, so that what was read outlives the process.

The rules this module keeps: an event is in the file before it can be sent, and leaves the file after the hub has
acknowledged it; first in, first out, across processes; memory holds the beginning of what the file holds, and no more
than it may. A file that fails harms nobody: what comes goes on in memory, bounded, behind what is in the file, until
the file can be written again. ``read + added = settled + dropped + held`` at every moment, what an earlier process
left counted as read.

Every `Window.offer` is one commit of one block of lines. Acknowledged blocks are removed late and together: after a
crash they are sent again, and the hub knows them.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from agentpipe.errors import OutputError
from agentpipe.event import Event, peek_lines
from agentpipe.inflight import RESERVE, Window, size_of
from agentpipe.ndjson import join

__all__ = ["Block", "Found", "Outbox", "Store"]

#: A block is about this large, or one larger event: what is read from the file at once.
BLOCK_BYTES = 256 * 1024

#: Acknowledged blocks of so much are removed without waiting for the next commit; a crash sends at most this again.
TIDY_BYTES = 1 << 20

#: A file that failed is tried again after this: a full disk that is cleared costs a second of events in memory.
RETRY_S = 1.0

#: A disk that is nearly full fails again and again: people are told the first times.
TOLD = 6

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Lines as they lie in the file: how many, and ``lines``, each with its LF."""

    count: int
    lines: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Neighbouring blocks that were read as one: the ``number`` of the last, how many events, their lines."""

    number: int
    count: int
    lines: bytes


class Store(Protocol):
    """Where an outbox keeps its events (`agentpipe.io.outbox_file`). Blocks are numbered, ascending.

    ``name`` is its path; ``publisher`` the id kept in it; ``generation`` the last one that it was told, and raised
    since by the opening; ``first_name`` where this process begins to number events that bring no number, far from all
    other processes, also from those that have a copy of the file; ``count`` the events that were in it at the opening.
    ``size_bytes`` is how much of the file is in use, ``lasting`` whether another process will find it.
    Every method is one commit, and may raise OutputError: then nothing was changed.
    """

    @property
    def name(self) -> str: ...
    @property
    def publisher(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def first_name(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def lasting(self) -> bool: ...
    @property
    def size_bytes(self) -> int: ...
    def append(self, blocks: Sequence[Block], done: int) -> int:
        """Add *blocks* as the newest, numbered without a hole, and remove those up to number *done*; the number of the
        last one.
        """
        ...

    def read(self, after: int, mark_bytes: int) -> Found | None:
        """The oldest blocks behind number *after* until they make *mark_bytes*, at least one; None without any."""
        ...

    def forget(self, done: int) -> None:
        """Remove the blocks up to number *done*."""
        ...

    def keep_generation(self, generation: int) -> None:
        """Remember that *generation* is used."""
        ...


@dataclasses.dataclass(slots=True)
class _Piece:
    """A block in memory: how many of its events are not settled, its size there, its number in the file, if it is in
    the file, and its lines while it is not.
    """

    left: int
    size: int
    number: int | None
    lines: list[bytes]


class Outbox(Window):
    """A `Window` whose events are in *store*, of which at most half of *max_bytes* is in memory to be sent, and the
    other half is for what the file would not take. *limit_bytes* bound the file; when it is full, the policy is that
    of a window: nothing more fits until the driver says *dropping*. *warn* takes a line of text for people.

    ``resumed`` is how many events an earlier process left; they are sent first.
    """

    def __init__(
        self,
        store: Store,
        max_bytes: int,
        *,
        limit_bytes: int,
        warn: Callable[[str], None],
        batch: int = 20,
        batch_bytes: int = 64 * 1024,
        reserve: int = RESERVE,
    ) -> None:
        super().__init__(max_bytes, batch=batch, batch_bytes=batch_bytes, reserve=reserve, publisher=store.publisher)
        # given
        self.place = store.name
        self._store = store
        self._front_bytes = max_bytes // 2
        self._limit_bytes = limit_bytes
        self._tidy_bytes = min(TIDY_BYTES, limit_bytes // 8)
        self._warn = warn
        # changing: events lie in this order: in front (memory), behind (file only), in the tail (memory only)
        self._front: deque[_Piece] = deque()
        self._behind = self.read = self.resumed = store.count
        self._tail: deque[_Piece] = deque()
        self._in_tail = 0  # events
        self._loose: deque[_Piece] = deque()  # of front and tail, what is not in the file
        self._loose_bytes = 0
        self._fresh: list[bytes] = []  # taken, and nowhere yet
        self._fresh_bytes = 0
        self._read_to = 0  # blocks up to this number were in front
        self._done = 0  # blocks up to this number are settled
        self._done_bytes = 0  # of them, what is still in the file
        self._generation = store.generation
        self._named = store.first_name
        self._now = 0.0
        self._retry: dict[str, float] = {}  # what the file would not do, and when it is asked to again
        self._told = 0
        self._troubles: dict[str, str] = {}  # what people were told of that, by the same keys: the problem

    @property
    def held(self) -> int:
        """How many events were taken in and are not settled, in memory and in the file."""
        return self._loaded + self._behind + self._in_tail + len(self._fresh)

    @property
    def kept(self) -> int:
        """How many of them are in the file."""
        return self.held - sum(piece.left for piece in self._loose) - len(self._fresh) if self._store.lasting else 0

    @property
    def full(self) -> bool:
        """Whether an ordinary event finds no room in the file or, while that fails, in memory; see `Window.full`."""
        room = self._room()
        bound = self._loose_limit if self._failing else self._limit_bytes
        return room <= 0 or (self.undeclared and room < bound // 2)

    @property
    def deadline(self) -> float | None:
        """When the file is to be tried again."""
        return min(self._retry.values(), default=None)

    def offer(self, events: Sequence[Event], now: float, *, dropping: bool = False) -> None:
        """Take *events* in; when this returns they are in the file, unless that fails."""
        super().offer(events, now, dropping=dropping)
        self._write(now)

    def declare(self, now: float) -> None:
        """Put a gap for every run of which something was dropped."""
        super().declare(now)
        self._write(now)

    def settle(self, count: int) -> int:
        """See `Window.settle`. The file is seen to in `tend`."""
        news = left = super().settle(count)
        while left > 0:
            piece = self._front[0]
            done = min(left, piece.left)
            piece.left -= done
            left -= done
            if not piece.left:
                self._front.popleft()
                self._leave(piece)
        return news

    def tend(self, now: float) -> None:
        """See to the file: write what it would not take, read what is next, remove what was acknowledged."""
        self._now = now
        for verb in [verb for verb, at in self._retry.items() if at <= now]:
            del self._retry[verb]
        if "written" not in self._retry:
            self._recover()
            if self._done_bytes >= self._tidy_bytes or (self._done_bytes and self.full):
                self._tidy()
        if "read" not in self._retry:
            self._refill()
        self._move_up()

    def finish(self, now: float) -> None:
        """Have in the file what can be, and nothing there that was acknowledged."""
        self._write(now)
        self._recover()
        if self._done_bytes:
            self._tidy()

    def next_generation(self) -> int:
        """See `Window.next_generation`; it is in the file before it is used. While the file fails the last one that is
        in it serves again: who finds a lower one there later would be fenced by us.
        """
        if self._guarded("written", self._raise_generation):
            self._generation += 1
        return self._generation

    def report(self) -> dict[str, int]:
        """The counts as ``--stats`` prints them; ``in`` includes ``resumed``, ``left`` includes ``kept``."""
        return {**super().report(), "resumed": self.resumed, "kept": self.kept}

    @property
    def _loose_limit(self) -> int:
        return self._max_bytes - self._front_bytes

    @property
    def _failing(self) -> bool:
        """Whether what comes now is not written."""
        return bool(self._loose) or "written" in self._retry

    def _room(self) -> int:
        if self._failing:
            return self._loose_limit - self._loose_bytes - self._fresh_bytes
        return self._limit_bytes - self._store.size_bytes - self._fresh_bytes

    def _put(self, lines: list[bytes]) -> None:
        self._fresh += lines
        self._fresh_bytes += size_of(lines)

    def _write(self, now: float) -> None:
        """Bring what was taken into the file, in one commit, and to the front where nothing is before it."""
        self._now = now
        if not self._fresh:
            return
        pieces = _pieces(self._fresh, self._fresh_bytes)
        self._fresh, self._fresh_bytes = [], 0
        if self._failing or not self._append(pieces):
            self._loose += pieces
            self._loose_bytes += sum(piece.size for piece in pieces)
            self._tail += pieces
            self._in_tail += sum(piece.left for piece in pieces)
            self._move_up()
            return
        for piece in pieces:
            if self._behind or self._bytes >= self._front_bytes:
                self._behind += piece.left
            else:
                self._show(piece)

    def _append(self, pieces: Sequence[_Piece]) -> bool:
        """Write *pieces* and number them; whether that worked."""
        blocks = [Block(len(piece.lines), join(piece.lines)) for piece in pieces]
        last = self._guarded("written", lambda: self._store.append(blocks, self._done))
        if last is None:
            return False
        self._works("written")
        self._done_bytes = 0
        for number, piece in enumerate(pieces, last - len(pieces) + 1):
            piece.number = number
        return True

    def _show(self, piece: _Piece) -> None:
        """Let *piece*, the next one, be sent."""
        super()._put(list(piece.lines))  # a list of its own: the window cuts it
        self._front.append(piece)
        if piece.number is not None:
            self._read_to = piece.number
            piece.lines = []

    def _leave(self, piece: _Piece) -> None:
        """All of *piece* is settled."""
        if piece.number is None:
            self._loose.popleft()
            self._loose_bytes -= piece.size
        else:
            self._done = piece.number
            self._done_bytes += piece.size

    def _recover(self) -> None:
        """Write what the file would not take before."""
        if not self._loose or not self._append(list(self._loose)):
            return
        for piece in self._loose:
            piece.lines = []
        in_front = len(self._loose) - len(self._tail)
        if in_front:
            self._read_to = self._loose[in_front - 1].number or 0
        self._behind += self._in_tail
        self._in_tail = 0
        self._tail.clear()
        self._loose.clear()
        self._loose_bytes = 0

    def _refill(self) -> None:
        """Bring the oldest of what is not in front there, as far as there is room."""
        while self._behind and self._bytes < self._front_bytes:
            found = self._guarded("read", self._next_block)
            if found is None:
                return
            self._works("read")
            self._behind -= found.count
            events, _ = peek_lines(found.lines.removesuffix(b"\n").split(b"\n"))
            if len(events) != found.count:
                self._damaged(found.count - len(events))
            self._read_to = found.number
            if events:
                lines = [event.line for event in events]
                self._show(_Piece(len(lines), size_of(lines), found.number, lines))

    def _next_block(self) -> Found:
        found = self._store.read(self._read_to, min(BLOCK_BYTES, self._front_bytes // 2))
        return found or Found(self._read_to, self._behind, b"")

    def _damaged(self, count: int) -> None:
        """*count* events can be sent by nobody: kept, they would stop all that is behind them, now and next time."""
        self.dropped += count
        self._tell(f"{self._store.name}: damaged: {count} events in it are none any more")

    def _move_up(self) -> None:
        while self._tail and not self._behind and self._bytes < self._front_bytes:
            piece = self._tail.popleft()
            self._in_tail -= piece.left
            self._show(piece)

    def _tidy(self) -> None:
        if self._guarded("written", self._forget_done):
            self._done_bytes = 0

    def _raise_generation(self) -> bool:
        self._store.keep_generation(self._generation + 1)
        return True

    def _forget_done(self) -> bool:
        self._store.forget(self._done)
        return True

    def _guarded(self, verb: str, step: Callable[[], _Result]) -> _Result | None:
        """What *step* gives, or None when the file failed: it is not tried again before `RETRY_S` is over."""
        try:
            result = step()
        except OutputError as error:
            self._retry[verb] = self._now + RETRY_S
            if self._troubles.get(verb) != error.problem:
                self._troubles[verb] = error.problem
                self._tell(f"{error}; {_MEANWHILE[verb]}")
            return None
        self._retry.pop(verb, None)
        return result

    def _works(self, verb: str) -> None:
        """All that the file would not do is done."""
        if self._troubles.pop(verb, None) is not None:
            self._tell(f"{self._store.name}: can be {verb} again")

    def _tell(self, text: str) -> None:
        self._told += 1
        if self._told <= TOLD:
            self._warn(text)


_MEANWHILE = {
    "written": "events go on in memory until it can be written again",
    "read": "what is in it stays there and is sent when it can be read again",
}


def _pieces(lines: list[bytes], size: int) -> list[_Piece]:
    """*lines* of *size* bytes as pieces of about `BLOCK_BYTES`; a larger line is one alone."""
    if size <= 2 * BLOCK_BYTES or len(lines) == 1:
        return [_Piece(len(lines), size, None, lines)]
    middle = len(lines) // 2
    halves = lines[:middle], lines[middle:]
    return [piece for half in halves for piece in _pieces(half, size_of(half))]
