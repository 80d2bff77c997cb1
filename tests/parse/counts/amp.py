"""Calls and results of Amp, counted from the messages alone."""

import json

__all__ = ["counted"]


def counted(data: bytes) -> tuple[int, int]:
    types = []
    for line in data.split(b"\n"):
        try:
            message = json.loads(line).get("message")
        except (ValueError, AttributeError):
            continue
        types += [block.get("type") for block in message["content"]] if isinstance(message, dict) else []
    return types.count("tool_use"), types.count("tool_result")
