"""What is stored in a log that several hubs share, heard of by following it.

The rule this module keeps: **events are told in the order of the log, each once, whoever stored them**; ours as well.
While the log cannot be reached the tail waits and tries again, and nobody is sent away. Only when the log is another
one, or entries were dropped before we had read them, this life of the hub is over.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence

from agentpipe.errors import ContinuityLost, OutputError
from agentpipe.event import Event, peek_lines
from agentpipe.io.serve.intake import Intake
from agentpipe.io.serve.writer import shown
from agentpipe.store import SharedStore

__all__ = ["Tail"]

#: What is read at once, and how long an empty answer may take: so long does the end of the hub wait, too.
READ_BYTES = 4 << 20
WAIT_S = 0.25

#: Pages that are read and not yet told, when the loop is busy.
PAGES_AHEAD = 2

#: Between attempts to reach a log that is away; doubled from the first to the last.
PAUSE_S = 0.05
PAUSE_MOST_S = 2.0


class Tail:
    """Follows *store* from *offset* on. ``over`` gets the reason when there is nothing more to follow."""

    def __init__(self, store: SharedStore, intake: Intake, offset: int) -> None:
        # given
        self._store = store
        self._intake = intake
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(PAGES_AHEAD)
        self._closing = threading.Event()
        # changing, on the loop
        self._reached = offset
        self._news = asyncio.Event()
        # changing, on the thread
        self._offset = offset
        self._thread = threading.Thread(target=self._run, name="agentpipe-tail", daemon=True)
        self.over: asyncio.Future[ContinuityLost] = self._loop.create_future()
        self._thread.start()

    async def close(self) -> None:
        """Follow no more."""
        self._closing.set()
        self._room.release()
        await asyncio.to_thread(self._thread.join)

    async def told(self, limit_s: float) -> None:
        """Wait until everything is told that the log holds now, at most for *limit_s*."""
        try:
            async with asyncio.timeout(limit_s):
                head = await asyncio.to_thread(lambda: self._store.head)
                while self._reached < head:
                    await self._news.wait()
        except (TimeoutError, OutputError):
            return  # who has not heard of it hears of it from another hub, or the next one

    # --- on the thread

    def _run(self) -> None:
        pause_s = PAUSE_S
        while not self._closing.is_set():
            try:
                self._follow()
                pause_s = PAUSE_S
            except ContinuityLost as lost:
                self._tell(self._end, lost)
                return
            except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the thread without a word
                self._tell(self._away, shown(error))
                self._closing.wait(pause_s)
                pause_s = min(2 * pause_s, PAUSE_MOST_S)

    def _follow(self) -> None:
        page = self._store.follow(self._offset, READ_BYTES, WAIT_S)
        if page.start != self._offset:
            raise ContinuityLost("store", f"entries up to {page.start} were dropped before they were read here")
        events, _ = peek_lines(page.lines)
        self._room.acquire()
        self._offset = page.next
        self._tell(self._announce, events)

    def _tell(self, function: Callable[..., None], *values: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *values)
        except RuntimeError:
            return  # the loop has ended: the process was told to go at once

    # --- on the loop

    def _announce(self, events: Sequence[Event]) -> None:
        try:
            self._intake.announce(events)
            self._reached += len(events)
        finally:
            self._room.release()
            self._news.set()  # wakes all who wait now
            self._news.clear()

    def _away(self, problem: OutputError) -> None:
        self._intake.problem = problem  # until the store was found to be there again

    def _end(self, lost: ContinuityLost) -> None:
        if not self.over.done():
            self.over.set_result(lost)
