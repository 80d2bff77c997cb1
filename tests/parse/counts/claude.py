"""What a log of ``claude -p`` holds, counted from its JSON alone."""

import json
from collections import Counter
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


def told_by_claude(data: bytes) -> dict[str, Any]:
    """Texts, thoughts and turns that the log holds, and its cost."""
    count: Counter[str] = Counter()
    cost = None
    streamed: dict[tuple[Any, int], str] = {}
    current: dict[Any, Any] = {}
    messages = list(_messages(data))
    for message in messages:
        kind, body = message.get("type"), message.get("message")
        content = body.get("content", []) if isinstance(body, dict) else [{"type": "text"}]
        if kind == "assistant" and isinstance(content, list):
            real = not (message.get("error") and body.get("model") == "<synthetic>")
            for block in content:
                if block.get("type") == "text" and real:
                    count["texts"] += 1
                    _one_less(streamed, body.get("id"))
                elif block.get("type") == "thinking" and block.get("thinking"):
                    count["thoughts"] += 1
        elif kind == "user" and isinstance(content, list):
            count["texts"] += sum(block.get("type") == "text" for block in content)
        elif kind == "result":
            count["turns"] += 1
            cost = message.get("total_cost_usd", cost)
        elif kind == "stream_event":
            _follow(message, current, streamed)
    count["texts"] += len(streamed)
    return {"cost": cost, **{name: count[name] for name in ("texts", "thoughts", "turns")}}


def _follow(message: dict[str, Any], current: dict[Any, Any], streamed: dict[tuple[Any, int], str]) -> None:
    """Texts that began to stream and whose whole line never came."""
    event, scope = message["event"], message.get("parent_tool_use_id")
    if event["type"] == "message_start":
        current[scope] = event["message"]["id"]
    elif event.get("delta", {}).get("type") == "text_delta":
        streamed[current[scope], event["index"]] = "open"


def _one_less(streamed: dict[tuple[Any, int], str], message_id: Any) -> None:
    mine = sorted(key for key in streamed if key[0] == message_id)
    if mine:
        del streamed[mine[0]]
