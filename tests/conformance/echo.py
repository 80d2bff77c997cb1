"""What Autobahn talks to: the hub's own WebSocket path as an echo, and an echo of aiohttp alone, the library beneath.

The rule this module keeps: of the hub, only the *meaning* of a message is replaced. Upgrade, settings, limits, frames,
pings, closing, server and event loop are those of ``agentpipe serve``; the echo takes the place of "publish".

Run as ``python -m tests.conformance.echo hub|library READY_FILE FOLDER``; ends with SIGTERM.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import uvloop
from aiohttp import WSMsgType, web

from agentpipe import wire
from agentpipe.io.serve import websocket
from agentpipe.io.serve.app import serve
from agentpipe.io.serve.auth import Guard
from agentpipe.io.serve.options import ServeOptions
from agentpipe.request import Publish

__all__ = ["Echo", "serve_hub", "serve_library"]


class Echo(websocket.Connection):
    """A connection that sends back what others would publish, and is not welcomed: every message counts as an echo."""

    def __init__(self, service: Any, transport: asyncio.Transport, response: Any) -> None:
        super().__init__(service, transport, _BinaryToo(self, response))

    def _welcome(self) -> None:
        pass  # nothing: the suite did not ask for it

    def _publish(self, lines: Any) -> None:
        self.send(lines[0])


class _BinaryToo:
    """The response, but for binary messages, which the protocol refuses: they are echoed before it sees them."""

    def __init__(self, connection: Echo, response: Any) -> None:
        self._connection = connection
        self._response = response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)

    async def receive(self) -> Any:
        while (message := await self._response.receive()).type is WSMsgType.BINARY:
            self._connection.write(b"\x82" + wire.frame(message.data)[1:])
        return message


def serve_hub(ready: Path, folder: Path) -> None:
    """The hub: its own server, in memory, with a heartbeat too seldom to be taken for an echo."""
    options = ServeOptions(
        port=0, store="memory", token_file=str(folder / "token"), ready_file=str(ready), heartbeat=3600.0
    )
    with (
        patch.object(websocket, "Connection", Echo),
        patch.object(websocket, "parse_client_message", lambda data: Publish([data])),
        patch.object(Guard, "admits", lambda *_: True),  # the suite cannot send a token
    ):
        serve(options, say=lambda _: None)


def serve_library(ready: Path) -> None:
    """The few lines that aiohttp's own documentation serves an echo with."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_library(ready))


async def _library(ready: Path) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    app = web.Application()
    app.router.add_get("/ws", _echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    beside = ready.with_name(f"{ready.name}.part")
    beside.write_text(f"http://127.0.0.1:{port}/\n")
    beside.rename(ready)
    await stopped.wait()
    await runner.cleanup()


async def _echo(request: web.Request) -> web.StreamResponse:
    response = web.WebSocketResponse(compress=False)
    await response.prepare(request)
    async for message in response:
        if message.type is WSMsgType.TEXT:
            await response.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await response.send_bytes(message.data)
    return response


if __name__ == "__main__":
    which, at, below = sys.argv[1:]
    os.chdir(below)
    serve_hub(Path(at), Path(below)) if which == "hub" else serve_library(Path(at))
