"""Calls and results in saved chats of Gemini CLI, counted by their ids: a message is written again when it grows."""

import json
from typing import Any

__all__ = ["counted"]


def counted(data: bytes) -> tuple[int, int]:
    calls, ended = set(), set()
    for message in _messages(data):
        for call in message.get("toolCalls") or []:
            calls.add(call["id"])
            if call["status"] in ("success", "error", "cancelled"):
                ended.add(call["id"])
        for part in message["content"] if isinstance(message.get("content"), list) else []:
            if "functionResponse" in part:
                ended.add(part["functionResponse"]["id"])
    return len(calls), len(ended)


def _messages(data: bytes) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for line in data.split(b"\n"):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        out += found.get("messages") or found.get("$set", {}).get("messages") or [found]
    return out
