"""Calls and results of Codex's stream, counted from its JSON alone."""

import json

_TOOLS = {"collab_tool_call", "command_execution", "file_change", "mcp_tool_call", "web_search"}


def counted(data: bytes) -> tuple[int, int]:
    """Tool calls and tool results of a raw log: an item that is only completed is a call as well."""
    calls = results = process = 0
    seen = set()
    for line in data.split(b"\n"):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if not isinstance(found, dict):
            continue
        process += found.get("type") == "thread.started"
        item = found.get("item")
        if not isinstance(item, dict) or (item.get("type") or item.get("item_type")) not in _TOOLS:
            continue
        if (process, item.get("id")) not in seen:
            seen.add((process, item.get("id")))
            calls += 1
        results += found["type"] == "item.completed"
    return calls, results
