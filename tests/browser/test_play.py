"""``make run``: the recorded session through the five-stage pipe into a hub, and the page that shows it."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.browser.chromium import Browser

ROOT = Path(__file__).resolve().parents[2]
PLAY = [sys.executable, str(ROOT / "docs" / "samples" / "play.py")]
SAMPLE = ROOT / "docs" / "samples" / "tour.ndjson"


def agents_lines() -> list[dict[str, Any]]:
    """What the agent itself printed, taken from the recording without any code of ours."""
    events = [json.loads(line) for line in SAMPLE.read_bytes().splitlines()]
    return [event["payload"]["data"] for event in events if "data" in event["payload"]]


def scripted() -> tuple[int, int, float]:
    """Calls, failed calls and the cost, counted independently."""
    lines = agents_lines()
    blocks = [
        block
        for line in lines
        if line["type"] in ("assistant", "user") and isinstance(line["message"]["content"], list)
        for block in line["message"]["content"]
    ]
    calls = sum(block["type"] == "tool_use" for block in blocks)
    failed = sum(block["type"] == "tool_result" and block.get("is_error") is True for block in blocks)
    return calls, failed, [line["total_cost_usd"] for line in lines if line["type"] == "result"][-1]


def told(summary: str) -> dict[str, str]:
    return dict(re.split(r"\s+", line, maxsplit=1) for line in summary.splitlines())  # type: ignore[arg-type]


def test_once_ends_by_itself_with_what_the_session_holds(environment: Mapping[str, str], built: None) -> None:
    done = subprocess.run([*PLAY, "--once"], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    calls, failed, cost = scripted()
    summary = told(done.stdout)
    assert summary["runs"] == "1"
    assert summary["run"].endswith("completed")
    assert summary["tool"] == f"calls  {calls} ({failed} failed)"
    assert summary["cost"] == f"${cost:.4f}"
    assert int(summary["events"]) > calls * 2


def test_the_page_shows_the_session_while_it_streams(
    browser: Browser, environment: Mapping[str, str], built: None, artifacts: Path
) -> None:
    process = subprocess.Popen(
        [*PLAY, "--port", "0", "--speed", "6"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert process.stdout is not None
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+#token=\S+", line)))
        with browser.page() as page:
            page.size(1280, 860)
            page.open(url)
            page.wait("agentpipe.rows().some((row) => row.kind === 'text' && row.state === 'streaming')", 60)
            page.wait("agentpipe.rows().some((row) => row.kind === 'call')", 60)
            assert page.evaluate("agentpipe.runs()[0].state") == "running"
            page.screenshot(artifacts / "make-run-streaming.png")
            page.wait("agentpipe.runs()[0].state === 'completed'", 120)
            summary = told("".join(process.stdout.readline() for _ in range(5)))
            page.wait(f"agentpipe.runs()[0].events === {summary['events']}")
            calls, failed, cost = scripted()
            shown = page.evaluate("agentpipe.runs()[0]")
            assert (shown["tool_calls"], shown["tool_failures"]) == (calls, failed)
            assert shown["cost_usd"] == cost
            page.screenshot(artifacts / "make-run-finished.png")
            assert page.problems == []
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.terminate()  # it ends its hub, too
        process.communicate(timeout=60)
