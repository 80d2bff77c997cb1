"""Calls and results of a raw log of Cursor, counted in the simplest way."""

import json


def counted(data: bytes) -> tuple[int, int]:
    """Tool calls and tool results."""
    found = [json.loads(line) for line in data.decode().split("\n") if line.strip()]
    steps = [one.get("subtype") for one in found if one.get("type") == "tool_call"]
    return steps.count("started"), steps.count("completed")
