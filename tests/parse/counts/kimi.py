"""Calls and results of a raw log of Kimi CLI, counted in the simplest way."""

import json


def counted(data: bytes) -> tuple[int, int]:
    """Tool calls and tool results."""
    found = [json.loads(line) for line in data.decode().split("\n") if line.strip()]
    calls = sum(len(one.get("tool_calls") or []) for one in found if one.get("role") == "assistant")
    return calls, sum(one.get("role") == "tool" for one in found)
