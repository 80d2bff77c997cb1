"""A scripted stand-in for the Messages API, for running a real agent CLI without a network.

The rule this module keeps: the turn of a conversation is the number of assistant messages in the request, so a retry
or a restart gets the same answer with the same ids. A request without tools is a side errand of the CLI (a title, a
summary) and gets one short text. It listens on 127.0.0.1 alone, on a port of the system's choice.

By hand: ``python -m tests.agents.mock_anthropic tour DIRECTORY`` prepares the scenario's files, prints the URL and
serves until interrupted.
"""

import hashlib
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tests.agents.scenarios import SCENARIOS, Block, Scenario, Text, Thinking, Tool, Turn, turn

__all__ = ["MockAnthropic", "Request"]

_ERRORS = {
    400: ("invalid_request_error", "bad request"),
    401: ("authentication_error", "invalid x-api-key"),
    429: ("rate_limit_error", "This request would exceed your rate limit"),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request for an answer: the script it played (``main``, ``helper``, ``side``), its turn from 0, the status."""

    script: str
    turn: int
    status: int


class MockAnthropic:
    """A server that plays one scenario; *pace* scales its delays (0: none, 1: as a real session). A context manager."""

    def __init__(self, scenario: Scenario, *, pace: float = 0.0) -> None:
        # given
        self.scenario = scenario
        self.pace = pace
        # changing
        self.requests: list[Request] = []
        self._failed: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self._server = _Server(self)

    @property
    def url(self) -> str:
        """What ``ANTHROPIC_BASE_URL`` is set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def choose(self, body: dict[str, Any]) -> tuple[str, int, Turn]:
        """The script, the turn's number and the turn that answer the request *body*."""
        messages = body.get("messages", [])
        number = sum(1 for message in messages if message["role"] == "assistant")
        if not body.get("tools"):
            return "side", number, turn(Text("A side answer"))
        begun = _first_text(messages)
        script = "helper" if any(prompt in begun for prompt in self.scenario.delegated()) else "main"
        turns = self.scenario.helper if script == "helper" else self.scenario.main
        return script, number, turns[number] if number < len(turns) else turn(Text("(end of the script)"))

    def status(self, script: str, number: int, answer: Turn) -> int:
        """The HTTP status of this answer, 200 or the scripted failure while it lasts; notes the request."""
        with self._lock:
            status = 200
            if answer.failure and self._failed[script, number] < answer.failure.times:
                self._failed[script, number] += 1
                status = answer.failure.status
            self.requests.append(Request(script, number, status))
        return status


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, mock: MockAnthropic) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mock = mock

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of an answer is part of the tests."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """The mock keeps its own account, in `MockAnthropic.requests`."""

    def do_HEAD(self) -> None:
        """The CLI asks whether the server is there."""
        self._reply(200, b"")

    def do_POST(self) -> None:
        """The two paths that the CLI uses: an answer, and a count of tokens."""
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = urlsplit(self.path).path
        if path == "/v1/messages":
            self._answer(json.loads(raw))
        elif path == "/v1/messages/count_tokens":
            self._reply_json(200, {"input_tokens": len(raw) // 4})
        else:
            self._reply_json(404, _problem("not_found_error", "no such path"))

    def _answer(self, body: dict[str, Any]) -> None:
        mock = self.server.mock
        script, number, chosen = mock.choose(body)
        status = mock.status(script, number, chosen)
        if status != 200:
            self._reply_json(status, _problem(*_ERRORS[status]))
            return
        message = _Message(body, script, number, chosen)
        if body.get("stream"):
            self._stream(message, chosen, mock.pace)
        else:
            self._reply_json(200, message.whole())

    def _stream(self, message: "_Message", chosen: Turn, pace: float) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        time.sleep(chosen.before_s * pace)
        for event in message.events(chosen.piece):
            data = f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            if event["type"] == "content_block_delta":
                time.sleep(chosen.between_s * pace)
        self.wfile.write(b"0\r\n\r\n")

    def _reply_json(self, status: int, value: dict[str, Any]) -> None:
        self._reply(status, json.dumps(value).encode())

    def _reply(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Message:
    """One answer of the model, as a whole or as the events of a stream (Messages API, streaming)."""

    def __init__(self, body: dict[str, Any], script: str, number: int, chosen: Turn) -> None:
        seed = f"{_first_text(body.get('messages', []))}/{script}/{number}"
        thinks = (body.get("thinking") or {"type": "disabled"})["type"] != "disabled"
        self.blocks = [
            _content(block, f"{seed}/{index}")
            for index, block in enumerate(chosen.blocks)
            if thinks or not isinstance(block, Thinking)
        ]
        self.usage = _usage(number, self.blocks)
        self.stop_reason = "tool_use" if any(isinstance(block, Tool) for block in chosen.blocks) else "end_turn"
        self.head = {"id": _identity("msg", seed), "type": "message", "role": "assistant", "model": body.get("model")}

    def whole(self) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        ending = {"stop_reason": self.stop_reason, "stop_sequence": None, "usage": self.usage}
        return {**self.head, "content": self.blocks, **ending}

    def events(self, piece: int | None) -> Iterator[dict[str, Any]]:
        """The events of a stream, the content cut into pieces."""
        begun = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": self.usage | {"output_tokens": 1}}
        yield {"type": "message_start", "message": {**self.head, **begun}}
        for index, block in enumerate(self.blocks):
            yield {"type": "content_block_start", "index": index, "content_block": _emptied(block)}
            for delta in _deltas(block, piece):
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        ending = {"stop_reason": self.stop_reason, "stop_sequence": None}
        yield {"type": "message_delta", "delta": ending, "usage": self.usage}
        yield {"type": "message_stop"}


def _content(block: Block, seed: str) -> dict[str, Any]:
    match block:
        case Text(text):
            return {"type": "text", "text": text}
        case Thinking(text):
            return {"type": "thinking", "thinking": text, "signature": "bW9jaw=="}
        case Tool(name, given):
            return {"type": "tool_use", "id": _identity("toolu", seed), "name": name, "input": given}


def _emptied(block: dict[str, Any]) -> dict[str, Any]:
    """How a block begins in a stream: without what its deltas bring."""
    empty: dict[str, Any] = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {key: empty.get(key, value) for key, value in block.items()}


def _deltas(block: dict[str, Any], piece: int | None) -> Iterator[dict[str, str]]:
    match block["type"]:
        case "text":
            yield from ({"type": "text_delta", "text": part} for part in _pieces(block["text"], piece))
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": part} for part in _pieces(block["thinking"], piece))
            yield {"type": "signature_delta", "signature": block["signature"]}
        case _:
            parts = _pieces(json.dumps(block["input"], ensure_ascii=False), piece)
            yield from ({"type": "input_json_delta", "partial_json": part} for part in parts)


def _pieces(text: str, size: int | None) -> list[str]:
    """Pieces of *size* characters, or of a few whole words each: then a path is never cut in two."""
    pattern = f".{{1,{size}}}" if size else r".{1,14}\S*"
    return re.findall(pattern, text, re.DOTALL)


def _usage(number: int, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Tokens as a session of this length would count them, about four characters each."""
    written = sum(len(json.dumps(block)) for block in blocks) // 4
    return {
        "input_tokens": 40 + 7 * number,
        "cache_creation_input_tokens": 900,
        "cache_read_input_tokens": 11_000 + 900 * number,
        "output_tokens": written,
        "service_tier": "standard",
    }


def _identity(kind: str, seed: str) -> str:
    return f"{kind}_01{hashlib.sha256(seed.encode()).hexdigest()[:22]}"


def _problem(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def _first_text(messages: list[dict[str, Any]]) -> str:
    """The text that began the conversation, which tells a sub-agent's from the main one."""
    for message in messages:
        if message["role"] == "user":
            content = message["content"]
            return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)
    return ""


def main() -> None:
    """Serve one scenario until interrupted."""
    name, workspace = sys.argv[1], Path(sys.argv[2]).resolve()
    scenario = SCENARIOS[name](workspace)
    scenario.prepare(workspace)
    with MockAnthropic(scenario, pace=1.0) as mock:
        print(mock.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
