"""A scripted stand-in for the Responses API, for running the real Codex CLI without a network.

The rule this module keeps: the turn of a conversation is the number of answers in its input, so a retry gets the same
answer with the same ids. The model calls ``shell`` and ``apply_patch``; which of the CLI's tools that is depends on its
version and on the model it was told to use, and is read from the tools that the request offers.
"""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from tests.agents.mock_model import Answer, MockModel, Reply, pieces
from tests.agents.scenarios import Block, Text, Thinking, Tool

__all__ = ["MockResponses"]

_ERRORS = {
    400: ("invalid_request_error", "bad request"),
    429: ("rate_limit_exceeded", "Rate limit reached"),
    500: ("server_error", "The server had an error"),
}

#: What an item of the input is when the model made it.
_ANSWERED = frozenset({"reasoning", "function_call", "custom_tool_call", "local_shell_call"})


class MockResponses(MockModel):
    """The Responses API below ``/v1``."""

    def get(self, reply: Reply, path: str) -> None:
        """There is one model."""
        if path.endswith("/models"):
            model = {"id": "mock-model", "object": "model", "created": 1, "owned_by": "mock"}
            reply.json(200, {"object": "list", "data": [model]})
        else:
            super().get(reply, path)

    def post(self, reply: Reply, path: str, raw: bytes) -> None:
        """One path: an answer, streamed."""
        if not path.endswith("/responses"):
            reply.json(404, {"error": {"message": "no such path"}})
            return
        body = json.loads(raw)
        given = body.get("input", [])
        number = sum(1 for answered, _ in groupby(given, _is_answer) if answered)
        answer = self.answer(number, _prompt(given, self.scenario.prompt), tools=bool(body.get("tools")))
        status = self.status(answer)
        if status != 200:
            kind, message = _ERRORS[status]
            reply.json(status, {"error": {"type": kind, "code": kind, "message": message}})
            return
        events = _Response(body, answer).events()
        numbered = (
            (f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': place}, ensure_ascii=False)}",
             event["type"].endswith(".delta"))
            for place, event in enumerate(events)
        )  # fmt: skip
        reply.stream(answer.turn, numbered, self.pace)


def _is_answer(item: dict[str, Any]) -> bool:
    said = item.get("type", "message") == "message" and item.get("role") == "assistant"
    return said or item.get("type") in _ANSWERED


def _prompt(given: list[dict[str, Any]], otherwise: str) -> str:
    """What began the conversation: the last text in the user's name before the first answer."""
    begun = [item for item in given if item.get("role") == "user"]
    texts = [part.get("text", "") for item in begun for part in item.get("content", []) if isinstance(part, dict)]
    return "\n".join(texts) or otherwise


def _offered(tools: list[dict[str, Any]]) -> set[str]:
    """The names of the tools that a request offers; those in a namespace as ``namespace.name``."""
    names = set()
    for tool in tools:
        if tool.get("type") == "namespace":
            names |= {f"{tool['name']}.{each['name']}" for each in tool.get("tools", [])}
        else:
            names.add(tool.get("name") or str(tool.get("type")))
    return names


class _Response:
    """One answer of the model as the events of a stream."""

    def __init__(self, body: dict[str, Any], answer: Answer) -> None:
        self.answer = answer
        offered = _offered(body.get("tools", []))
        self.items = [
            _item(block, answer.identity("call", index), offered) for index, block in enumerate(answer.turn.blocks)
        ]
        self.head = {
            "id": answer.identity("resp"), "object": "response", "created_at": 1, "model": body.get("model"),
        }  # fmt: skip

    def events(self) -> Iterator[dict[str, Any]]:
        """From the first to the last."""
        yield {"type": "response.created", "response": {**self.head, "status": "in_progress", "output": []}}
        for index, item in enumerate(self.items):
            at: dict[str, Any] = {"output_index": index}
            begun = {**item, "status": "in_progress"} | {key: [] for key in ("content", "summary") if key in item}
            yield {"type": "response.output_item.added", **at, "item": begun}
            yield from self._inside(item, {**at, "item_id": item["id"]})
            yield {"type": "response.output_item.done", **at, "item": item}
        whole = {**self.head, "status": "completed", "output": self.items, "usage": usage(self.answer)}
        yield {"type": "response.completed", "response": whole}

    def _inside(self, item: dict[str, Any], at: dict[str, Any]) -> Iterator[dict[str, Any]]:
        size = self.answer.turn.piece
        if item["type"] == "message":
            text, at = item["content"][0]["text"], {**at, "content_index": 0}
            part = {"type": "output_text", "text": "", "annotations": []}
            yield {"type": "response.content_part.added", **at, "part": part}
            for piece in pieces(text, size):
                yield {"type": "response.output_text.delta", **at, "delta": piece}
            yield {"type": "response.output_text.done", **at, "text": text}
        elif item["type"] == "reasoning":
            text, at = item["summary"][0]["text"], {**at, "summary_index": 0}
            part = {"type": "summary_text", "text": ""}
            yield {"type": "response.reasoning_summary_part.added", **at, "part": part}
            for piece in pieces(text, size):
                yield {"type": "response.reasoning_summary_text.delta", **at, "delta": piece}
            yield {"type": "response.reasoning_summary_text.done", **at, "text": text}


def usage(answer: Answer) -> dict[str, Any]:
    """The tokens that an answer claims to have cost; the cached ones are among those of the input."""
    into, out = 1000 + 500 * answer.number, 40 + len(answer.turn.blocks)
    return {
        "input_tokens": into,
        "input_tokens_details": {"cached_tokens": 400 * answer.number},
        "output_tokens": out,
        "output_tokens_details": {"reasoning_tokens": 10},
        "total_tokens": into + out,
    }


def _item(block: Block, identity: str, offered: set[str]) -> dict[str, Any]:
    """A block as an output item."""
    name = f"item_{identity}"
    match block:
        case Text(text):
            part = {"type": "output_text", "text": text, "annotations": []}
            return {"id": name, "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        case Thinking(text):
            summary = [{"type": "summary_text", "text": text}]
            return {"id": name, "type": "reasoning", "summary": summary, "encrypted_content": "bW9jaw=="}
        case Tool():
            return {"id": name, "status": "completed", "call_id": identity, **_call(block, offered)}


def _call(tool: Tool, offered: set[str]) -> dict[str, Any]:
    """A call in the words of the tools that are offered."""
    given = tool.input
    if tool.name == "shell":
        return _shell(given["command"], offered)
    if tool.name == "apply_patch":
        if "apply_patch" in offered:
            return {"type": "custom_tool_call", "name": "apply_patch", "input": given["patch"]}
        return _shell(f"apply_patch <<'EOF'\n{given['patch']}EOF\n", offered)
    named = next((each for each in offered if each.split(".")[-1].split("__")[-1] == tool.name), tool.name)
    *space, name = named.split(".", 1)
    return _function(name, given) | ({"namespace": space[0]} if space else {})


def _shell(command: str, offered: set[str]) -> dict[str, Any]:
    if "exec_command" in offered:
        return _function("exec_command", {"cmd": command, "yield_time_ms": 20_000})
    if "shell_command" in offered:
        return _function("shell_command", {"command": command})
    if "local_shell" in offered:
        action = {"type": "exec", "command": ["bash", "-lc", command]}
        return {"type": "local_shell_call", "action": action}
    return _function("shell", {"command": ["bash", "-lc", command]})


def _function(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function_call", "name": name, "arguments": json.dumps(arguments)}
