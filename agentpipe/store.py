"""What the hub asks of the place where its log is kept.

The rule this module keeps: **an event enters the log once, whoever writes.** What comes in together is one `Commit`. It
says what the door believed of the runs in it; the store compares that with what it holds, and writes the events, their
offsets, the runs' new standing and the ids in the same atomic step, or changes nothing and says what is true.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from agentpipe.event import JSON, Event, decode, encode
from agentpipe.history import Log, Page
from agentpipe.missing import Account

__all__ = ["Commit", "Reader", "Sender", "SharedStore", "Standing", "Store", "StoreConflict"]


class Sender(NamedTuple):
    """A publisher by its own name; ``generation`` rises with each connection that it makes."""

    id: str
    generation: int


class Standing(NamedTuple):
    """How far a run has come: its ``last`` number, what of it is open, and who sent the last event that was new."""

    last: int = 0
    account: Account | None = None
    sender: Sender | None = None

    def rest(self) -> bytes:
        """All but the number, as JSON; empty when there is nothing else. Equal standings have equal bytes, also after
        a way through `of`: stores compare these.
        """
        if self.account is None:
            return _sender_alone(self.sender) if self.sender is not None else b""
        return encode([list(self.account), self.sender and list(self.sender)])

    @staticmethod
    def of(last: int, rest: bytes) -> "Standing":
        """The reverse of `rest`. Raises ValueError for what `rest` has not made."""
        return Standing(last, *_rest(rest)) if rest else Standing(last)


@dataclasses.dataclass(frozen=True, slots=True)
class Commit:
    """What is stored together. ``before`` is, for every run in it, the standing that the door went by, all of it: also
    a commit that adds no number changes what is open, and who may write. ``after`` is that of each from now on. ``ids``
    are the events' ids that tell them apart from repeats where no number does; none of them may be known. ``stamp`` is
    unique: a commit that is tried again after an unknown outcome is recognised by it.
    """

    events: Sequence[Event]
    before: Mapping[str, Standing]
    after: Mapping[str, Standing]
    ids: Sequence[str]
    stamp: str = ""


class StoreConflict(Exception):
    """Nothing was stored, because the store holds something else than the commit went by: the true ``standings`` of
    all its runs, and which of its ``ids`` are ``known``.
    """

    def __init__(self, standings: Mapping[str, Standing], known: Collection[str]) -> None:
        super().__init__("the store holds something else than the writer believed")
        self.standings = standings
        self.known = known


class Reader(Log, Protocol):
    """The reading half of a log that is kept somewhere."""

    def close(self) -> None:
        """Let go of it."""
        ...


class Store(Protocol):
    """The writing half of a log, used by one thread. Every call may raise OutputError: then nothing is known about
    what was under way, and the caller reads the standings anew.
    """

    @property
    def epoch(self) -> str: ...
    @property
    def oldest(self) -> int: ...
    @property
    def head(self) -> int: ...
    def standings(self, runs: Collection[str] | None = None) -> dict[str, Standing]:
        """The standing of *runs* (those it knows), or of all."""
        ...

    def ids(self, limit: int) -> list[str]:
        """The newest ids that are not ``run_id:sequence``, oldest first."""
        ...

    def append(self, commit: Commit, at: float) -> int:
        """Store *commit*, at *at* (Unix seconds); the offset of its last event. Raises StoreConflict."""
        ...

    def retain(self, now: float) -> bool:
        """Drop some of what is over the limits, for a few milliseconds; whether there is more to drop."""
        ...

    def save_state(self, offset: int, state: bytes) -> None:
        """Keep a state that the entries up to *offset* were reduced to."""
        ...

    def state(self) -> tuple[int, bytes]:
        """What `save_state` kept; ``(0, b"")`` when there is nothing."""
        ...

    def reader(self) -> Reader:
        """The reading half, on a connection of its own, for any thread."""
        ...

    def close(self) -> None:
        """Let go of it, everything stored."""
        ...


class SharedStore(Store, Protocol):
    """A store that other hubs write to as well: what they and we stored is heard of by following it."""

    def follow(self, offset: int, limit_bytes: int, timeout_s: float) -> Page:
        """The entries after *offset*, as soon as there are some; an empty page after *timeout_s*. Asked on a thread of
        its own. Raises ContinuityLost; any other OutputError passes: ask again.
        """
        ...


@functools.lru_cache(maxsize=1024)
def _sender_alone(sender: Sender) -> bytes:
    return encode([None, list(sender)])


@functools.lru_cache(maxsize=1024)
def _rest(rest: bytes) -> tuple[Account | None, Sender | None]:
    """Runs of one connection have the same: a million of them share it."""
    found = decode(rest)
    if not isinstance(found, list) or len(found) != 2:
        raise ValueError("not the standing of a run")
    return _account(found[0]), _sender(found[1])


def _account(found: JSON) -> Account | None:
    if not isinstance(found, list):
        return None
    since, agent_id, work_id, missing, ahead = found
    return Account(since, agent_id, work_id, tuple(map(tuple, missing)), tuple(map(tuple, ahead)))


def _sender(found: JSON) -> Sender | None:
    return Sender(*found) if isinstance(found, list) else None
