"""What was put in, what is stored and what each subscriber was told, as plain data.

The rule this module keeps: **what happened is written down as it was told**, with who said it on which connection;
nothing is tidied here, judging is the checker's. Pure: lines and messages in, records out.

Lines are kept as digests, because a campaign has hundreds of thousands of them; the store's are kept whole for evidence
by whoever wants them.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

__all__ = ["Confirmed", "Declared", "Entry", "Fact", "History", "Printed", "Span", "Told", "digest", "entry", "mark"]

#: How an agent's line says which one it is: the run and a number from 1.
_MARK = re.compile(rb"mark:([\w-]+):(\d+);")

#: Types that end a run.
TERMINAL = frozenset({"run_completed", "run_failed", "run_cancelled"})

Span = tuple[int, int]


def mark(run: str, number: int) -> str:
    """The text that marks line *number* of a run's agent."""
    return f"mark:{run}:{number};"


def digest(line: bytes) -> int:
    """64 bits that stand for a line."""
    return int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big")


class Entry(NamedTuple):
    """One entry of the log. ``declares`` are the numbers of its run that it says it stands for besides its own: a
    ``gap``'s ranges as missing, another event's ``covers`` as merged.
    """

    offset: int
    run: str
    number: int
    type: str
    marks: tuple[int, ...]
    declares: tuple[Span, ...]
    digest: int
    reason: str = ""  # of a ``gap``

    @property
    def terminal(self) -> bool:
        return self.type in TERMINAL

    @property
    def evicted(self) -> bool:
        """It is the store's own: it stands for what retention took from its run."""
        return self.reason == "evicted"


def entry(offset: int, line: bytes) -> Entry:
    """Read a stored line. Raises ValueError when it is no event."""
    event: dict[str, Any] = json.loads(line)
    run = event["run_id"]
    marks = tuple(sorted({int(number) for named, number in _MARK.findall(line) if named.decode() == run}))
    spans = event["payload"].get("ranges", []) if event["type"] == "gap" else event.get("covers", [])
    declares = tuple((first, last) for first, last in spans)
    reason = event["payload"]["reason"] if event["type"] == "gap" else ""
    return Entry(offset, run, event["sequence"], event["type"], marks, declares, digest(line), reason)


class Confirmed(NamedTuple):
    """A subscription began: *asked* is the own position that was asked for (None: ``start``), *placed* where the hub
    put it. Positions are (epoch, offset).
    """

    connection: int
    asked: tuple[str, int] | None
    placed: tuple[str, int]
    recovered: bool


class Told(NamedTuple):
    """One ``events`` message, its lines as digests."""

    connection: int
    prev: int
    pos: int
    lines: tuple[int, ...]


class Declared(NamedTuple):
    """One ``gap`` message of the protocol: offsets that will not come."""

    connection: int
    first: int
    last: int
    count: int | None
    reason: str


Fact = Confirmed | Told | Declared


@dataclasses.dataclass
class History:
    """What one subscriber was told, in order. *types*: it has asked for these only."""

    name: str
    facts: list[Fact] = dataclasses.field(default_factory=list)
    types: frozenset[str] | None = None
    complete: bool = True  # it was followed to the end of the log

    def lines(self) -> Iterable[int]:
        """The digests of every line it was told."""
        for fact in self.facts:
            if isinstance(fact, Told):
                yield from fact.lines


@dataclasses.dataclass
class Printed:
    """What a subscriber printed that tells lines alone (``agentpipe subscribe``), and how many it says are missing."""

    name: str
    lines: Sequence[int]
    missed: int = 0
