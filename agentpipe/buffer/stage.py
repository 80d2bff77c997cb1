"""The stage ``buffer``: takes events as fast as they come and hands them on as fast as they are read.

The rule this module keeps: first in, first out, within the limits it was given; what is full blocks, goes to disk, is
dropped and declared, or fails, as the user chose; never a deadlock: a batch that finds the buffer empty is always
taken, whatever its size.

With a spill file, delivery is at least once: what was handed on is kept until the reader has taken it, so that a crash
repeats at most the batch that was under way. Consumers tell repeats by ``event_id``.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentpipe.buffer.memory import Memory
from agentpipe.errors import OptionError, OutputError
from agentpipe.event import TERMINAL_TYPES, Event
from agentpipe.holes import ALWAYS_EXEMPT, Holes
from agentpipe.stage import BaseStage, Demand, Stage, StageSpec, option

if TYPE_CHECKING:
    from agentpipe.buffer.spilling import Store

__all__ = ["HAND_ON_BYTES", "SPEC", "Buffer", "BufferOptions", "DropNewest", "DropOldest", "Fail", "build"]

#: Handed on at once: four default pipes full, so that writing stays one call; what a crash loses or repeats is no more.
HAND_ON_BYTES = 256 * 1024

#: When blocked or dropping, go on once this share of the limits is free: stopping and starting cost more than waiting.
_RESUME_SHARE = 0.5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BufferOptions:
    """Whoever writes is not slowed down by a reader that is slow for a while.

    \b
    … | agentpipe throttle | agentpipe buffer | agentpipe publish ws://127.0.0.1:8765
    … | agentpipe buffer --memory 1MiB --when-full drop-oldest
    … | agentpipe buffer --spill events.spill     # the next start on the same file goes on

    With --spill nothing is lost on SIGTERM, and what is on disk survives a crash (kill -9). What was still in memory
    does not: --memory 0 writes everything through. After a crash the batch that was under way may come twice, with the
    same event ids.
    """  # noqa: D301 - click reads \b as a character

    memory: int = option(8 * 1024 * 1024, "Memory for events, Python's own share included.", unit="size", minimum=0)
    events: int = option(0, "Events in memory; 0 for no limit but that of the memory.", minimum=0)
    when_full: str = option(
        "block",
        "Stop reading; write to the --spill file; drop and declare; or end with status 74.",
        choices=("block", "spill", "drop-oldest", "drop-newest", "fail"),
    )
    spill: str | None = option(
        None, "Where to write what memory does not hold; implies --when-full spill.", unit="path"
    )


class Buffer(BaseStage):
    """``block``: asks for no more while it is full. *memory_bytes* and *events* (0: none) are the limits."""

    def __init__(self, memory_bytes: int, events: int) -> None:
        super().__init__()
        # given
        self._memory_bytes = memory_bytes
        self._events = events
        # changing
        self._memory = Memory()
        self._holes = Holes("buffer")
        self._full = False

    @property
    def elastic(self) -> bool:
        """Fed also while the reader is busy."""
        return True

    @property
    def demand(self) -> Demand:
        """HOLD from the moment it is full until half of it is free."""
        return Demand.HOLD if self._full else Demand.MORE

    @property
    def deadline(self) -> float | None:
        """Due at once while anything is held."""
        return 0.0 if self._memory.count else None

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        """Take *events* in; they leave in `wake`."""
        self._admit(events, now)
        self.counts.read += len(events)
        self._look()
        return ()

    def wake(self, now: float) -> Sequence[Event]:
        """Hand on the oldest."""
        return self._hand_on(HAND_ON_BYTES, now)

    def finish(self, now: float) -> Sequence[Event]:
        """Hand on all that is held: the driver gives the reader a last chance to take it."""
        out: list[Event] = []
        while self._memory.count:
            out += self._hand_on(HAND_ON_BYTES, now)
        return out

    def _admit(self, events: Sequence[Event], now: float) -> None:  # noqa: ARG002 - those that drop need the time
        self._memory.put(events)

    def _hand_on(self, mark_bytes: int, now: float) -> Sequence[Event]:
        events = self._memory.take(mark_bytes)
        self.counts.passed += len(events)
        self._look()
        return self._declared(events, now) if self._holes else events

    def _look(self) -> None:
        """See how full it is now."""
        self.counts.left = self._memory.count
        if self._reaches(1.0):
            self._full = True
        elif not self._reaches(_RESUME_SHARE):
            self._full = False

    def _reaches(self, share: float) -> bool:
        """Whether that share of a limit is held; never when nothing is."""
        held = self._memory
        by_count = bool(self._events) and held.count >= self._events * share
        return held.count > 0 and (by_count or held.size_bytes >= self._memory_bytes * share)

    def _drop(self, event: Event, now: float) -> None:
        self.counts.drop("buffer")
        self._holes.add(event, now)

    def _declared(self, events: Sequence[Event], now: float) -> list[Event]:
        """*events* with the gaps where they belong: before the next newer event of the run, or when nothing is left."""
        out: list[Event] = []
        for event in events:
            below = None if event.type in TERMINAL_TYPES else event.sequence
            out += self._holes.take(event.run_id, now, below=below)
            out.append(event)
        if not self._memory.count:
            out += self._holes.take_all(now)
        self.counts.added += len(out) - len(events)
        return out


class _Dropping(Buffer):
    """What both ways to drop know of ``content``, the parts that stand right before the event that they belong to.

    A part without the others is worth nothing: once one was dropped, those behind it are too. And parts without their
    event have no name: where some are kept, the event is, at the cost of the room that exempt events have.
    """

    def __init__(self, memory_bytes: int, events: int) -> None:
        super().__init__(memory_bytes, events)
        self._led: set[str] = set()  # runs of which parts are kept whose event has not been seen to
        self._broken: set[str] = set()  # runs of which a part was dropped whose event has not come

    @property
    def deadline(self) -> float | None:
        """Due at once while anything is held, or is to be declared with nothing behind it."""
        return 0.0 if self._memory.count or self._holes else None

    def finish(self, now: float) -> Sequence[Event]:
        """Hand on all that is held, and declare what is missing behind it."""
        out = [*super().finish(now)]
        return out + self._declared((), now) if self._holes else out

    def _lost(self, event: Event) -> bool:
        """Whether *event* is a part behind one that was dropped. To be asked for each event of a run in order."""
        if event.run_id not in self._broken:
            return False
        if event.type == "content":
            return True
        if event.type != "gap":
            self._broken.discard(event.run_id)
        return False

    def _whole(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        """*events* without the parts behind one that was dropped, which are dropped too."""
        if not self._broken:
            return events
        kept = []
        for event in events:
            if self._lost(event):
                self._drop(event, now)
            else:
                kept.append(event)
        return kept

    def _lead(self, events: Sequence[Event]) -> None:
        """*events* are kept, and stand behind all of their runs that was."""
        led = self._led
        for event in events:
            if event.type == "content":
                led.add(event.run_id)
            elif led and event.type != "gap":
                led.discard(event.run_id)


class DropOldest(_Dropping):
    """``drop-oldest``: the newest are worth most. Blocks only when events that it must not drop alone fill it."""

    def _admit(self, events: Sequence[Event], now: float) -> None:
        found_empty = not self._memory.count
        self._memory.put(self._whole(events, now))
        if found_empty:
            return
        broken = set(self._broken)
        for event in self._memory.shed(self._memory_bytes, self._events, self._spares):
            self._drop(event, now)
        if self._broken - broken:
            for event in self._memory.purge(self._lost):
                self._drop(event, now)

    def _spares(self, event: Event) -> bool:
        """Whether *event*, the oldest that was not asked about, has to stay: an exempt one, or one whose parts the
        reader has. Other parts that it may have had were older, and are dropped.
        """
        if event.type == "content":
            self._broken.add(event.run_id)
            return False
        if event.type == "gap":
            return True
        led = event.run_id in self._led
        self._led.discard(event.run_id)
        self._broken.discard(event.run_id)
        return led or event.type in ALWAYS_EXEMPT

    def _hand_on(self, mark_bytes: int, now: float) -> Sequence[Event]:
        out = super()._hand_on(mark_bytes, now)
        self._lead(out)
        return out

    def _reaches(self, share: float) -> bool:
        held = self._memory
        by_count = bool(self._events) and held.spared >= self._events * share
        return held.spared > 0 and (by_count or held.spared_bytes >= self._memory_bytes * share)


class DropNewest(_Dropping):
    """``drop-newest``: what was there first is worth most. Once full it drops until half of it is free.

    Exempt events, and those whose parts it has taken, are taken in beyond the limits, half as much again; then it
    blocks.
    """

    _EXEMPT_SHARE = 1.5

    @property
    def demand(self) -> Demand:
        """HOLD when exempt events have used up what is theirs."""
        return Demand.HOLD if self._full and self._reaches(self._EXEMPT_SHARE) else Demand.MORE

    def _admit(self, events: Sequence[Event], now: float) -> None:
        if not self._memory.count:
            whole = self._whole(events, now)
            self._memory.put(whole)
            self._lead(whole)
            return
        for event in events:
            if not self._lost(event) and self._takes(event):
                self._lead((event,))
                self._memory.put((event,))
                self._look()
                continue
            self._drop(event, now)
            if event.type == "content":
                self._broken.add(event.run_id)

    def _takes(self, event: Event) -> bool:
        if not self._full or event.type in ALWAYS_EXEMPT:
            return True
        return event.run_id in self._led and event.type != "content"


class Fail(Buffer):
    """``fail``: a reader that is too slow is an error."""

    def _admit(self, events: Sequence[Event], now: float) -> None:  # noqa: ARG002 - the shape
        found_empty = not self._memory.count
        self._memory.put(events)
        if not found_empty and self._memory.over(self._memory_bytes, self._events):
            held = self._memory
            problem = f"full with {held.count} events ({held.size_bytes} bytes) that the reader has not taken"
            raise OutputError("buffer", problem)

    @property
    def demand(self) -> Demand:
        """Always MORE."""
        return Demand.MORE


_MODES: dict[str, type[Buffer]] = {
    "block": Buffer,
    "drop-oldest": DropOldest,
    "drop-newest": DropNewest,
    "fail": Fail,
}


def build(options: BufferOptions, store: "Store | None" = None) -> Stage:
    """The stage for *options*; one that spills needs its *store* (``agentpipe.io.spill`` opens it).

    Raises OptionError when the options contradict each other.
    """
    spills = options.when_full == "spill" or options.spill is not None
    if not spills:
        return _MODES[options.when_full](options.memory, options.events)
    if options.spill is None:
        raise OptionError("--spill", "--when-full spill needs a file")
    if store is None:
        raise OptionError("--spill", "cannot be used here: nobody opened the file")
    if options.when_full not in ("block", "spill"):
        raise OptionError("--spill", f"contradicts --when-full {options.when_full}")
    from agentpipe.buffer.spilling import Spill

    return Spill(store, options.memory, options.events)


SPEC = StageSpec(
    "buffer",
    "Hold events between bursts and a slow reader, bounded, spilling to disk.",
    BufferOptions,
    build,
    opener="agentpipe.io.spill:opened",
)
