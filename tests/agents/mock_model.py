"""What all mocked model APIs share: a server on loopback, the script it plays, and its account of what it said.

The rule this module keeps: an answer depends on the request alone, so a retry or a restart gets the same one with the
same ids. It listens on 127.0.0.1 alone, on a port of the system's choice.
"""

import gzip
import hashlib
import json
import re
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from tests.agents.scenarios import Scenario, Text, Tool, Turn, turn

__all__ = ["Answer", "MockModel", "Reply", "Request", "identity", "pieces"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request for an answer: the script it played (``main``, ``helper``, ``side``), its turn from 0, the status."""

    script: str
    turn: int
    status: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer about to be given: what it says, which turn of which script it is, the tokens it claims to have cost.

    *begun* is the text that began the conversation; ids are made from all that.
    """

    turn: Turn
    script: str
    number: int
    begun: str

    def identity(self, kind: str, index: int = 0) -> str:
        """The id of the whole answer, or of its block at *index*."""
        return identity(kind, f"{self.begun}/{self.script}/{self.number}/{index}")

    def calls(self, kind: str) -> dict[str, Tool]:
        """The tool calls by id; *kind* begins the ids."""
        blocks = enumerate(self.turn.blocks)
        return {self.identity(kind, index): block for index, block in blocks if isinstance(block, Tool)}


class MockModel(ABC):
    """A server that plays one scenario; *pace* scales its delays (0: none, 1: as a real session). A context manager.

    It is the CLI's proxy, too, for whatever is not on loopback: nothing of that is let through, and who asked for what
    stands in ``strays``.

    A subclass says how a request becomes an `Answer` and how that is written, in the words of one API.
    """

    #: What the ids of this API's calls begin with.
    call_ids = "call"

    def __init__(self, scenario: Scenario, *, pace: float = 0.0) -> None:
        # given
        self.scenario = scenario
        self.pace = pace
        # changing
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.strays: list[str] = []
        self._failed: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self._server = _Server(self)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @abstractmethod
    def post(self, reply: "Reply", path: str, raw: bytes) -> None:
        """Answer a POST to *path*."""

    def get(self, reply: "Reply", path: str) -> None:
        """Answer a GET: there is nothing."""
        reply.json(404, {"error": {"message": f"no such path: {path}"}})

    def answer(self, number: int, begun: str, *, tools: bool) -> Answer:
        """The answer with this *number* in the conversation that *begun* opens; without tools it is a side errand."""
        if not tools:
            return Answer(turn(Text("A side answer")), "side", number, begun)
        script = "helper" if any(prompt in begun for prompt in self.scenario.delegated()) else "main"
        turns = self.scenario.helper if script == "helper" else self.scenario.main
        chosen = turns[number] if number < len(turns) else turn(Text("(end of the script)"))
        return Answer(chosen, script, number, begun)

    def status(self, answer: Answer) -> int:
        """The HTTP status of this answer, 200 or the scripted failure while it lasts; notes the request."""
        key, failure = (answer.script, answer.number), answer.turn.failure
        with self._lock:
            status = 200
            if failure and self._failed[key] < failure.times:
                self._failed[key] += 1
                status = failure.status
            else:
                self.answers.append(answer)
            self.requests.append(Request(*key, status))
        return status

    def calls(self) -> dict[str, Tool]:
        """Every call that it has made, by id: each answer counts once, however often it was asked for."""
        with self._lock:
            answers = list(self.answers)
        return {identity: tool for answer in answers for identity, tool in answer.calls(self.call_ids).items()}


class Reply(BaseHTTPRequestHandler):
    """One request and what is written back."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, *_: object) -> None:
        """The mock keeps its own account, in `MockModel.requests`."""

    def do_HEAD(self) -> None:
        """A CLI asks whether the server is there."""
        self.bytes(200, b"")

    def do_GET(self) -> None:
        """Lists of models and the like."""
        self.server.mock.get(self, urlsplit(self.path).path)

    def do_CONNECT(self) -> None:
        """Something of the outside world is asked for, or by a detour the mock itself: then the tunnel leads here."""
        if self.server.mock.url.endswith(f"//{self.path}"):
            self.send_response(200, "Connection established")
            self.end_headers()
            self.close_connection = False
            return
        self.server.mock.strays.append(self.path)
        self.json(403, {"error": {"message": "nothing goes out of here"}})

    def do_POST(self) -> None:
        """Everything else."""
        self.server.mock.post(self, urlsplit(self.path).path, self._body())

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        else:
            raw = b"".join(iter(self._chunk, b""))
        return gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw

    def _chunk(self) -> bytes:
        chunk = self.rfile.read(int(self.rfile.readline().split(b";")[0], 16))
        self.rfile.readline()
        return chunk

    def json(self, status: int, value: Any) -> None:
        """One JSON value, whole."""
        self.bytes(status, json.dumps(value).encode())

    def bytes(self, status: int, data: bytes) -> None:
        """A whole body."""
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, chosen: Turn, events: Iterable[tuple[str, bool]], pace: float) -> None:
        """Server-sent events: their text, and whether each is a piece of content, which is paced."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        time.sleep(chosen.before_s * pace)
        for text, paced in events:
            data = text.encode() + b"\n\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            if paced:
                time.sleep(chosen.between_s * pace)
        self.wfile.write(b"0\r\n\r\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, mock: MockModel) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self.mock = mock

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of an answer is part of the tests."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def pieces(text: str, size: int | None) -> list[str]:
    """Pieces of *size* characters, or of a few whole words each: then a path is never cut in two."""
    pattern = f".{{1,{size}}}" if size else r".{1,14}\S*"
    return re.findall(pattern, text, re.DOTALL)


def identity(kind: str, seed: str) -> str:
    """An id that begins with *kind* and is the same for the same *seed*."""
    return f"{kind}_01{hashlib.sha256(seed.encode()).hexdigest()[:22]}"
