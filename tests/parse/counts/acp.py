"""Calls and results of a raw log of the Agent Client Protocol, counted in the simplest way."""

import json


def counted(data: bytes) -> tuple[int, int]:
    """Tool calls (ids that were mentioned) and tool results (those that ended)."""
    calls, ended = set(), set()
    for line in data.decode().split("\n"):
        found = json.loads(line) if line.strip() else {}
        update = (found.get("params") or {}).get("update") or {}
        if update.get("sessionUpdate") in ("tool_call", "tool_call_update"):
            calls.add(update["toolCallId"])
            if update.get("status") in ("completed", "failed"):
                ended.add(update["toolCallId"])
    return len(calls), len(ended)
