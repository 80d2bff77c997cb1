"""When and how a process is brought to its end: limits of time, and a table of (signal, patience).

The rules this module keeps: silence is judged by when output came, never by when it was delivered; and nothing is
killed that was not asked first. The signal that was asked for goes to the process group alone, as a terminal would send
it, so that an agent can end its own children; the next ones go to every descendant; KILL is repeated for what was
forked while we looked, and given up only when it cannot help.

Times are seconds of one clock; signals are named (``SIGTERM``), for numbers belong to the system.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

__all__ = ["Descent", "Limits", "Rung", "Verdict", "ladder", "sweep"]

#: Why a process has to be ended though nobody asked for it.
Verdict: TypeAlias = Literal["timeout", "idle_timeout", "result"]

#: How agents say that they are done, by the ``type`` of a line: Claude Code and its kin, Codex.
_RESULTS = frozenset({"result", "turn.completed", "turn.failed"})

#: How they say that they have started again.
_RESTARTS = frozenset({"init", "turn.started"})

#: How soon KILL is repeated, and how often: 5 s in all. What outlives that hangs in the kernel, beyond any signal.
KILL_AGAIN_S = 0.1
KILL_TIMES = 50


class Rung(NamedTuple):
    """Send ``signal`` and wait ``patience_s``; to descendants outside the process group too when ``everyone``."""

    signal: str
    patience_s: float
    everyone: bool


def ladder(first: str, grace_s: float) -> tuple[Rung, ...]:
    """The way down for a running agent: *first* to its group, TERM after *grace_s*, KILL after *grace_s* more."""
    asked = () if first == "SIGTERM" else (Rung(first, grace_s, everyone=False),)
    return (*asked, Rung("SIGTERM", grace_s, everyone=bool(asked)), *_KILLS)


def sweep(grace_s: float) -> tuple[Rung, ...]:
    """The way down for what an agent left behind: TERM to everyone, KILL after *grace_s*."""
    return (Rung("SIGTERM", grace_s, everyone=True), *_KILLS)


_KILLS = (Rung("SIGKILL", KILL_AGAIN_S, everyone=True),) * KILL_TIMES


class Descent:
    """One walk down a ladder.

    ``deadline`` is when the next rung is due, None once the last one's patience is over (``spent``).
    """

    def __init__(self, rungs: Sequence[Rung], now: float) -> None:
        # given
        self._rungs = rungs
        # changing
        self._next = 0
        self.deadline: float | None = now
        self.spent = False

    def due(self, now: float) -> Rung | None:
        """The rung to take now, each given once; None while the one before has time left."""
        if self.deadline is None or now < self.deadline:
            return None
        if self._next == len(self._rungs):
            self.deadline, self.spent = None, True
            return None
        rung = self._rungs[self._next]
        self._next += 1
        self.deadline = now + rung.patience_s
        return rung

    def hurry(self, now: float) -> None:
        """Somebody asked again: the next rung is due at once."""
        if self.deadline is not None:
            self.deadline = now


class Limits:
    """How long a process may run, be silent, and stay after its result; 0 for "as long as it likes".

    *started_at* is when it was started; ``last_at``, given to each method, is when it last printed something.
    """

    def __init__(
        self, started_at: float, *, timeout_s: float = 0.0, idle_s: float = 0.0, result_grace_s: float = 0.0
    ) -> None:
        # given
        self._timeout_s = timeout_s
        self._idle_s = idle_s
        self._result_grace_s = result_grace_s
        # changing
        self._started_at = started_at
        self._finished = False

    def extend(self, seconds: float) -> None:
        """Do not count *seconds*, during which the process was suspended."""
        self._started_at += seconds

    @property
    def reads(self) -> bool:
        """Whether `see` needs the lines at all."""
        return self._result_grace_s > 0

    def see(self, lines: Iterable[bytes]) -> None:
        """Look for the line with which an agent ends its work, and for a sign that it took up work again."""
        for line in lines:
            if line[:1] != b"{" or b"type" not in line:
                continue
            try:
                head = _HEAD.decode(line)
            except (ValueError, RecursionError):
                continue  # not JSON, or not of this shape: no sign of either
            if head.type in _RESULTS:
                self._finished = True
            elif head.type in _RESTARTS or head.subtype in _RESTARTS:
                self._finished = False

    def deadline(self, last_at: float) -> float | None:
        """When the next limit is reached if nothing more is printed."""
        return min((moment for moment, _ in self._moments(last_at)), default=None)

    def verdict(self, now: float, last_at: float) -> Verdict | None:
        """The limit that has been reached."""
        return next((name for moment, name in self._moments(last_at) if now >= moment), None)

    def _moments(self, last_at: float) -> list[tuple[float, Verdict]]:
        moments: list[tuple[float, Verdict]] = []
        if self._finished and self._result_grace_s:
            moments.append((last_at + self._result_grace_s, "result"))
        if self._timeout_s:
            moments.append((self._started_at + self._timeout_s, "timeout"))
        if self._idle_s:
            moments.append((last_at + self._idle_s, "idle_timeout"))
        return moments


class _Head(msgspec.Struct):
    type: str = ""
    subtype: str = ""


_HEAD = msgspec.json.Decoder(_Head)
