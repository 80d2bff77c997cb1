"""Where lines come from, and whose run each belongs to: the bare input, or one process that ``run`` started.

The rules this module keeps: a line that surely is another agent's begins a run of its own, and one that names another
session does so in the bare input; whatever says nothing about itself belongs to the run that spoke last.
"""

from collections.abc import Callable
from typing import TypeAlias

from agentpipe.event import JSON
from agentpipe.parse.adapter import Moment, Sureness
from agentpipe.parse.detect import adapter, is_event, knows, recognised, surely
from agentpipe.parse.run import Run

__all__ = ["Input"]

#: A format and a session of it.
_Key: TypeAlias = tuple[str, str]


class Input:
    """The runs of one input. *begin* makes a new one; *by_session* says whether sessions are runs of their own, which
    they are not inside one process.
    """

    def __init__(self, begin: Callable[[Moment], Run], *, by_session: bool) -> None:
        # given
        self._begin = begin
        self._by_session = by_session
        # changing
        self.runs: list[Run] = []  # in the order in which they began
        self.current: Run | None = None  # the one that spoke last
        self._known: dict[_Key, Run] = {}
        self._last: dict[str, Run] = {}  # of each format
        self._formats: dict[str, str] = {}  # of each session

    def of_nobody(self, moment: Moment) -> Run:
        """The run of a line that says nothing about itself."""
        if self.current is None:
            self.current = self._new(moment)
        return self.current

    def of(self, found: JSON, moment: Moment) -> Run:
        """The run of a decoded line."""
        run = self.of_nobody(moment)
        if self._goes_on(found, run):
            self._last[run.decided] = run
            return run
        name = self._format_of(found, run)
        if name is None:
            return run
        session = self._session_of(name, found)
        foreign = run.decided not in ("", name)
        if not session and not foreign:
            self._last[name] = run
            return run
        owner = self._known.get((name, session)) if session else self._last.get(name)
        if owner is None:
            last = self._last.get(name) if foreign else run
            mine = last is not None and (not last.started or not last.sessions or session in last.sessions)
            owner = last if last is not None and mine else self._new(moment)
        if session:
            self._known[name, session] = owner
            self._formats[session] = name
        self._last[name] = self.current = owner
        return owner

    def sureness(self, found: dict[str, JSON]) -> Sureness:
        """How surely *found* is a line: of the agent that speaks here, or, while nobody does, of no other than one."""
        if is_event(found):
            return Sureness.SURE
        run = self.current
        name = run.decided if run is not None and run.decided else recognised(found)
        if name is None:
            return Sureness.NO
        own = adapter(name)
        sureness = own.recognises(found)
        if sureness is Sureness.LIKELY and (run is None or not run.decided) and not own.session_of(found):
            return Sureness.NO
        return sureness

    def _goes_on(self, found: JSON, run: Run) -> bool:
        """Whether a line is one more of the run that spoke last, as most are."""
        if not run.decided or type(found) is not dict:
            return False
        kind = adapter(run.decided)
        session = kind.session_of(found) if self._by_session else ""
        return (not session or session in run.sessions) and kind.recognises(found) is not Sureness.NO

    def _format_of(self, found: JSON, run: Run) -> str | None:
        """The format of *found*: that of *run*, unless it surely is another's, of a session of another's, or claimed by
        one alone of those who have spoken here; None while nobody knows.
        """
        name = run.decided
        if not name:
            return recognised(found)
        if run.told:
            return name
        if knows(name, found):
            return self._of_session(name, found, run)
        others = [other for other in self._last if other != name and knows(other, found)]
        mine = [other for other in others if (other, self._session_of(other, found)) in self._known]
        if mine:
            return mine[0]
        sure = surely(found)
        if sure:
            return sure
        nameless = [other for other in others if not self._session_of(other, found) or not self._last[other].sessions]
        return nameless[0] if len(nameless) == 1 else name

    def _of_session(self, name: str, found: JSON, run: Run) -> str:
        """The format of a line that *name* may have written: another, when its session is known to be that one's, or is
        a new one and the line surely that one's.
        """
        session = self._session_of(name, found)
        if not session or session in run.sessions:
            return name
        other = self._formats.get(session)
        if other is None:
            return name if adapter(name).recognises(found) is Sureness.SURE else surely(found) or name
        return other if knows(other, found) else name

    def _session_of(self, name: str, found: JSON) -> str:
        return adapter(name).session_of(found) if self._by_session and type(found) is dict else ""

    def _new(self, moment: Moment) -> Run:
        run = self._begin(moment)
        self.runs.append(run)
        return run
