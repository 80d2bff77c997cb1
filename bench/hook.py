"""How long does an agent wait for a hook?"""

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from bench.measure import AGENTPIPE, PYTHON, Answer, Contender, compare

#: What Claude Code 2.1 writes for a call of its shell tool, in size and shape.
USUAL = {
    "session_id": "4b786e32-f6c7-43a9-b580-ffa747525b83",
    "transcript_path": "/home/user/.claude/projects/-workspace-demo/4b786e32-f6c7-43a9-b580-ffa747525b83.jsonl",
    "cwd": "/workspace/demo",
    "permission_mode": "bypassPermissions",
    "hook_event_name": "PostToolUse",
    "tool_name": "Bash",
    "tool_input": {"command": "ls -la", "description": "List files"},
    "tool_response": {"stdout": "README.md\n" * 20, "stderr": "", "interrupted": False, "isImage": False},
    "tool_use_id": "toolu_01bfa4d6c040f08fe662677d",
    "duration_ms": 38,
}
#: A large file that was read.
LARGE = USUAL | {"tool_response": {"type": "text", "file": {"content": "x" * 5_000_000}}}

READ = "import os\nwhile os.read(0, 1 << 20): pass"


def milliseconds(payload: bytes, environment: dict[str, str], *command: str) -> float:
    """Until all that the command may have written is read, as an agent waits."""
    started = time.perf_counter()
    subprocess.run(command, input=payload, capture_output=True, check=True, env=environment)
    return (time.perf_counter() - started) * 1e3


def answers(repeats: int) -> list[Answer]:
    with tempfile.TemporaryDirectory(prefix="agentpipe-bench-", ignore_cleanup_errors=True) as home:
        # The sender is alive, as it is but for a session's first hook, and without a hub, so that it does nothing.
        environment = os.environ | {"HOME": home, "XDG_STATE_HOME": home, "AGENTPIPE_HOOK_LINGER": "10min"}
        spool = Path(home, "agentpipe", "hooks", f"{USUAL['session_id']}.ndjson")
        command = (AGENTPIPE, "hook", "--url", "ws://127.0.0.1:9")
        try:
            return [
                question("a hook's wall time", USUAL, environment, command, max(repeats, 31)),
                question("a hook's wall time, 5 MB", LARGE, environment, command, min(repeats, 11)),
            ]
        finally:
            os.kill(int(spool.with_suffix(".lock").read_text()), signal.SIGKILL)


def question(name: str, payload: dict, environment: dict[str, str], command: tuple[str, ...], repeats: int) -> Answer:
    data = json.dumps(payload, separators=(",", ":")).encode()
    return compare(
        name,
        [
            Contender("agentpipe hook", lambda: milliseconds(data, environment, *command)),
            Contender("python that reads it", lambda: milliseconds(data, environment, PYTHON, "-c", READ)),
            Contender("python -c pass", lambda: milliseconds(data[:4096], environment, PYTHON, "-c", "pass")),
            Contender("cat", lambda: milliseconds(data, environment, "cat")),
        ],
        unit="ms",
        better="lower",
        repeats=repeats,
        goals={"agentpipe hook": "≤ 50"},
    )
