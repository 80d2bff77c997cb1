"""The peers that a benchmark is held against do the same work: else the ratio says nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
AGENTPIPE = str(Path(sys.executable).with_name("agentpipe"))
SAMPLE = ROOT / "docs" / "samples" / "tour.stream.jsonl"

#: What the jq program has to tell alike; what it leaves out is said at its head.
FACTS = (
    "tool_use_id", "name", "kind", "title", "input", "ok", "content", "bytes", "truncated", "duration_ms", "exit_code",
    "message_id", "index", "text", "final", "path", "change", "added", "removed", "patch", "rank", "turn",
    "input_tokens", "output_tokens", "cache_read_tokens", "cumulative", "cost_usd", "level", "tools", "session_id",
)  # fmt: skip


def told(output: bytes) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in output.splitlines()]
    return [
        {
            "type": event["type"],
            "parent_id": event.get("parent_id"),
            **{key: event["payload"][key] for key in FACTS if key in event["payload"]},
        }
        for event in events
        if event["type"] != "progress_update"
    ]


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_jq_program_tells_what_parse_tells() -> None:
    program = ROOT / "bench" / "peers" / "parse.jq"
    with SAMPLE.open("rb") as log:
        ours = subprocess.run([AGENTPIPE, "parse"], stdin=log, capture_output=True, timeout=60, check=True)
    with SAMPLE.open("rb") as log:
        theirs = subprocess.run(
            ["jq", "-n", "-c", "-f", program], stdin=log, capture_output=True, timeout=60, check=True
        )
    mine, others = told(ours.stdout), told(theirs.stdout)
    assert [event["type"] for event in others] == [event["type"] for event in mine]
    assert others == mine
