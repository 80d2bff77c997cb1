"""What an adapter is: one agent's own lines in, drafts of events out.

The rule this module keeps: an adapter knows a vocabulary and nothing else. Which run a line belongs to, how its events
are numbered, when the run starts and how it ends is the business of ``agentpipe.parse.run``.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from agentpipe.event import JSON, seconds, timestamp

if TYPE_CHECKING:
    from agentpipe.parse.options import ParseOptions  # which knows this module

__all__ = [
    "Adapter", "Clock", "Draft", "Moment", "Outcome", "Sureness", "Whole", "process_moment", "source_time",
]  # fmt: skip


class Sureness(IntEnum):
    """How surely a line is a format's own. ``SURE`` decides at once, also in the middle of another agent's output;
    ``LIKELY`` decides when no other format could have written the line.
    """

    NO = 0
    LIKELY = 1
    SURE = 2


class Whole(msgspec.Struct, gc=False):
    """Something that an event shows in part or by name only: a long text, an image. ``data`` is text, or base64 when
    ``base64`` says so.
    """

    media_type: str
    data: str
    base64: bool = False


class Draft(msgspec.Struct, gc=False):
    """An event that has yet to get its run and its number; ``at`` is an RFC 3339 timestamp. ``whole`` is handed on
    beside it as ``content`` events, by which a viewer gets what the event leaves out.

    One is made for every event: a structure costs a quarter of a named tuple. It is in no cycle, nor is JSON.
    """

    type: str
    payload: Mapping[str, JSON]
    at: str
    parent_id: str | None = None
    whole: Sequence[Whole] = ()


class Moment:
    """When a line was read: ``now`` by the driver's clock, ``at`` as the event that wrapped the line says, or None."""

    __slots__ = ("_text", "at", "now")

    def __init__(self, now: float, at: str | None = None) -> None:
        self.now = now
        self.at = at
        self._text = at

    @property
    def text(self) -> str:
        """The moment as a timestamp; made once for all events of a batch."""
        if self._text is None:
            self._text = timestamp(self.now)
        return self._text


def process_moment(now: float, at: str) -> Moment:
    """The moment that an event of ``run`` says; reading time when it is no timestamp."""
    try:
        datetime.fromisoformat(at)
    except ValueError:
        return Moment(now)
    return Moment(now, at)


class Clock:
    """The time of one run: the source's own where it gives one, else the time of reading.

    Once a source has told its time, a line without time is dated on that clock, moved on by the time since it was
    read. So a live stream is dated by when it was read, and a saved log does not jump between then and today.
    """

    def __init__(self) -> None:
        self._text: str | None = None  # the last time that was told, and when it was read
        self._read = 0.0
        self._carried_at: Moment | None = None  # the moment that was dated last without being told, and its date
        self._carried_text = ""
        self._first_read: float | None = None
        self._start_s: float | None = None

    def at(self, own: str | None, moment: Moment) -> str:
        """The timestamp of what was read at *moment* and says *own* about its time."""
        text = own or moment.at
        if text is None:
            if moment is not self._carried_at:  # lines of one read share their moment
                self._carried_text = self._carried(moment)
                self._carried_at = moment
            return self._carried_text
        self._text, self._read, self._carried_at = text, moment.now, None
        if self._start_s is None:
            first = self._first_read if self._first_read is not None else moment.now
            self._start_s = seconds(text) - (moment.now - first)
        return text

    def elapsed_s(self, at: str) -> float:
        """Seconds from the first thing that was dated to *at*, never negative."""
        at_s = seconds(at)
        if self._start_s is None:
            self._start_s = self._first_read if self._first_read is not None else at_s
        return max(0.0, at_s - self._start_s)

    def _carried(self, moment: Moment) -> str:
        if self._first_read is None:
            self._first_read = moment.now
        if self._text is None:
            return moment.text
        if moment.now == self._read:
            return self._text
        return timestamp(seconds(self._text) + moment.now - self._read + 0.0005)  # half a unit: rounds, not cuts


def source_time(value: JSON) -> str | None:
    """A source's timestamp as the schema wants it (UTC, milliseconds), or None when it is none."""
    if type(value) is not str:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if len(value) == 24 and value[10::9] == "T." and value[23] == "Z":
            return value
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return timestamp(moment.timestamp() + 0.0005)
    except (ValueError, OverflowError, OSError):
        return None


class Outcome(NamedTuple):
    """How a run ended by the agent's own account.

    ``ok`` is None when the agent said nothing about it; ``incomplete`` says what is missing in its account;
    ``fields`` are what it said for the payload of the last event (``result error turns usage cost_usd``).
    """

    ok: bool | None
    cancelled: bool
    incomplete: str | None
    fields: Mapping[str, JSON]
    duration_ms: int | None = None


class Adapter(Protocol):
    """One format of one agent, for the lines of one run.

    Each line of the agent's stdout goes to `read` when it is a JSON object, else to `read_text`. No drafts means that
    the line says nothing by rule; a draft of type ``raw`` keeps what the adapter does not know. ``ready`` turns True
    when ``facts`` (what ``run_started`` tells) are as good as they will get; ``facts`` is replaced, never changed, when
    they get better. `finish` lets go what a cut stream left open, then `outcome` is asked once. ``sessions`` are the
    session ids that are this run's.

    ``name`` is the format's (``--format``), ``agent`` the agent's, by which its events go unless the user says
    otherwise. ``suffix`` is empty for what the agent prints itself; another teller of the same session appends it to
    the session's id for a run id of its own: ``transcript`` makes ``<session>/transcript`` (DESIGN §3, Identity).
    It is asked for when the run starts.

    `recognises` and `session_of` look at one decoded line without any state: `session_of` gives the session that the
    line itself names, or the empty string.
    """

    name: str
    agent: str
    suffix: str
    facts: dict[str, JSON]
    ready: bool
    sessions: set[str]

    def __init__(self, options: "ParseOptions", clock: Clock) -> None: ...
    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness: ...
    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str: ...
    def read(self, found: dict[str, JSON], moment: Moment, size: int) -> Sequence[Draft]: ...
    def read_text(self, text: str, moment: Moment) -> Sequence[Draft]: ...
    def finish(self, moment: Moment) -> Sequence[Draft]: ...
    def outcome(self) -> Outcome: ...
