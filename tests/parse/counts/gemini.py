"""Calls and results of Gemini CLI, counted from the lines alone. Its report at the end (``json``) has none."""

import json

__all__ = ["counted"]


def counted(data: bytes) -> tuple[int, int]:
    types = []
    for line in data.split(b"\n"):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        types += [found.get("type")] if isinstance(found, dict) else []
    return types.count("tool_use"), types.count("tool_result")
