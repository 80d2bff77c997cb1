"""The stage ``throttle``: no more events than somebody can take, losing none undeclared.

The rule this module keeps: over any interval *t* at most ``burst + rate·t`` events pass that are not exempt; exempt
types (errors, a run's life, results of tools) cost nothing and are never dropped; order within a run is kept; what is
dropped is declared by ``gap`` at most a second later and before the run's next exempt event.

``content`` is what the event after it leaves out, mostly a tool's result: it costs nothing and is never dropped,
because a part without the others is worth nothing. Nor is the event dropped whose parts have passed: it would leave
them without a name.
"""

import dataclasses
from collections.abc import Collection, Sequence

from agentpipe.errors import OptionError
from agentpipe.event import Event
from agentpipe.holes import ALWAYS_EXEMPT, Holes
from agentpipe.stage import BaseStage, Stage, StageSpec, option
from agentpipe.throttle.gcra import Buckets, by

__all__ = ["SPEC", "Drop", "Sample", "ThrottleOptions", "build"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleOptions:
    """Errors, a run's start and end and the results of tools always pass; what is dropped is declared by gap events.

    \b
    … | agentpipe parse | agentpipe throttle | agentpipe publish ws://127.0.0.1:8765
    … | agentpipe throttle --rate 20/s --mode coalesce
    … | agentpipe throttle --rate 5/s --by agent_id --mode drop
    """  # noqa: D301 - click reads \b as a character

    rate: float = option(50.0, "Events that may pass per second and bucket; none for no limit.", unit="rate", minimum=0)
    burst: int | None = option(
        None,
        "Events that may pass at once after a pause. Default: what the rate gives in 0.1 s, at least 1.",
        minimum=1,
    )
    by: str | None = option(
        None,
        "A bucket for each value of run_id, agent_id, work_id, type or a path such as payload.name.",
        metavar="FIELD",
    )
    mode: str = option(
        "delay",
        "What happens to the rest: wait; join text chunks and wait; drop; keep an even random sample.",
        choices=("delay", "coalesce", "drop", "sample"),
    )
    debounce: float = option(
        0.1,
        "With coalesce: how long a chunk of a text that is being sent waits for the next.",
        unit="duration",
        minimum=0,
    )
    exempt: tuple[str, ...] = option(
        (),
        "Further types that cost nothing and always pass, besides errors, lifecycle, tool results and content.",
        unit="names",
    )
    clock: str = option(
        "wall", "Measure by the time of arrival, or by the events' own timestamps.", choices=("wall", "event")
    )
    hold: int = option(1000, "Events that may wait before reading stops (delay, coalesce).", minimum=1)
    seed: int = option(0, "For sample: the same seed and timing keep the same events.")


class Drop(BaseStage):
    """Mode ``drop``: what exceeds the rate is dropped and declared."""

    def __init__(self, buckets: Buckets, exempt: Collection[str]) -> None:
        super().__init__()
        # given
        self._buckets = buckets
        self._exempt = exempt
        # changing
        self._holes = Holes("throttle")
        self._led: set[str] = set()  # runs whose next event has its content before it

    @property
    def deadline(self) -> float | None:
        """When the oldest gap must be declared."""
        return self._holes.due

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        """Pass what the rate allows, note the rest."""
        self.counts.read += len(events)
        out = self._declare(self._holes.take_due(now))
        for event in events:
            if event.type in self._exempt or event.run_id in self._led:
                out += self._declare(self._holes.take(event.run_id, now))
                self._lead(event)
            elif not self._keeps(event, now):
                self.counts.drop("throttle")
                if self._holes.add(event, now):
                    out += self._declare(self._holes.take(event.run_id, now))
                continue
            self.counts.passed += 1
            out.append(event)
        return out

    def wake(self, now: float) -> Sequence[Event]:
        """Declare what is due."""
        return self._declare(self._holes.take_due(now))

    def finish(self, now: float) -> Sequence[Event]:
        """Declare what is left."""
        return self._declare(self._holes.take_all(now))

    def _lead(self, event: Event) -> None:
        """What the content has led passes; gaps may stand between them."""
        if event.type == "content":
            self._led.add(event.run_id)
        elif event.type != "gap":
            self._led.discard(event.run_id)

    def _keeps(self, event: Event, now: float) -> bool:
        return self._buckets.find(event, now).take(now)

    def _declare(self, gaps: list[Event]) -> list[Event]:
        self.counts.added += len(gaps)
        return gaps


class Sample(Drop):
    """Mode ``sample``: as `Drop`, but what is kept is spread evenly instead of being the first of each burst.

    Each event is kept with the chance ``rate / arrivals per second``, and only if there is a token.
    """

    def __init__(self, buckets: Buckets, exempt: Collection[str], rate: float, seed: int) -> None:
        from random import Random  # 3 ms of start-up that only this mode pays

        super().__init__(buckets, exempt)
        # given
        self._rate = rate
        self._random = Random(seed)  # noqa: S311 - a sample, no secret

    def _keeps(self, event: Event, now: float) -> bool:
        bucket = self._buckets.find(event, now)
        chance = self._rate / bucket.arrivals(now)
        return (chance >= 1 or self._random.random() < chance) and bucket.take(now)


def build(options: ThrottleOptions) -> Stage:
    """The stage for *options*. Raises OptionError when they contradict each other."""
    if options.mode != "coalesce" and not options.rate:
        return BaseStage()
    if options.burst is not None and options.burst < 1:
        raise OptionError("--burst", "at least 1, or nothing would ever pass")
    burst = options.burst if options.burst is not None else max(1.0, options.rate * 0.1)
    event_clock = options.clock == "event"
    buckets = Buckets(options.rate, burst, by(options.by), event_clock=event_clock)
    exempt = ALWAYS_EXEMPT | {"content"} | set(options.exempt)
    if options.mode == "drop":
        return Drop(buckets, exempt)
    if options.mode == "sample":
        return Sample(buckets, exempt, options.rate, options.seed)
    return _patient(options, buckets, exempt)


def _patient(options: ThrottleOptions, buckets: Buckets, exempt: Collection[str]) -> Stage:
    """The modes that let events wait; imported only when they are asked for."""
    event_clock = options.clock == "event"
    if options.mode == "coalesce":
        from agentpipe.throttle.coalesce import Coalesce

        return Coalesce(buckets, exempt, options.hold, options.debounce, event_clock=event_clock)
    from agentpipe.throttle.delay import Delay

    return Delay(buckets, exempt, options.hold, event_clock=event_clock)


SPEC = StageSpec("throttle", "Limit how fast events pass, losing none undeclared.", ThrottleOptions, build)
