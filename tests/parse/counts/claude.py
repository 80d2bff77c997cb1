"""How many calls and results a log of ``claude -p`` holds, counted from its JSON alone."""

import json
from collections.abc import Iterator
from typing import Any


def _messages(data: bytes) -> Iterator[dict[str, Any]]:
    text = data.decode("utf-8", "replace")
    try:
        values = [json.loads(text)]  # one object or array over many lines
    except ValueError:
        values = []
        for line in text.split("\n"):
            try:
                values.append(json.loads(line))
            except ValueError:
                continue
    for value in values:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield one


def counted(data: bytes) -> tuple[int, int]:
    """Blocks of calls in the assistant's name, and of results in anybody's."""
    calls = results = 0
    for message in _messages(data):
        body = message.get("message")
        content = body.get("content") if isinstance(body, dict) else None
        if message.get("type") not in ("assistant", "user") or not isinstance(content, list):
            continue
        for block in content:
            kind = str(block.get("type")) if isinstance(block, dict) else ""
            calls += kind.endswith("tool_use") and message["type"] == "assistant"
            results += kind.endswith("tool_result")
    return calls, results
