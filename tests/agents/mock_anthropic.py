"""A scripted stand-in for the Messages API, for running a real agent CLI without a network.

The rule this module keeps: the turn of a conversation is the number of assistant messages in the request, so a retry
or a restart gets the same answer with the same ids. A request without tools is a side errand of the CLI (a title, a
summary) and gets one short text.

By hand: ``python -m tests.agents.mock_anthropic tour DIRECTORY`` prepares the scenario's files, prints the URL and
serves until interrupted.
"""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.agents.mock_model import Answer, MockModel, Reply, pieces
from tests.agents.scenarios import SCENARIOS, Block, Text, Thinking, Tool

__all__ = ["MockAnthropic"]

_ERRORS = {
    400: ("invalid_request_error", "bad request"),
    401: ("authentication_error", "invalid x-api-key"),
    429: ("rate_limit_error", "This request would exceed your rate limit"),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}


class MockAnthropic(MockModel):
    """The Messages API; `url` is what ``ANTHROPIC_BASE_URL`` is set to."""

    call_ids = "toolu"

    def post(self, reply: Reply, path: str, raw: bytes) -> None:
        """The two paths that the CLI uses: an answer, and a count of tokens."""
        if path == "/v1/messages":
            self._answer(reply, json.loads(raw))
        elif path == "/v1/messages/count_tokens":
            reply.json(200, {"input_tokens": len(raw) // 4})
        else:
            reply.json(404, _problem("not_found_error", "no such path"))

    def _answer(self, reply: Reply, body: dict[str, Any]) -> None:
        messages = body.get("messages", [])
        number = sum(1 for message in messages if message["role"] == "assistant")
        begun = _first_text(messages)
        # Some versions warm the cache for sub-agents up, with all of their tools.
        answer = self.answer(number, begun, tools=bool(body.get("tools")) and begun.strip() != "Warmup")
        status = self.status(answer)
        message = _Message(body, answer)
        if status != 200:
            reply.json(status, _problem(*_ERRORS[status]))
        elif body.get("stream"):
            events = (
                (f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}", _is_delta(event))
                for event in message.events(answer.turn.piece)
            )
            reply.stream(answer.turn, events, self.pace)
        else:
            reply.json(200, message.whole())


def _is_delta(event: dict[str, Any]) -> bool:
    return event["type"] == "content_block_delta"


class _Message:
    """One answer of the model, as a whole or as the events of a stream (Messages API, streaming)."""

    def __init__(self, body: dict[str, Any], answer: Answer) -> None:
        thinks = (body.get("thinking") or {"type": "disabled"})["type"] != "disabled"
        self.blocks = [
            _content(block, answer.identity("toolu", index))
            for index, block in enumerate(answer.turn.blocks)
            if thinks or not isinstance(block, Thinking)
        ]
        self.usage = _usage(answer.number, self.blocks)
        calls = any(isinstance(block, Tool) for block in answer.turn.blocks)
        self.stop_reason = "tool_use" if calls else "end_turn"
        self.head = {
            "id": answer.identity("msg"), "type": "message", "role": "assistant", "model": body.get("model"),
        }  # fmt: skip

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


def _content(block: Block, identity: str) -> dict[str, Any]:
    match block:
        case Text(text):
            return {"type": "text", "text": text}
        case Thinking(text):
            return {"type": "thinking", "thinking": text, "signature": "bW9jaw=="}
        case Tool(name, given):
            return {"type": "tool_use", "id": identity, "name": name, "input": given}


def _emptied(block: dict[str, Any]) -> dict[str, Any]:
    """How a block begins in a stream: without what its deltas bring."""
    empty: dict[str, Any] = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {key: empty.get(key, value) for key, value in block.items()}


def _deltas(block: dict[str, Any], piece: int | None) -> Iterator[dict[str, str]]:
    match block["type"]:
        case "text":
            yield from ({"type": "text_delta", "text": part} for part in pieces(block["text"], piece))
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": part} for part in pieces(block["thinking"], piece))
            yield {"type": "signature_delta", "signature": block["signature"]}
        case _:
            parts = pieces(json.dumps(block["input"], ensure_ascii=False), piece)
            yield from ({"type": "input_json_delta", "partial_json": part} for part in parts)


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
