"""What the adapters of most agents have in common: the account of one run, kept with the parts of this room.

An adapter subclasses `Account`, states its ``name`` and ``agent``, and writes `recognises`, `session_of` and `read`.
"""

from collections.abc import Mapping

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment, Outcome, Sureness
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.calls import Calls
from agentpipe.parse.vocabulary.drafts import raw
from agentpipe.parse.vocabulary.plans import Plans
from agentpipe.parse.vocabulary.stamp import Stamp, stamped
from agentpipe.parse.vocabulary.texts import Texts
from agentpipe.parse.vocabulary.turns import Turns

__all__ = ["Account"]


class Account:
    """One run as its adapter knows it; see `agentpipe.parse.adapter.Adapter` for the contract."""

    name = ""
    agent = ""
    suffix = ""

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        # given
        self.clock = clock
        self.limit = options.max_content
        # changing
        self.facts: dict[str, JSON] = {}
        self.ready = False
        self.sessions: set[str] = set()
        self.calls = Calls(options.max_content)
        self.texts = Texts()
        self.plans = Plans(clock, options.progress_interval)
        self.turns = Turns(options.max_content)

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:  # noqa: ARG004 - the contract's shape
        """To be stated by the adapter."""
        return Sureness.NO

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:  # noqa: ARG004 - the contract's shape
        """A line says nothing about its session, unless the adapter knows better."""
        return ""

    def stamp(self, own: str | None, moment: Moment, size: int, scope: str | None = None) -> Stamp:
        """The stamp of a line; *own* is the time that it tells, made by `source_time` or `timestamp`, or None."""
        return stamped(own, self.clock, moment, size, scope)

    def ticks(self, stamp: Stamp, moment: Moment) -> list[Draft]:
        """Progress that is due by the source's own time; asked first by `read`, before what the line itself says."""
        told = stamp.own or moment.at is not None
        return self.plans.tick(stamp.at) if self.plans.due_s is not None and told else []

    def learn(self, **facts: JSON) -> None:
        """Facts for ``run_started``; empty ones are left out. A session's id becomes one of the run's."""
        known = {name: value for name, value in facts.items() if value}
        session = known.get("session_id")
        if type(session) is str:
            self.sessions.add(session)
        if any(self.facts.get(name) != value for name, value in known.items()):
            self.facts = {**self.facts, **known}

    def raw(self, stamp: Stamp, reason: str, data: JSON) -> Draft:
        """What the adapter does not know."""
        return raw(self.name, reason, stamp.at, data, stamp.scope)

    def read_text(self, text: str, moment: Moment) -> list[Draft]:
        """A line on stdout that is no JSON: a banner, a warning, or a line that was cut."""
        at = self.clock.at(None, moment)
        return [Draft("raw", {"format": self.name, "reason": "not JSON", "text": text}, at)]

    def finish(self, moment: Moment) -> list[Draft]:
        """Tell whole the texts that were cut."""
        self.plans.close_all()
        return self.texts.settle_all(self.clock.at(None, moment), aborted=True)

    def outcome(self) -> Outcome:
        """How the run ended by its last turn."""
        return self.turns.outcome()
