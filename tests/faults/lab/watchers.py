"""Subscribers that write down everything they are told.

The rule this module keeps: a watcher changes nothing. What comes is journalled before it is understood; after a loss it
comes back from its own position, which it moves as docs/protocol.md says, and never asks twice for what it has.

`PrintingWatcher` is ``agentpipe subscribe`` as a process; `RawWatcher` is a thread with a socket. A raw one may stall
(read nothing for a while) and may come late.
"""

import contextlib
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.faults.lab.journal import Confirmed, Declared, History, Printed, Told, digest
from tests.faults.lab.raw_socket import Decoder, HubMessage, connected, handshake, read_message, subscribe_frame

__all__ = ["PrintingWatcher", "RawWatcher"]

#: A connection that says nothing for so long is given up; the hub's heartbeat comes more often.
SILENCE_S = 6.0

#: The longest wait before coming back; the waits are random, so that watchers do not march in step.
BACK_S = 0.2

#: What a slow watcher lets the kernel hold, so that its slowness reaches the hub.
SLOW_RECEIVE_BYTES = 16 * 1024


class RawWatcher:
    """A subscriber from the start; it begins at once and ends with `stop`. *slow* stalls now and then for up to so many
    seconds; *filter_types* asks for these types only. All lines that it is told are put into *lines*, by digest.
    """

    def __init__(
        self,
        name: str,
        port: int,
        token: str,
        *,
        seed: int = 0,
        slow: float = 0.0,
        filter_types: list[str] | None = None,
        lines: dict[int, bytes] | None = None,
    ) -> None:
        # given
        self._port, self._token = port, token
        self._random = random.Random(seed)
        self._slow = slow
        self._all_lines = lines
        self._wanted = {"filter": {"types": filter_types}} if filter_types else {}
        # changing
        self.history = History(name, types=frozenset(filter_types) if filter_types else None)
        self.position: tuple[str, int] | None = None
        self.connections = 0
        self.losses: list[str] = []
        self.problem: BaseException | None = None
        self._link: socket.socket | None = None
        self._heard = 0.0
        self._open = True
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)
        self._thread.start()

    @property
    def offset(self) -> int:
        """How far it has been told."""
        return self.position[1] if self.position is not None else 0

    def stop(self) -> None:
        """End it; raises what it died of, if it did."""
        self._open = False
        self._thread.join()
        if self.problem is not None:
            raise self.problem

    def kick(self) -> None:
        """Cut its connection, from its own side."""
        link = self._link
        if link is not None:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def _watch(self) -> None:
        try:
            while self._open:
                try:
                    self._follow()
                except (OSError, EOFError) as error:
                    self.losses.append(f"connection {self.connections}: {error!r}")
                    time.sleep(self._random.uniform(0, BACK_S))
        except BaseException as error:  # noqa: BLE001 - told by stop(), on the thread that judges
            self.problem = error

    def _follow(self) -> None:
        """One connection, from its handshake to its loss."""
        receive = SLOW_RECEIVE_BYTES if self._slow else 0
        with connected(self._port, timeout_s=0.25, receive_bytes=receive) as link:
            self._link = link
            self.connections += 1
            self._heard = time.monotonic()
            link.sendall(handshake(self._port, self._token))
            decoder = Decoder()
            while self._open:
                for text in decoder.feed(self._some(link)):
                    self._hear(link, read_message(text))
                for reply in decoder.replies:
                    link.sendall(reply)
                decoder.replies.clear()
                if self._slow and self._random.random() < 0.05:
                    time.sleep(self._random.uniform(0, self._slow))

    def _some(self, link: socket.socket) -> bytes:
        """What came; nothing after a short while, so that `stop` is seen."""
        try:
            data = link.recv(65536)
        except TimeoutError:
            if time.monotonic() - self._heard > SILENCE_S:
                raise EOFError("silent for too long") from None
            return b""
        if not data:
            raise EOFError("the connection ended")
        self._heard = time.monotonic()
        return data

    def _hear(self, link: socket.socket, message: HubMessage) -> None:
        number = self.connections
        match message.type:
            case "welcome":
                link.sendall(subscribe_frame(self.position, **self._wanted))
            case "subscription_confirmed":
                placed = (str(message.position["epoch"]), int(message.position["offset"]))
                self.history.facts.append(Confirmed(number, self.position, placed, message.recovered))
                self.position = placed
            case "events":
                lines = tuple(digest(bytes(line)) for line in message.events)
                if self._all_lines is not None:
                    self._all_lines.update(zip(lines, map(bytes, message.events), strict=True))
                self.history.facts.append(Told(number, message.prev, message.pos, lines))
                self._move(message.pos)
            case "gap":
                fact = Declared(number, message.first, message.last, message.count, message.reason)
                self.history.facts.append(fact)
                self._move(message.last)
            case "error" if message.code == "unavailable":
                raise EOFError("the store cannot be read now")  # while Redis is away: come back, as every client does
            case "error":
                raise AssertionError(f"{self.history.name} was told an error: {message}")

    def _move(self, offset: int) -> None:
        assert self.position is not None, "told something before the subscription was confirmed"
        self.position = (self.position[0], offset)


class PrintingWatcher:
    """``agentpipe subscribe --since start`` as a process; its lines and its notes go to files in *folder*."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str], token_file: Path, *urls: str) -> None:
        self.name = name
        self._lines, self._notes = folder / f"{name}.ndjson", folder / f"{name}.stderr"
        command = ["agentpipe", "subscribe", "--since", "start", "--follow", "--stats", "--token-file", str(token_file)]
        with self._lines.open("wb") as lines, self._notes.open("wb") as notes:
            self._process = subprocess.Popen(
                [*command, *urls], env=environment, stdin=subprocess.DEVNULL, stdout=lines, stderr=notes
            )
        self.last = b""  # the last line that `offset` has counted
        self._counted = 0
        self._counted_bytes = 0

    @property
    def offset(self) -> int:
        """How many lines it has printed."""
        with self._lines.open("rb") as lines:
            lines.seek(self._counted_bytes)
            data = lines.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._counted += whole.count(b"\n")
        self._counted_bytes += len(whole)
        if whole:
            self.last = whole.splitlines()[-1]
        return self._counted

    @property
    def notes(self) -> str:
        return self._notes.read_text()

    def stop(self) -> None:
        """End it as a person would; it must have lived until now."""
        assert self._process.poll() is None, f"{self.name} ended by itself: {self.notes}"
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def printed(self) -> Printed:
        """What it has printed, after `stop`, and how much it says is missing."""
        return Printed(self.name, [digest(line) for line in self.lines()], _missed(self.notes))

    def lines(self) -> list[bytes]:
        """The lines themselves, after `stop`."""
        return self._lines.read_bytes().splitlines()


def _missed(notes: str) -> int:
    """The count in its --stats line."""
    import json

    for line in notes.splitlines():
        _, _, text = line.partition("agentpipe: {")
        if text and '"missed"' in text:
            return int(json.loads("{" + text)["missed"])
    raise AssertionError(f"no counts at its end: {notes}")
