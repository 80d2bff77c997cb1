"""Calls and results of a raw log of Goose, counted in the simplest way."""

import json


def counted(data: bytes) -> tuple[int, int]:
    """Tool calls and tool results, of which one that could not be read is both."""
    try:
        messages = json.loads(data)["messages"]
    except (ValueError, KeyError):
        lines = [json.loads(line) for line in data.decode().split("\n") if line.strip()]
        messages = [line["message"] for line in lines if line.get("type") == "message"]
    blocks = [block for message in messages for block in message["content"]]
    asked = [block for block in blocks if block["type"] in ("toolRequest", "frontendToolRequest")]
    unread = sum(block["toolCall"].get("status") == "error" for block in asked)
    return len(asked), unread + sum(block["type"] == "toolResponse" for block in blocks)
