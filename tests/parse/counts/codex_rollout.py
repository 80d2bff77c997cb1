"""Calls and results of a rollout, counted from its JSON alone."""

import json


def counted(data: bytes) -> tuple[int, int]:
    """Tool calls and tool results of a raw log; a web search is both."""
    calls = results = 0
    for line in data.split(b"\n"):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        payload = found.get("payload") if isinstance(found, dict) else None
        kind = payload.get("type") if isinstance(payload, dict) and found.get("type") == "response_item" else None
        calls += kind in ("function_call", "custom_tool_call", "local_shell_call", "web_search_call")
        results += kind in ("function_call_output", "custom_tool_call_output", "web_search_call")
    return calls, results
