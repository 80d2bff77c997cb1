"""What several tellers publish of one session stands as one session, and again adds nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.io.serve.hubs import PATIENCE_S, Hub

RECORDINGS = Path(__file__).resolve().parents[4] / "shared" / "recordings" / "claude"
AGENTPIPE = str(Path(sys.executable).parent / "agentpipe")

Start = Callable[..., Hub]


def parsed(path: Path) -> bytes:
    with path.open("rb") as log:
        done = subprocess.run([AGENTPIPE, "parse"], stdin=log, capture_output=True, check=True, timeout=PATIENCE_S)
    return done.stdout


def publish(hub: Hub, events: bytes) -> None:
    command = [AGENTPIPE, "publish", "--token-file", str(hub.token_file), hub.url.replace("http", "ws")]
    subprocess.run(command, input=events, check=True, timeout=PATIENCE_S, capture_output=True)


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="needs ../shared/recordings/claude")
@pytest.mark.parametrize(
    ("names", "tellers"),
    [
        (("tools-hooks.jsonl", "tools-hooks.hooks.jsonl"), {"", "/hooks"}),
        (("hello.transcript.jsonl", "hello.jsonl"), {"", "/transcript"}),
        (
            ("subagents.jsonl", "subagents.transcript.jsonl", "subagents.transcript-subagent1.jsonl"),
            {"", "/transcript", "/agent-"},
        ),
    ],
)
def test_the_tellers_of_a_recorded_session(start: Start, names: tuple[str, ...], tellers: set[str]) -> None:
    hub = start(store="hub.db")
    logs = [parsed(RECORDINGS / name) for name in names]
    for log in logs:
        publish(hub, log)
    listed = hub.json("api/runs")
    runs = listed["runs"]
    (session,) = {run["session_id"] for run in runs}
    assert len(runs) == len(names)
    found = {run["run_id"].removeprefix(session) for run in runs}
    assert {suffix if not suffix.startswith("/agent-") else "/agent-" for suffix in found} == tellers
    assert sum(run["events"] for run in runs) == sum(log.count(b"\n") for log in logs) == listed["position"]["offset"]
    for log in reversed(logs):
        publish(hub, log)
    assert hub.json("api/runs") == listed


def told(run: str, **payload: Any) -> list[dict[str, Any]]:
    head = {"run_id": run, "agent_id": "claude", "timestamp": "2026-11-20T07:00:00.000Z"}
    payloads = [
        ("run_started", {"schema": "agentpipe/1", "agent": "claude", **payload}),
        ("run_completed", {"duration_ms": 1}),
    ]
    return [
        {"type": kind, **head, "sequence": number, "event_id": f"{run}:{number}", "payload": made}
        for number, (kind, made) in enumerate(payloads, 1)
    ]


def test_a_live_run_stands_with_what_others_tell_of_its_session(hub: Hub) -> None:
    """It keeps the id that it was given before its agent named the session."""
    runs = ["5f3a", "s-9/transcript", "s-9/hooks", "s-9/agent-7"]
    lines = [json.dumps(event).encode() for run in runs for event in told(run, session_id="s-9")]
    assert hub.json("api/events", b"\n".join(lines))["accepted"] == 8
    assert hub.json("api/events", b"\n".join(lines))["known"] == 8
    assert [run["run_id"] for run in hub.json("api/runs")["runs"] if run.get("session_id") == "s-9"] == runs[::-1]
    assert hub.json("api/runs/5f3a")["session_id"] == "s-9"
