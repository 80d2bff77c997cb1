"""How many calls and results a session file of Claude Code holds, counted from its JSON alone."""

import json
from collections.abc import Iterator
from typing import Any


def _values(text: str) -> Iterator[Any]:
    """Every value that begins a line; one over many lines too."""
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        start = place + len(text[place:]) - len(text[place:].lstrip(" \t\r\n\ufeff"))
        try:
            found, end = decoder.raw_decode(text, start)
        except ValueError:
            line = text.find("\n", start)
            place = line + 1 if line >= 0 else len(text)
            continue
        yield found
        place = end


def counted(data: bytes) -> tuple[int, int]:
    """Calls in the assistant's name and results in the user's, each once by its id: a file may repeat its past."""
    calls, results = set(), set()
    for value in _values(data.decode("utf-8", "replace")):
        for line in value if isinstance(value, list) else [value]:
            message = line.get("message") if isinstance(line, dict) else None
            content = message.get("content") if isinstance(message, dict) else None
            if line is None or not isinstance(content, list):
                continue
            for block in content:
                if line.get("type") == "assistant" and block.get("type") == "tool_use":
                    calls.add(block["id"])
                elif line.get("type") == "user" and block.get("type") == "tool_result":
                    results.add(block["tool_use_id"])
    return len(calls), len(results)
