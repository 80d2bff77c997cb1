"""Start the hub, run it until it is told to stop, end it in order.

The rule this module keeps: what is taken is stored and told before the process ends, and everybody is told that it
ends; a second signal cuts that short.
"""

import asyncio
import gc
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvloop
from aiohttp import web

import agentpipe
from agentpipe.errors import OutputError
from agentpipe.event import peek_lines
from agentpipe.history import Log, MemoryLog
from agentpipe.hub import Hub
from agentpipe.io import token
from agentpipe.io.clock import Clock, now
from agentpipe.io.serve import feed as feeding
from agentpipe.io.serve.api import application
from agentpipe.io.serve.assets import Page
from agentpipe.io.serve.auth import Guard
from agentpipe.io.serve.feed import Feed
from agentpipe.io.serve.intake import Intake
from agentpipe.io.serve.service import Service
from agentpipe.io.serve.standard_input import StandardInput, is_readable
from agentpipe.io.sqlite_log import Retention, SqliteLog
from agentpipe.runs import Runs

if TYPE_CHECKING:
    from agentpipe.io.serve.options import ServeOptions
    from agentpipe.io.serve.websocket import Connection

__all__ = ["serve"]

#: An entry of the window costs at least this, so that the bound in bytes bounds the number of entries as well.
LEAST_ENTRY_BYTES = 64

#: How long connections get to end after the goodbye.
ENDING_S = 1.0


def serve(options: "ServeOptions", *, say: Callable[[str], None], clock: Clock = now) -> int:
    """Serve until a signal or the end of the input; return the number of the signal, or 0.

    *say* takes one line for people. Raises OutputError when the port, the store or a file cannot be had.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Server(options, say, clock).run())


class _Server:
    """One run of the hub."""

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
        service = self._service(guard)
        page = Page(os.path.join(os.path.dirname(agentpipe.__file__), "web"))
        runner = web.AppRunner(
            application(service, page), access_log=None, handler_cancellation=False, shutdown_timeout=ENDING_S
        )
        await runner.setup()
        await web.SockSite(runner, listener, backlog=1024).start()
        self._announce(listener, guard)
        service.spawn(service.beat())
        gc.freeze()  # what is here stays: the collector need not look at it again and again
        source = StandardInput(service.intake, self._clock, self._say) if is_readable() else None
        await self._until_told(service, source)
        listener.close()
        if source is not None:
            await source.close()
        await service.close()
        await runner.cleanup()
        return self._signal

    def _service(self, guard: Guard) -> Service:
        store = self._store()
        runs = Runs()
        window = self._window(store)
        log: Log = window
        if store is not None:
            log = store.reader()
            self._recall(runs, store)
        hub: Hub[Connection] = Hub(window, oldest=store.oldest if store is not None else None)
        feed = Feed(hub, log if store is not None else None, self._clock, patience_s=feeding.PATIENCE_S)
        intake = Intake(hub, feed, runs, store, self._clock)
        return Service(
            hub=hub, feed=feed, intake=intake, runs=runs, log=log, guard=guard, clock=self._clock,
            heartbeat_s=self._options.heartbeat,
        )  # fmt: skip

    def _store(self) -> SqliteLog | None:
        if self._options.store == "memory":
            return None
        path = self._options.store or os.path.join(token.state_directory(), "hub.db")
        try:
            os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        except OSError as error:
            raise OutputError(path, error.strerror or str(error)) from error
        store = SqliteLog(path, retention=Retention(*self._options.limits), sync=self._options.sync)
        store.retain(self._clock())
        return store

    def _window(self, store: SqliteLog | None) -> MemoryLog:
        epoch, head = (store.epoch, store.head) if store is not None else (secrets.token_hex(8), 0)
        events = self._options.window // LEAST_ENTRY_BYTES
        size_bytes = self._options.window
        return MemoryLog(epoch, max_events=events, max_bytes=size_bytes, head=head, indexed=store is None)

    def _recall(self, runs: Runs, store: SqliteLog) -> None:
        """Bring the states to where the store is: what was saved, and the entries after it."""
        offset, saved = store.state()
        try:
            if saved:
                runs.load(saved)
        except ValueError:
            offset = 0  # made by another version: reduce everything again
        offset = max(offset, store.oldest)
        while (page := store.since(offset, feeding.PAGE_EVENTS, feeding.PAGE_BYTES)).lines:
            runs.apply(peek_lines(page.lines)[0], self._clock())
            offset = page.next

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

    async def _until_told(self, service: Service, source: StandardInput | None) -> None:
        if source is not None:
            source.start()
            if self._options.exit_on_eof:
                service.spawn(self._stop_after(source))
        elif self._options.exit_on_eof:
            return  # an input that is not there has ended
        await self._stopped.wait()

    async def _stop_after(self, source: StandardInput) -> None:
        await source.ended.wait()
        self._stopped.set()

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
