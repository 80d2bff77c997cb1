"""An MCP server on stdin and stdout with three tools: ``echo`` says what it was given, ``fail`` fails, and ``lines``
prints numbered lines, as many as it is asked for.

The rule this module keeps: it needs nothing but a Python, because an agent starts it by its path.
"""

import json
import sys
from typing import Any

_TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
_COUNT = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
_TOOLS = [
    {"name": "echo", "description": "Says what it was given", "inputSchema": _TEXT},
    {"name": "fail", "description": "Always fails", "inputSchema": _TEXT},
    # As much as Claude Code lets a tool ask for; of longer results it passes on the beginning alone.
    {
        "name": "lines",
        "description": "Prints lines",
        "inputSchema": _COUNT,
        "_meta": {"anthropic/maxResultSizeChars": 500_000},
    },
]


def answer(method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The result of one request."""
    if method == "initialize":
        version = parameters.get("protocolVersion", "2025-06-18")
        server = {"name": "demo", "version": "0.1"}
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
    if method == "tools/list":
        return {"tools": _TOOLS}
    if method == "tools/call" and parameters["name"] == "fail":
        return {"content": [{"type": "text", "text": "failed on purpose"}], "isError": True}
    if method == "tools/call":
        given = parameters["arguments"]
        text = lines(given["count"]) if parameters["name"] == "lines" else f"echo: {given['text']}"
        return {"content": [{"type": "text", "text": text}]}
    return {}


def lines(count: int) -> str:
    """Lines of 100 bytes, each with its number."""
    return "".join(f"{number:>98d}.\n" for number in range(1, count + 1))


def main() -> None:
    """Answer every request until the end of the input; notifications want no answer."""
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            told = answer(asked["method"], asked.get("params", {}))
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": told}), flush=True)


if __name__ == "__main__":
    main()
