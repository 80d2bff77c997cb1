"""Calls and results of a raw log of the Copilot CLI, counted in the simplest way."""

import json


def counted(data: bytes) -> tuple[int, int]:
    """Tool calls (started, or asked for and never started) and tool results."""
    calls, results = set(), 0
    for line in data.decode().split("\n"):
        found = json.loads(line) if line.strip() else {}
        body = found.get("data") or {}
        if found.get("type") == "tool.execution_start":
            calls.add(body["toolCallId"])
        elif found.get("type") == "assistant.message":
            calls |= {asked["toolCallId"] for asked in body.get("toolRequests") or []}
        elif found.get("type") == "tool.execution_complete":
            results += 1
    return len(calls), results
