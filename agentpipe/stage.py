"""What a stage is: events in, events out.

The rule this module keeps: a stage is pure. It has no clock, no files and does not wait; the driver
(``agentpipe.io.drive``) owns time and waiting. So one definition serves as a shell filter, in process and in the hub.

*now* is Unix seconds from a clock that never steps back (``agentpipe.io.clock``): good for intervals and timestamps.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Generic, Literal, Protocol, TypeVar

from agentpipe.errors import AgentpipeError
from agentpipe.event import JSON, Event

__all__ = ["BaseStage", "Chain", "Counts", "Demand", "Map", "Stage", "StageSpec", "option", "will_let_go"]


class Demand(Enum):
    """What a stage asks of its driver."""

    MORE = auto()  # feed me
    HOLD = auto()  # stop reading; ask again after wake()
    DONE = auto()  # I want nothing more, ever: upstream may stop


@dataclasses.dataclass(slots=True)
class Counts:
    """What became of the events a stage was fed: ``read = passed + dropped + merged + left`` at every moment.

    ``added`` counts events the stage made itself (gaps, summaries), which are no part of that identity.
    """

    read: int = 0
    passed: int = 0
    merged: int = 0
    left: int = 0
    added: int = 0
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count *count* dropped events under *reason*."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def report(self) -> dict[str, JSON]:
        """The counts as ``--stats`` prints them."""
        return {
            "in": self.read,
            "out": self.passed,
            "dropped": dict(self.dropped),
            "merged": self.merged,
            "left": self.left,
            "added": self.added,
        }


class Stage(Protocol):
    """Events in, events out; order within a run is kept.

    The driver calls `feed` while ``demand`` is MORE, `wake` once *now* >= ``deadline``, and `finish` exactly once,
    last. A batch is whatever one read produced, one event or thousands, so HOLD is a mark that a single batch may
    overshoot. ``deadline`` None means: nothing to do until the next batch. The driver feeds and wakes only while
    the reader of the output keeps up; a stage that is ``elastic`` is fed also while the reader is busy (it takes
    events in and hands them on in `wake`, with a deadline that has passed already). ``failure`` is an error that ended
    the stage early (its ``demand`` is DONE then): the driver raises it once what `finish` let go is written.
    ``notices`` are lines of text for people (what was decided, what is wrong); whoever shows them empties the list.
    """

    @property
    def demand(self) -> Demand: ...
    @property
    def deadline(self) -> float | None: ...
    @property
    def elastic(self) -> bool: ...
    @property
    def counts(self) -> Counts: ...
    @property
    def failure(self) -> AgentpipeError | None: ...
    @property
    def notices(self) -> list[str]: ...
    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]: ...
    def wake(self, now: float) -> Sequence[Event]: ...
    def finish(self, now: float) -> Sequence[Event]: ...
    def report(self) -> Mapping[str, JSON]: ...


class BaseStage:
    """A stage that always wants more, has no deadline and keeps nothing: override what differs."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.failure: AgentpipeError | None = None
        self.notices: list[str] = []

    @property
    def demand(self) -> Demand:
        """Always MORE."""
        return Demand.MORE

    @property
    def deadline(self) -> float | None:
        """Never woken."""
        return None

    @property
    def elastic(self) -> bool:
        """Fed only while the reader keeps up."""
        return False

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:  # noqa: ARG002 - the contract's shape
        """Pass everything on."""
        self.counts.read += len(events)
        self.counts.passed += len(events)
        return events

    def wake(self, now: float) -> Sequence[Event]:  # noqa: ARG002 - the contract's shape
        """Nothing was kept."""
        return ()

    def finish(self, now: float) -> Sequence[Event]:  # noqa: ARG002 - the contract's shape
        """Nothing was kept."""
        return ()

    def report(self) -> Mapping[str, JSON]:
        """What ``--stats`` prints about this stage."""
        return self.counts.report()


class Map(BaseStage):
    """A stage from a function of one event; the function returns None to drop it (counted as ``filtered``)."""

    def __init__(self, function: Callable[[Event], Event | None]) -> None:
        super().__init__()
        self._function = function

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:  # noqa: ARG002 - the contract's shape
        """Apply the function to each event."""
        kept = [found for found in map(self._function, events) if found is not None]
        self.counts.read += len(events)
        self.counts.passed += len(kept)
        if len(kept) < len(events):
            self.counts.drop("filtered", len(events) - len(kept))
        return kept


class Chain:
    """A stage made of stages: the earliest deadline, and the strictest demand of the non-elastic ones up front.

    A stage behind an elastic one is fed from the elastic one's `wake` and only while it demands more, so its HOLD
    does not reach the source. What is handed to a stage that is DONE counts as dropped (``done``).
    """

    def __init__(self, *stages: Stage) -> None:
        if not stages:
            raise ValueError("a chain has at least one stage")
        # given
        self.stages = stages
        # changing
        self._unwanted = 0  # events handed to a stage that was done

    @property
    def demand(self) -> Demand:
        """DONE when any stage is done; HOLD when a stage before the first elastic one holds."""
        if any(stage.demand is Demand.DONE for stage in self.stages):
            return Demand.DONE
        return Demand.MORE if self._open_from(0) else Demand.HOLD

    @property
    def deadline(self) -> float | None:
        """The earliest deadline of the stages whose successors can take what they hand on."""
        due = [s.deadline for i, s in enumerate(self.stages) if s.deadline is not None and self._open_from(i + 1)]
        return min(due, default=None)

    @property
    def elastic(self) -> bool:
        """Whether the first stage can be fed while the reader of the last is busy: the last one is elastic."""
        return self.stages[-1].elastic

    @property
    def counts(self) -> Counts:
        """Read by the first, passed by the last, the rest added up; the identity holds stage by stage."""
        total = Counts(read=self.stages[0].counts.read, passed=self.stages[-1].counts.passed)
        for stage in self.stages:
            total.merged += stage.counts.merged
            total.left += stage.counts.left
            total.added += stage.counts.added
            for reason, count in stage.counts.dropped.items():
                total.drop(reason, count)
        if self._unwanted:
            total.drop("done", self._unwanted)
        return total

    @property
    def failure(self) -> AgentpipeError | None:
        """The first stage's that has one."""
        return next((stage.failure for stage in self.stages if stage.failure is not None), None)

    @property
    def notices(self) -> list[str]:
        """Those of all stages, which are emptied by that."""
        said = [text for stage in self.stages for text in stage.notices]
        for stage in self.stages:
            stage.notices.clear()
        return said

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        """Feed the first stage and hand on what comes out."""
        return self._pass(0, events, now)

    def wake(self, now: float) -> Sequence[Event]:
        """Wake every stage that is due, from the last to the first, so that order is kept."""
        out: list[Event] = []
        for index in reversed(range(len(self.stages))):
            stage = self.stages[index]
            if stage.deadline is not None and stage.deadline <= now and self._open_from(index + 1):
                out += self._pass(index + 1, stage.wake(now), now)
        return out

    def finish(self, now: float) -> Sequence[Event]:
        """Finish from the first to the last, each fed with what the one before let go."""
        events: Sequence[Event] = ()
        for stage in self.stages:
            passed = self._feed(stage, events, now)
            events = [*passed, *stage.finish(now)]
        return events

    def report(self) -> Mapping[str, JSON]:
        """The chain's counts and those of each stage."""
        return {**self.counts.report(), "stages": [stage.report() for stage in self.stages]}

    def _open_from(self, index: int) -> bool:
        """Whether none of the stages that an event handed to stage *index* reaches at once is holding."""
        for stage in self.stages[index:]:
            if stage.demand is Demand.HOLD:
                return False
            if stage.elastic:
                break
        return True

    def _pass(self, index: int, events: Sequence[Event], now: float) -> Sequence[Event]:
        for stage in self.stages[index:]:
            if not events:
                return events
            events = self._feed(stage, events, now)
        return events

    def _feed(self, stage: Stage, events: Sequence[Event], now: float) -> Sequence[Event]:
        if events and stage.demand is Demand.DONE:
            self._unwanted += len(events)
            return ()
        return stage.feed(events, now) if events else ()


def will_let_go(stage: Stage) -> bool:
    """Whether the stage holds events that a later `wake` brings: after the input ended a driver waits for them."""
    if isinstance(stage, Chain):
        return any(map(will_let_go, stage.stages))
    return stage.counts.left > 0 and stage.deadline is not None


def option(
    default: Any,
    help: str,  # noqa: A002 - the term of art
    *,
    unit: Literal["duration", "size", "rate", "names", "path"] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] | None = None,
    metavar: str | None = None,
    name: str | None = None,
) -> Any:
    """A field of an options dataclass that states everything about itself: default, help, unit and bounds.

    From it come the command's option, the manual page, the JSON help and the hub's configuration. *unit* says how a
    person writes the value: a duration (seconds, float), a size (bytes, int), a rate (events/s, float), names
    (a comma-separated tuple of strings) or a path. *name* overrides the option's name on the command line.
    """
    if choices is not None and metavar is None:
        metavar = "|".join(choices)
    facts = {
        "help": help, "unit": unit, "minimum": minimum, "maximum": maximum,
        "choices": tuple(choices) if choices else None, "metavar": metavar, "name": name,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=facts)


Options = TypeVar("Options")


@dataclasses.dataclass(frozen=True, slots=True)
class StageSpec(Generic[Options]):
    """A row of the catalog's table of stages: all that a command, the manual and the hub need to know.

    ``reads`` is ``events`` for a stage whose input lines are events, ``lines`` for one that takes any line
    (each comes as an Event with an empty ``type`` and the line in ``line``; a line over the limit comes as a
    ``gap`` event with reason ``oversize``). ``opener`` (``module:name``) is for a stage that needs something of the
    world, such as a file: a function of the options that gives a context manager of the stage, to be used instead of
    ``build`` by those who may touch the world.
    """

    name: str
    summary: str
    options: type[Options]
    build: Callable[[Options], Stage]
    reads: Literal["events", "lines"] = "events"
    opener: str | None = None

    def from_mapping(self, values: Mapping[str, JSON]) -> Stage:
        """Build the stage from plain values, as a configuration file has them. Raises TypeError on an unknown name."""
        return self.build(self.options(**values))
