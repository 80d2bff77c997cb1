"""Calls and results of a raw log of pi, counted in the simplest way."""

import json


def counted(data: bytes) -> tuple[int, int]:
    """Tool calls and tool results."""
    kinds = [json.loads(line).get("type") for line in data.decode().split("\n") if line.strip()]
    return kinds.count("tool_execution_start"), kinds.count("tool_execution_end")
