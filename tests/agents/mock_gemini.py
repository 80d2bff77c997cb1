"""A scripted stand-in for the Gemini API, for running the real Gemini CLI without a network.

The rule this module keeps: the turn of a conversation is the number of the model's contents in the request, so a retry
gets the same answer with the same ids. A request without tools is a side errand of the CLI; where it wants an answer
of some form (a JSON schema), it gets one.
"""

import json
from typing import Any

from tests.agents.mock_model import Answer, MockModel, Reply, pieces
from tests.agents.scenarios import Block, Text, Thinking, Tool, turn

__all__ = ["MockGemini", "usage"]

_ERRORS = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}


class MockGemini(MockModel):
    """``generateContent``, ``streamGenerateContent`` and ``countTokens``."""

    def post(self, reply: Reply, path: str, raw: bytes) -> None:
        """One of the three."""
        action = path.rpartition(":")[2]
        if action == "countTokens":
            reply.json(200, {"totalTokens": len(raw) // 4})
        elif action in {"generateContent", "streamGenerateContent"}:
            self._answer(reply, json.loads(raw), streams=action.startswith("stream"))
        else:
            reply.json(404, {"error": {"code": 404, "message": "no such path", "status": "NOT_FOUND"}})

    def _answer(self, reply: Reply, body: dict[str, Any], *, streams: bool) -> None:
        contents = body.get("contents", [])
        number = sum(1 for content in contents if content.get("role") == "model")
        answer = self.answer(number, _prompt(contents), tools=bool(body.get("tools")))
        status = self.status(answer)
        if status != 200:
            message = f"the mock fails with {status}"
            reply.json(status, {"error": {"code": status, "message": message, "status": _ERRORS[status]}})
            return
        form = (body.get("generationConfig") or {}).get("responseJsonSchema")
        if form:
            answer = Answer(turn(Text(json.dumps(_formed(form)))), answer.script, answer.number, answer.begun)
        parts = [part for index, block in enumerate(answer.turn.blocks) for part in _parts(block, index, answer)]
        if streams:
            told = (*((_content(answer, [part]), True) for part in parts), (_content(answer, [], "STOP"), False))
            reply.stream(answer.turn, ((f"data: {json.dumps(one)}", paced) for one, paced in told), self.pace)
        else:
            reply.json(200, _content(answer, parts, "STOP"))


def _prompt(contents: list[dict[str, Any]]) -> str:
    """Everything that was said in the user's name before the first answer."""
    said = []
    for content in contents:
        if content.get("role") == "model":
            break
        said += [part.get("text", "") for part in content.get("parts", [])]
    return "\n".join(said)


def _parts(block: Block, index: int, answer: Answer) -> list[dict[str, Any]]:
    match block:
        case Text(text):
            return [{"text": piece} for piece in pieces(text, answer.turn.piece)]
        case Thinking(text):
            return [{"text": text, "thought": True}]
        case Tool(name, given):
            call = {"name": name, "args": given, "id": answer.identity("call", index)}
            return [{"functionCall": call, "thoughtSignature": "bW9jaw=="}]


def _content(answer: Answer, parts: list[dict[str, Any]], finish: str | None = None) -> dict[str, Any]:
    ended = {"finishReason": finish} if finish else {}
    candidate = {"content": {"role": "model", "parts": parts or [{"text": ""}]}, "index": 0, **ended}
    return {"candidates": [candidate], "usageMetadata": usage(answer), "modelVersion": "mock-model"}


def usage(answer: Answer) -> dict[str, int]:
    """The tokens that an answer claims to have cost; the cached ones are among those of the prompt."""
    into, out, thoughts = 1000 + 300 * answer.number, 40 + len(answer.turn.blocks), 5
    return {
        "promptTokenCount": into,
        "candidatesTokenCount": out,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": into + out + thoughts,
        "cachedContentTokenCount": 200 * answer.number,
    }


def _formed(schema: dict[str, Any]) -> Any:
    """The smallest value of a JSON schema's form."""
    if "enum" in schema:
        return schema["enum"][-1]
    match str(schema.get("type", "string")).lower():
        case "object":
            return {name: _formed(part) for name, part in schema.get("properties", {}).items()}
        case "array":
            return []
        case "number" | "integer":
            return 1
        case "boolean":
            return False
        case _:
            return "mock"
