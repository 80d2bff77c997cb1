"""Calls and results of OpenCode, counted from its JSON alone."""

import json


def counted(data: bytes) -> tuple[int, int]:
    """Tool calls and tool results of a raw log: both are in one line, which may be printed again."""
    parts = set()
    for line in data.split(b"\n"):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and found.get("type") == "tool_use":
            parts.add(found["part"]["id"])
    return len(parts), len(parts)
