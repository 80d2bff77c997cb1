"""What a run waits for before it is told: until when, and how the lines that were held meanwhile are told then.

The rules this module keeps: a wait ends by the time that the lines say where they say one, so that a log makes the same
events at any pace; a line that was held is told by whoever it turns out to be from, and what that one does not know is
kept as ``raw``.
"""

from collections.abc import Sequence

from agentpipe.event import JSON, seconds
from agentpipe.parse.adapter import Adapter, Clock, Draft, Moment
from agentpipe.parse.agents.plain import without_ansi

__all__ = ["HOLD_LINES", "Wait", "held_drafts", "stderr_draft"]

#: How long an agent may be silent before its run is told as started with what is known.
_HOLD_S = 1.0

#: Where lines say when they happened, that decides; the driver's clock waits longer by this, for lines under way.
_UNDER_WAY_S = 0.25

#: Lines held at most before the agent is known: banners are shorter than that.
HOLD_LINES = 64


class Wait:
    """Until when a run waits: from *now* on for a second. It is among *waiting* as long as it is `due`."""

    def __init__(self, waiting: set["Wait"], now: float) -> None:
        # given
        self._waiting = waiting
        # changing
        self.due: float | None = now + _HOLD_S  # by the driver's clock; None: the run waits no more
        self._since_s: float | None = None  # by the source's clock
        waiting.add(self)

    def begin(self, moment: Moment) -> None:
        """Wait for more from *moment* on, a second by whichever clock tells when things happen."""
        told = moment.at is not None
        self._since_s = seconds(moment.text) if told else None
        self.due = moment.now + _HOLD_S + (_UNDER_WAY_S if told else 0.0)
        self._waiting.add(self)

    def end(self) -> None:
        """Wait no more."""
        self.due = None
        self._waiting.discard(self)

    def is_over(self, moment: Moment) -> bool:
        """Whether a line that came at *moment* by its own time came after the wait."""
        if self.due is None or self._since_s is None or moment.at is None:
            return False
        return seconds(moment.at) - self._since_s >= _HOLD_S


def held_drafts(adapter: Adapter, clock: Clock, kind: str, value: JSON, moment: Moment) -> Sequence[Draft]:
    """What a line that was held until *adapter* was known tells: *kind* is ``stderr``, ``text``, ``json`` for one that
    is not the adapter's, or ``kept`` for the type and the payload of an event.
    """
    at = clock.at(None, moment)
    if kind == "stderr":
        return [stderr_draft(value, at)]
    if kind == "kept":
        return [Draft(value[0], value[1], at)]
    if kind == "json":
        return [Draft("raw", {"format": adapter.name, "reason": "not recognised", "data": value}, at)]
    if adapter.name != "plain" and not value.strip():
        return []
    return adapter.read_text(value, moment)


def stderr_draft(text: str, at: str) -> Draft:
    """A line of stderr."""
    payload = {"level": "stderr", "message": without_ansi(text), "source": "stderr"}
    return Draft("agent_log_entry", payload, at)
