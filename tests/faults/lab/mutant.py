"""Runs an agentpipe command with one mistake built in: ``python mutant.py NAME serve …``.

The rule this module keeps: the mistake is made here, in this process, by replacing one function of the installed
package; the product has no switch for it. Each is one that a tired programmer could make, and each must be found by the
checker; ``slow-commit`` and ``retain-often`` are none, and must not be.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

#: What makes the time between an acknowledgement and its commit long enough to be struck in.
COMMIT_S = 0.03

#: Within a round of a second or two there are some steps of retention between its commits.
RETAIN_S = 0.05


def slow_commit() -> None:
    """A slow disk. No mistake."""
    from agentpipe.io.sqlite.log import SqliteLog

    append = SqliteLog.append

    def slowly(self: Any, commit: Any, at: float) -> int:
        time.sleep(COMMIT_S)
        return append(self, commit, at)

    SqliteLog.append = slowly  # type: ignore[method-assign]


def retain_often() -> None:
    """A hub that looks for what is over its limits all the time, instead of every 20 s. No mistake."""
    from agentpipe.io.serve.intake import Intake

    begin = Intake.__init__

    def often(self: Any, *given: Any, **more: Any) -> None:
        begin(self, *given, **{**more, "retain_every_s": RETAIN_S})

    Intake.__init__ = often  # type: ignore[method-assign]


def early_acknowledgement() -> None:
    """The hub acknowledges what it has taken, before it is stored (on a slow disk)."""
    from agentpipe.admission import Admitted
    from agentpipe.event import peek
    from agentpipe.io.serve.writer import Writer

    slow_commit()
    put = Writer.put

    def hastily(self: Any, batches: Sequence[Any]) -> None:
        for batch in batches:
            events = batch.events or [peek(line) for line in batch.lines]
            batch.settled(Admitted(len(events), 0, [], {event.run_id: event.sequence or 0 for event in events}))
            batch.settled = lambda admitted: None
        put(self, list(batches))

    Writer.put = hastily  # type: ignore[method-assign]


def no_sequence_check() -> None:
    """The door takes an event whatever its number."""
    from agentpipe.admission import Admission

    def gullible(self: Any, events: Sequence[Any], indexes: Sequence[int], refused: list[Any], now: float) -> int:
        for event in events:
            if event.sequence is None or event.type == "gap":
                self._rare(event, now)
                continue
            self._touch(event.run_id)
            self._lasts[event.run_id] = max(self.last(event.run_id), event.sequence)
            self._new.append(event)
        return 0

    Admission._admit_each = gullible  # type: ignore[method-assign]


def cursor_skips_one() -> None:
    """A subscription begins one entry too far, while it says that it does not."""
    from agentpipe.hub import Hub

    place = Hub._place

    def further(self: Any, subscription: Any, position: int, scanned: int) -> None:
        place(self, subscription, position, min(scanned + 1, self.head))

    Hub._place = further  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "slow-commit": slow_commit,
    "retain-often": retain_often,
    "early-acknowledgement": early_acknowledgement,
    "no-sequence-check": no_sequence_check,
    "cursor-skips-one": cursor_skips_one,
}


def main() -> None:
    """Build the mistake in and run the command."""
    name = sys.argv.pop(1)
    MUTANTS[name]()
    from agentpipe_cli.__main__ import main as command

    sys.argv[0] = "agentpipe"
    sys.exit(command())


if __name__ == "__main__":
    main()
