"""Small true stages for the tests of chains and drivers, and a driver in made-up time."""

from collections import deque
from collections.abc import Sequence

from agentpipe.event import Event, make
from agentpipe.stage import BaseStage, Demand, Stage, will_let_go

Timeline = list[tuple[float, list[Event]]]


def numbered(sequence: int, text: str = "") -> Event:
    payload = {"text": text} if text else {}
    return make("t", payload, run_id="r", agent_id="a", sequence=sequence, at="2026-11-20T07:00:00.000Z")


class Delay(BaseStage):
    """Holds each event for some seconds; asks to be left alone while it holds *most* or more."""

    def __init__(self, seconds: float, most: int = 10**9) -> None:
        super().__init__()
        self.seconds, self.most = seconds, most
        self.held: deque[tuple[float, Event]] = deque()
        self.highest = 0

    @property
    def demand(self) -> Demand:
        return Demand.HOLD if len(self.held) >= self.most else Demand.MORE

    @property
    def deadline(self) -> float | None:
        return self.held[0][0] if self.held else None

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        self.held.extend((now + self.seconds, event) for event in events)
        self.highest = max(self.highest, len(self.held))
        self.counts.read += len(events)
        self.counts.left += len(events)
        return ()

    def wake(self, now: float) -> Sequence[Event]:
        out = []
        while self.held and self.held[0][0] <= now:
            out.append(self.held.popleft()[1])
        return self.let_go(out)

    def finish(self, now: float) -> Sequence[Event]:
        out = [event for _, event in self.held]
        self.held.clear()
        return self.let_go(out)

    def let_go(self, out: list[Event]) -> Sequence[Event]:
        self.counts.left -= len(out)
        self.counts.passed += len(out)
        return out


class Elastic(BaseStage):
    """A queue that is fed at any time and hands on *chunk* events a wake."""

    def __init__(self, chunk: int = 1, most: int = 10**9) -> None:
        super().__init__()
        self.chunk, self.most = chunk, most
        self.queue: deque[Event] = deque()
        self.since = 0.0

    @property
    def elastic(self) -> bool:
        return True

    @property
    def demand(self) -> Demand:
        return Demand.HOLD if len(self.queue) >= self.most else Demand.MORE

    @property
    def deadline(self) -> float | None:
        return self.since if self.queue else None

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        self.queue.extend(events)
        self.since = now
        self.counts.read += len(events)
        self.counts.left += len(events)
        return ()

    def wake(self, now: float) -> Sequence[Event]:
        out = [self.queue.popleft() for _ in range(min(self.chunk, len(self.queue)))]
        self.counts.left -= len(out)
        self.counts.passed += len(out)
        return out

    def finish(self, now: float) -> Sequence[Event]:
        self.chunk = max(1, len(self.queue))
        return self.wake(now)


class Batch(BaseStage):
    """Lets go of *size* events at a time and of the rest at the end: it holds without a deadline."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.held: list[Event] = []

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        self.held += events
        whole = len(self.held) // self.size * self.size
        out, self.held = self.held[:whole], self.held[whole:]
        self.counts.read += len(events)
        return self.count(out)

    def finish(self, now: float) -> Sequence[Event]:
        out, self.held = self.held, []
        return self.count(out)

    def count(self, out: list[Event]) -> Sequence[Event]:
        self.counts.passed += len(out)
        self.counts.left = len(self.held)
        return out


class First(BaseStage):
    """Wants the first *number* events and no more."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def demand(self) -> Demand:
        return Demand.DONE if self.counts.passed >= self.number else Demand.MORE

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        kept = events[: self.number - self.counts.passed]
        self.counts.read += len(events)
        self.counts.passed += len(kept)
        if len(kept) < len(events):
            self.counts.drop("enough", len(events) - len(kept))
        return kept


class Echo(BaseStage):
    """After each event one of its own, and one more at the end."""

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        self.counts.read += len(events)
        self.counts.passed += len(events)
        self.counts.added += len(events)
        return [made for event in events for made in (event, numbered(1000 + (event.sequence or 0)))]

    def finish(self, now: float) -> Sequence[Event]:
        self.counts.added += 1
        return [numbered(999999)]


class Ticker(BaseStage):
    """Is always due again but holds nothing: nobody has to wait for it at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.next = 1.0
        self.finished = 0

    @property
    def deadline(self) -> float | None:
        return self.next

    def wake(self, now: float) -> Sequence[Event]:
        self.next = now + 1.0
        return ()

    def finish(self, now: float) -> Sequence[Event]:
        self.finished += 1
        return ()


def play(stage: Stage, timeline: Timeline) -> Timeline:
    """Drive *stage* by its contract in made-up time; what came out, and when."""
    out: Timeline = []
    coming, now, steps = deque(timeline), 0.0, 0
    while stage.demand is not Demand.DONE:
        steps += 1
        assert steps < 100_000, "the stage never comes to an end"
        due = stage.deadline
        holds = stage.demand is Demand.HOLD
        if not coming and not will_let_go(stage):
            break
        if due is not None and (holds or not coming or due <= max(now, coming[0][0])):
            now = max(now, due)
            out.append((now, list(stage.wake(now))))
            continue
        assert not holds, "a stage that holds has a deadline"
        at, events = coming.popleft()
        now = max(now, at)
        out.append((now, list(stage.feed(events, now))))
    while will_let_go(stage):
        now = max(now, stage.deadline or 0.0)
        out.append((now, list(stage.wake(now))))
    out.append((now, list(stage.finish(now))))
    return [(at, events) for at, events in out if events]


def sequences(timeline: Timeline) -> list[int | None]:
    return [event.sequence for _, events in timeline for event in events]
