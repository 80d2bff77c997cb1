"""How many calls and results a file of hook payloads tells, counted from its JSON alone."""

import json
from collections import Counter
from typing import Any


def _payloads(data: bytes) -> list[dict[str, Any]]:
    text = data.decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except ValueError:
        found = []
        for line in text.split("\n"):
            try:
                one = json.loads(line)
            except ValueError:
                continue
            found += one if isinstance(one, list) else [one]
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]


def _key(payload: dict[str, Any]) -> str:
    named = payload.get("tool_use_id")
    return named or json.dumps([payload.get("tool_name"), payload.get("tool_input")], sort_keys=True)


def counted(data: bytes) -> tuple[int, int]:
    """Calls: those of PreToolUse, and those that only a result names; results: those that a hook was told."""
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for payload in _payloads(data):
        name = payload.get("hook_event_name")
        if name == "PreToolUse":
            before[_key(payload)] += 1
        elif name in ("PostToolUse", "PostToolUseFailure"):
            after[_key(payload)] += 1
    return sum((before | after).values()), sum(after.values())
