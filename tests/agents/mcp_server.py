"""An MCP server on stdin and stdout with two tools: ``echo`` says what it was given, ``fail`` fails.

The rule this module keeps: it needs nothing but a Python, because an agent starts it by its path.
"""

import json
import sys
from typing import Any

_TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
_TOOLS = [
    {"name": "echo", "description": "Says what it was given", "inputSchema": _TEXT},
    {"name": "fail", "description": "Always fails", "inputSchema": _TEXT},
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
        return {"content": [{"type": "text", "text": f"echo: {parameters['arguments']['text']}"}]}
    return {}


def main() -> None:
    """Answer every request until the end of the input; notifications want no answer."""
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            told = answer(asked["method"], asked.get("params", {}))
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": told}), flush=True)


if __name__ == "__main__":
    main()
