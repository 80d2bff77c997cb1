"""Start the hub, run it until it is told to stop, end it in order.

The rule this module keeps: what is taken is stored and told before the process ends, and everybody is told that it
ends; a second signal cuts that short.
"""

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvloop

from agentpipe.errors import OutputError
from agentpipe.io import token
from agentpipe.io.clock import Clock, now
from agentpipe.io.serve.auth import Guard
from agentpipe.io.serve.life import Life
from agentpipe.io.serve.standard_input import StandardInput, is_readable

if TYPE_CHECKING:
    from agentpipe.io.serve.options import ServeOptions

__all__ = ["serve"]

#: When a store that was lost cannot be read anew, it is tried again after this long.
AGAIN_S = 1.0


def serve(options: "ServeOptions", *, say: Callable[[str], None], clock: Clock = now) -> int:
    """Serve until a signal or the end of the input; return the number of the signal, or 0.

    *say* takes one line for people. Raises OutputError when the port, the store or a file cannot be had.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Server(options, say, clock).run())


class _Server:
    """The process: one life after the other on one listening socket, until it is told to stop."""

    def __init__(self, options: "ServeOptions", say: Callable[[str], None], clock: Clock) -> None:
        # given
        self._options = options
        self._say = say
        self._clock = clock
        # changing
        self._stopped = asyncio.Event()
        self._signals = 0
        self._signal = 0

    async def run(self) -> int:
        self._watch_signals()
        guard = Guard(
            self._options.token_file or token.default_path(),
            self._options.host,
            self._options.allow_host,
            self._options.allow_origin,
        )
        listener = _listening(self._options.host, self._options.port)
        life = await Life.begin(self._options, guard, self._clock, self._say)
        await life.listen(listener)
        self._announce(listener, guard)
        gc.freeze()  # what is here stays: the collector need not look at it again and again
        source = StandardInput(life.service.intake, self._clock, self._say) if is_readable() else None
        told = asyncio.ensure_future(self._until_told(source))
        while not told.done():
            await life.last(told)
            if life.lost is not None and not told.done():
                life = await self._next(life, guard, listener, source, told)
        listener.close()
        if source is not None:
            await source.close()
        await life.close()
        return self._signal

    async def _next(
        self,
        life: Life,
        guard: Guard,
        listener: socket.socket,
        source: StandardInput | None,
        told: "asyncio.Future[None]",
    ) -> Life:
        """The life after *life*; everybody comes back to it. *listener* keeps them waiting meanwhile."""
        self._say(f"{life.lost}: everything is read anew")
        if source is not None:
            source.intake = None
        await life.close(4101)
        while not told.done():
            try:
                life = await Life.begin(self._options, guard, self._clock, self._say)
            except OutputError as error:
                self._say(str(error))
                await asyncio.wait([told], timeout=AGAIN_S)
                continue
            await life.listen(listener)
            if source is not None:
                source.intake = life.service.intake
            break
        return life

    def _announce(self, listener: socket.socket, guard: Guard) -> None:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{port}/"
        self._say(f"listening on {url}#token={guard.token}")
        if host in ("0.0.0.0", "::") and not self._options.allow_host:  # noqa: S104 - compared, not bound
            self._say("listening on every address, but answering only to this machine's own names: see --allow-host")
        if self._options.ready_file:
            _write_ready(self._options.ready_file, url)
        if self._options.open:
            _open_browser(f"{url}#token={guard.token}", os.path.join(token.state_directory(), "open.html"))

    async def _until_told(self, source: StandardInput | None) -> None:
        ends = [self._stopped]
        if source is not None:
            source.start()
        if self._options.exit_on_eof:
            if source is None:
                return  # an input that is not there has ended
            ends.append(source.ended)
        waiting = [asyncio.ensure_future(event.wait()) for event in ends]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # inherited as ignored: it stays so
                loop.add_signal_handler(number, self._told, number)

    def _told(self, number: signal.Signals) -> None:
        """The first signal stops in order, the second at once; what was acknowledged is stored in either case."""
        self._signals += 1
        if self._signals > 1:
            os._exit(128 + number)
        self._signal = int(number)
        self._stopped.set()


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket; a name is resolved, a port in use is an error of one line."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise OutputError(f"{host}:{port}", error.strerror or str(error)) from error
    return listener


def _open_browser(url: str, path: str) -> None:
    """Open *url* by way of a page that only we can read: a command line, and the token in it, is for all to see."""
    import webbrowser

    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(f'<!doctype html><meta http-equiv="refresh" content="0;url={url}">\n')
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    # On a thread that nobody waits for: a browser in a terminal returns when it is closed.
    threading.Thread(target=webbrowser.open, args=(f"file://{path}",), name="agentpipe-browser", daemon=True).start()


def _write_ready(path: str, url: str) -> None:
    """The URL in a file that appears at once and whole."""
    try:
        with open(f"{path}.part", "w", encoding="utf-8") as file:
            file.write(url + "\n")
        os.replace(f"{path}.part", path)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
