"""Calls and results of Qwen Code, counted from the whole messages alone."""

import json

__all__ = ["counted"]


def counted(data: bytes) -> tuple[int, int]:
    types = []
    for line in data.split(b"\n"):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        for message in found if isinstance(found, list) else [found]:
            content = (message.get("message") or {}).get("content") if isinstance(message, dict) else None
            types += [block.get("type") for block in content] if isinstance(content, list) else []
    return types.count("tool_use"), types.count("tool_result")
