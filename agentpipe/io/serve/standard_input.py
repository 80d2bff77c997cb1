"""Events from the hub's own standard input.

The rule this module keeps: reading never blocks the loop and changes no flag of the descriptor (a thread reads);
what was read is stored before more is read, so that a slow disk pushes back on the pipe and nothing piles up. When
the hub ends, what was read is stored, or counted and said; what was not read stays its writer's.
"""

import asyncio
import os
import select
import stat
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentpipe.errors import AgentpipeError
from agentpipe.event import Event
from agentpipe.intake import Intake as Reader
from agentpipe.io.clock import Clock
from agentpipe.io.serve.intake import Intake
from agentpipe.io.streams import is_terminal, read_some

if TYPE_CHECKING:
    from agentpipe.admission import Admitted

__all__ = ["StandardInput", "is_readable"]

#: When the store fails, the same events are offered again after this long.
RETRY_S = 1.0


def is_readable(fd: int = 0) -> bool:
    """Whether *fd* brings events: a pipe, a file or a socket; not a terminal, not closed, not /dev/null."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return not is_terminal(fd) and (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode))


class StandardInput:
    """Feeds ``intake`` from a descriptor until it ends; while there is none, what was read waits. ``ended`` is set in
    the loop when everything is stored.
    """

    def __init__(self, intake: Intake, clock: Clock, warn: Callable[[str], None], *, fd: int = 0) -> None:
        # given
        self._clock = clock
        self._warn = warn
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._reader = Reader("events", warn=warn)
        self._wake_read, self._wake_write = os.pipe()
        # changing
        self.intake: Intake | None = intake
        self._closing = False
        self.ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="agentpipe-stdin", daemon=True)

    def start(self) -> None:
        """Begin to read. The thread ends with the input, or with the process."""
        self._thread.start()

    async def close(self) -> None:
        """Read no more, and wait until what was read is stored."""
        self._closing = True
        os.write(self._wake_write, b"\0")
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            self._read()
        except AgentpipeError as error:
            self._warn(f"stdin: {error}")
        finally:
            self._loop.call_soon_threadsafe(self.ended.set)

    def _read(self) -> None:
        while self._readable():
            data = read_some(self._fd)
            if data is None:
                continue  # somebody who shares the descriptor made it non-blocking, and was quicker
            events = self._reader.feed(data, self._clock()) if data else self._reader.finish(self._clock())
            if events:
                self._store(events)
            if not data:
                return
        if left := self._reader.finish(self._clock()):  # or says that a line was cut
            self._store(left)

    def _readable(self) -> bool:
        """Wait for something to read; False when there is to be no more reading."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        poll.poll()
        return not self._closing

    def _store(self, events: list[Event]) -> None:
        """Hand *events* over and wait until they are stored, however often it takes."""
        while True:
            outcome = asyncio.run_coroutine_threadsafe(self._take(events), self._loop)
            if outcome.result():
                return
            if self._closing:
                self._warn(f"stdin: {len(events)} events were read and could not be stored")
                return
            time.sleep(RETRY_S)

    async def _take(self, events: list[Event]) -> bool:
        if self.intake is None:
            return False
        stored: asyncio.Future[Admitted | None] = self._loop.create_future()
        self.intake.take_events(events, stored.set_result)
        admitted = await stored
        if admitted is None:
            return False
        for refusal in admitted.refused[:1]:
            self._warn(f"stdin: {len(admitted.refused)} events refused, the first because {refusal.message}")
        return True
