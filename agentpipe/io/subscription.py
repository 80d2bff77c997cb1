"""Reading a hub from a Python program: `Subscription`, the events of a hub as an iterator.

The rules this module keeps: they are those of ``subscribe``, because it is the same engine (`agentpipe.io.follower`);
a hole comes in its place, as a `Gap` between the events; ``position`` is never ahead of what the program was given.
"""

import collections
import dataclasses
import os
import select
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from agentpipe.errors import OptionError, PeerError
from agentpipe.event import JSON, Event, peek
from agentpipe.following import Found, Gap, since
from agentpipe.history import Filter, Position
from agentpipe.io.address import Address, address
from agentpipe.io.clock import now
from agentpipe.io.follower import Follower, following

__all__ = ["Subscription"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Item:
    """What the program gets next (None: nothing, positions moved), and where it stands then."""

    what: Event | Gap | None
    position: Position


class Subscription:
    """The events of a hub in order, each once on one log; connects, comes back and goes on by itself.

    ::

        with Subscription("ws://127.0.0.1:8765", since="start") as events:
            for event in events:
                if isinstance(event, Gap):
                    print("missing:", event)
                else:
                    print(event.type, event.payload)
                save(events.position)

    *urls* is the hub, or several of one log. *since* is ``start``, ``live``, ``last:N`` or a ``position`` that was kept
    (``EPOCH:OFFSET``); by default ``live``, or ``start`` without *follow*, which ends at the head of the log. *runs*,
    *agents*, *works* and *types* each name what is wanted; none means all. *accumulate* takes neighbouring pieces of
    one text that wait together as one event, which lists the others in ``covers``. A hub must be reached within
    *connect_timeout* seconds at the start (None: wait for ever). *warn* takes a line of text for people: connections
    lost and found.

    An iteration ends after `close`, which any thread and any signal handler may call, or at the head without *follow*.
    It raises HubUnreachable when no hub was reached in time, AuthError or ProtocolError when every hub refused us.
    Only one thread iterates, in the process that began: a child by fork goes on with a subscription of its own, from
    the ``position`` of this one. Used without ``with`` it is to be closed, or read to its end. The constructor raises
    OptionError or InputMissing for arguments that make no sense.
    """

    def __init__(
        self,
        urls: str | Iterable[str],
        *,
        token: str | None = None,
        token_file: str | None = None,
        ca_file: str | None = None,
        insecure: bool = False,
        since: str | None = None,
        runs: Iterable[str] = (),
        agents: Iterable[str] = (),
        works: Iterable[str] = (),
        types: Iterable[str] = (),
        accumulate: bool = False,
        follow: bool = True,
        connect_timeout: float | None = 10.0,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        # given
        named = [urls] if isinstance(urls, str) else list(urls)
        self._addresses: Sequence[Address] = [
            address(url, token=token, token_file=token_file, ca_file=ca_file, insecure=insecure) for url in named
        ]
        if not named:
            raise OptionError("URL", "no hub was named")
        wanted = Filter(frozenset(runs), frozenset(agents), frozenset(works), frozenset(types))
        start = _start(since or ("live" if follow else "start"))
        self._following = following(start, wanted, endless=follow, accumulate=accumulate)
        self._connect_timeout = connect_timeout
        self._warn = warn or _silently
        # changing
        self._follower: Follower | None = None
        self._items: collections.deque[_Item] = collections.deque()
        self._position = self._following.position
        self._closed = threading.Event()
        self._waking = threading.RLock()  # the pipe is closed by one thread and written to by others, and by handlers
        self._wake: tuple[int, int] | None = None
        self._owner: int | None = None  # the process that has the connection

    @property
    def position(self) -> str | None:
        """Where the program stands, as text that ``since`` takes; None before the hub has named a position.

        Going on from here misses nothing. It is exactly behind what was given out last, except within a message of
        which a filter or merging left out a part: then up to 20 events may come again, which their ``identity`` tells.
        """
        at = self._position
        return f"{at.epoch}:{at.offset}" if at is not None else None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._release()

    def __del__(self) -> None:
        if getattr(self, "_wake", None) is not None and not self._inherited:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self._release()

    def __iter__(self) -> Iterator[Event | Gap]:
        return self

    def __next__(self) -> Event | Gap:
        found = self.take()
        if found is None:
            raise StopIteration
        return found

    def take(self, timeout: float | None = None) -> Event | Gap | None:
        """What comes next, within *timeout* seconds if that is given; None when nothing did, or all is read."""
        if self._inherited:
            raise RuntimeError("a forked process cannot read its parent's Subscription; make one from its position")
        limit = now() + timeout if timeout is not None else None
        while not self._closed.is_set():
            while self._items:
                item = self._items.popleft()
                self._position = item.position
                if item.what is not None:
                    return item.what
            if self._following.done:
                break
            left_s = max(0.0, limit - now()) if limit is not None else None
            self._step(left_s)
            if left_s == 0.0 and not self._items:
                return None
        self._release()
        return None

    def close(self) -> None:
        """End the iteration at once, also from another thread or a signal handler; may be called again."""
        self._closed.set()
        if self._inherited:
            return
        with self._waking:
            try:
                if self._wake is not None:
                    os.write(self._wake[1], b"\0")
            except BlockingIOError:
                pass  # it is full of wake-ups already

    def report(self) -> dict[str, JSON]:
        """Counts so far: ``out`` events, ``missed`` ones in ``gaps``, ``resubscribed``, ``reconnects`` and so on."""
        counts = self._follower.report() if self._follower is not None else self._following.report()
        return {**counts, "position": self.position}

    @property
    def _inherited(self) -> bool:
        """Whether the connection is that of the process we were forked from, and every word on it would be to its
        harm.
        """
        return self._owner is not None and self._owner != os.getpid()

    def _open(self) -> Follower:
        if self._follower is None:
            self._owner = os.getpid()
            self._wake = os.pipe()
            os.set_blocking(self._wake[1], False)
            self._follower = Follower(
                self._addresses, self._following, connect_timeout=self._connect_timeout, warn=self._warn
            )
        return self._follower

    def _release(self) -> None:
        """Give back what the machine lent us; nothing can be read afterwards."""
        self._closed.set()
        if self._inherited:
            return
        with self._waking:
            pipe, self._wake = self._wake, None
        if pipe is not None and self._follower is not None:
            self._follower.close(0.0)
            for fd in pipe:
                os.close(fd)

    def _step(self, left_s: float | None) -> None:
        """Wait for something to happen, at most *left_s* seconds, and take what came."""
        follower = self._open()
        assert self._wake is not None, "it is open"
        poll = select.poll()
        poll.register(self._wake[0], select.POLLIN)
        for fd, events in follower.interests():
            poll.register(fd, events)
        due = [left_s, follower.deadline - now() if follower.deadline is not None else None]
        wait_s = min((wait for wait in due if wait is not None), default=None)
        ready = dict(poll.poll(max(0.0, wait_s) * 1000 if wait_s is not None else None))
        try:
            for found in follower.attend(ready):
                self._items += self._told(found)
        except PeerError:
            self._release()
            raise
        if not self._items and not self._following.owes:
            self._position = self._following.position

    def _told(self, found: Found) -> Iterator[_Item]:
        """What one message brought, one by one."""
        if isinstance(found, Gap):
            assert self._following.position is not None, "a gap is where we stand"
            yield _Item(found, Position(self._following.position.epoch, found.last))
            return
        for index, line in enumerate(found.lines):
            yield _Item(_event(line), found.behind(index))
        yield _Item(None, found.position)


def _event(line: bytes) -> Event:
    """Even one that we cannot read is given out: its bytes are there."""
    try:
        return peek(line)
    except ValueError:
        return Event(line=line)


def _start(text: str) -> JSON:
    try:
        return since(text)
    except ValueError as error:
        raise OptionError("since", str(error)) from None


def _silently(text: str) -> None:
    """Whoever wants to know of connections says so."""
