"""Calls and results in session files of Qwen Code, counted from the parts of their messages alone."""

import json

__all__ = ["counted"]


def counted(data: bytes) -> tuple[int, int]:
    names: list[str] = []
    for line in data.split(b"\n"):
        try:
            message = json.loads(line).get("message") or {}
        except (ValueError, AttributeError):
            continue
        for part in message.get("parts", []):
            names += part
    return names.count("functionCall"), names.count("functionResponse")
