"""A scripted stand-in for the Chat Completions API, for running OpenCode and Qwen Code without a network.

The rule this module keeps: the turn of a conversation is the number of answers with calls in the request, so a retry
gets the same answer with the same ids; what the CLI itself puts into the model's mouth has no calls.
"""

import json
from collections.abc import Iterator
from typing import Any

from tests.agents.mock_model import Answer, MockModel, Reply, pieces
from tests.agents.scenarios import Text, Thinking

__all__ = ["MockChat", "usage"]


class MockChat(MockModel):
    """Chat Completions below ``/v1``."""

    def post(self, reply: Reply, path: str, raw: bytes) -> None:
        """One path: an answer, streamed or whole."""
        if not path.endswith("/chat/completions"):
            reply.json(404, {"error": {"message": "no such path"}})
            return
        body = json.loads(raw)
        messages = body.get("messages", [])
        number = sum(1 for message in messages if message["role"] == "assistant" and message.get("tool_calls"))
        answer = self.answer(number, _prompt(messages), tools=bool(body.get("tools")))
        status = self.status(answer)
        completion = _Completion(body, answer)
        if status != 200:
            reply.json(status, {"error": {"message": f"the mock fails with {status}", "type": "server_error"}})
        elif body.get("stream"):
            chunks = ((f"data: {json.dumps(chunk, ensure_ascii=False)}", True) for chunk in completion.chunks())
            reply.stream(answer.turn, (*chunks, ("data: [DONE]", False)), self.pace)
        else:
            reply.json(200, completion.whole())


def _prompt(messages: list[dict[str, Any]]) -> str:
    """Everything that was said in the user's name before the first answer with calls."""
    said = []
    for message in messages:
        if message.get("tool_calls"):
            break
        if message["role"] == "user":
            content = message["content"]
            said += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "\n".join(said)


class _Completion:
    """One answer of the model, as a whole or in chunks."""

    def __init__(self, body: dict[str, Any], answer: Answer) -> None:
        self.answer = answer
        self.head = {"id": answer.identity("chatcmpl"), "created": 1, "model": body.get("model")}
        blocks = answer.turn.blocks
        self.text = "".join(block.text for block in blocks if isinstance(block, Text))
        self.reasoning = "".join(block.text for block in blocks if isinstance(block, Thinking))
        self.calls = [
            {"id": identity, "type": "function", "function": {"name": tool.name, "arguments": json.dumps(tool.input)}}
            for identity, tool in answer.calls("call").items()
        ]
        self.finish = "tool_calls" if self.calls else "stop"

    def whole(self) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.calls:
            message["tool_calls"] = self.calls
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        return {**self.head, "object": "chat.completion", "choices": [choice], "usage": usage(self.answer)}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The answer in pieces."""
        size = self.answer.turn.piece
        yield self._chunk({"role": "assistant", "content": ""})
        for piece in pieces(self.reasoning, size):
            yield self._chunk({"reasoning_content": piece})
        for piece in pieces(self.text, size):
            yield self._chunk({"content": piece})
        for index, call in enumerate(self.calls):
            function = call["function"]
            begun = {**call, "index": index, "function": {"name": function["name"], "arguments": ""}}
            yield self._chunk({"tool_calls": [begun]})
            for piece in pieces(function["arguments"], size):
                yield self._chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield self._chunk({}, self.finish) | {"usage": usage(self.answer)}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {**self.head, "object": "chat.completion.chunk", "choices": [choice]}


def usage(answer: Answer) -> dict[str, Any]:
    """The tokens that an answer claims to have cost; the cached ones are among those of the prompt."""
    into, out = 1000 + 500 * answer.number, 40 + len(answer.turn.blocks)
    return {
        "prompt_tokens": into,
        "completion_tokens": out,
        "total_tokens": into + out,
        "prompt_tokens_details": {"cached_tokens": 400 * answer.number},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
