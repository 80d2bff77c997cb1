"""``agentpipe stats`` on real logs: the figures are those of an independent count, and any form of a log gives them."""

import gzip
import json
import os
import pty
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run

ROOT = Path(__file__).parents[2]
TOUR = ROOT / "docs" / "samples" / "tour.ndjson"
RECORDINGS = ROOT.parent / "shared" / "recordings"
TOOLS = RECORDINGS / "claude" / "tools.jsonl"
CODEX = RECORDINGS / "codex"


def report(agentpipe: Run, *args: str, **more: Any) -> dict[str, Any]:
    done = agentpipe("stats", "--json", *args, **more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def claude_lines(path: Path) -> list[dict[str, Any]]:
    """What Claude Code printed, taken out of what ``agentpipe run`` wrote where it did."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    wrapped = [line["payload"]["data"] for line in lines if "data" in line.get("payload", {})]
    return wrapped or lines


def blocks(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    contents = [line["message"]["content"] for line in lines if line.get("type") in ("assistant", "user")]
    every = [block for content in contents if isinstance(content, list) for block in content]
    return [block for block in every if block.get("type") == kind]


def counted(path: Path) -> dict[str, Any]:
    """The figures of a log of Claude Code, counted from its JSON in the simplest way."""
    lines = claude_lines(path)
    calls, results = blocks(lines, "tool_use"), blocks(lines, "tool_result")
    (end,) = (line for line in lines if line.get("type") == "result")
    names = {call["id"]: call["name"] for call in calls}
    total: Counter[str] = Counter()
    for model in end["modelUsage"].values():
        total.update({name: model[name] for name in ("inputTokens", "outputTokens", "cacheReadInputTokens")})
        total["written"] += model["cacheCreationInputTokens"]
    patches = [line["tool_use_result"] for line in lines if isinstance(line.get("tool_use_result"), dict)]
    changes = [text for patch in patches for hunk in patch.get("structuredPatch") or [] for text in hunk["lines"]]
    return {
        "calls": Counter(names.values()),
        "failures": Counter(names[r["tool_use_id"]] for r in results if r.get("is_error")),
        "tokens": [total["inputTokens"], total["outputTokens"], total["cacheReadInputTokens"], total["written"]],
        "cost": end["total_cost_usd"],
        "patched": [sum(text.startswith(sign) for text in changes) for sign in "+-"],
        "written": sum(c["input"]["content"].count("\n") for c in calls if c["name"] == "Write"),
    }


@pytest.mark.parametrize("path", [TOUR, TOOLS], ids=lambda path: path.name)
def test_the_figures_are_those_of_an_independent_count(agentpipe: Run, path: Path) -> None:
    if not path.exists():
        pytest.skip("the recordings (../shared) are not here")
    true, found = counted(path), report(agentpipe, str(path))
    totals = found["totals"]
    assert {tool["name"]: tool["calls"] for tool in totals["tools"]} == true["calls"]
    assert {tool["name"]: tool["failures"] for tool in totals["tools"] if tool["failures"]} == true["failures"]
    assert sum(kind["calls"] for kind in totals["kinds"]) == true["calls"].total()
    assert list(totals["tokens"].values()) == true["tokens"]
    assert totals["cost_usd"] == pytest.approx(true["cost"])
    assert totals["errors"]["tool"] == true["failures"].total()
    assert totals["raw"] == 0
    assert sum(totals["time_ms"].values()) == totals["duration_ms"]
    assert totals["runs"] == {"counted": 1, "completed": 1, "other_tellers": 0, "without_row": 0}
    assert totals["files"]["removed"] == true["patched"][1]
    assert totals["files"]["added"] in (true["patched"][0], true["patched"][0] + true["written"])


@pytest.mark.skipif(not CODEX.exists(), reason="the recordings (../shared) are not here")
def test_a_log_of_codex_has_the_figures_of_an_independent_count(agentpipe: Run) -> None:
    path = CODEX / "tools.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    done = [line["item"] for line in lines if line["type"] == "item.completed"]
    commands = [item for item in done if item["type"] == "command_execution"]
    (turn,) = (line["usage"] for line in lines if line["type"] == "turn.completed")
    totals = report(agentpipe, str(path))["totals"]
    (execute,) = (kind for kind in totals["kinds"] if kind["kind"] == "execute")
    assert execute["calls"] == len(commands)
    assert execute["failures"] == sum(item["exit_code"] != 0 for item in commands)
    assert totals["tokens"]["output_tokens"] == turn["output_tokens"]
    assert totals["tokens"]["input_tokens"] == turn["input_tokens"] - turn["cached_input_tokens"]
    assert totals["cost_usd"] is None


@pytest.mark.skipif(not TOOLS.exists(), reason="the recordings (../shared) are not here")
def test_all_tellers_of_one_session_count_as_the_best_of_them(agentpipe: Run) -> None:
    stream = report(agentpipe, str(TOOLS))
    transcripts = [str(path) for path in sorted(TOOLS.parent.glob("tools.transcript*.jsonl"))]
    assert len(transcripts) == 2
    every = report(agentpipe, *transcripts, str(TOOLS))
    assert every["totals"].pop("runs") == {"counted": 1, "completed": 1, "other_tellers": 2, "without_row": 0}
    del stream["totals"]["runs"]
    assert every["totals"] == stream["totals"]
    told = report(agentpipe, *transcripts)["totals"]
    calls = {tool["name"]: tool["calls"] for tool in stream["totals"]["tools"]}
    assert {tool["name"]: tool["calls"] for tool in told["tools"]} == calls


def test_events_raw_lines_and_a_packed_log_give_the_same_figures(agentpipe: Run, tmp_path: Path) -> None:
    events = agentpipe("parse", input=TOUR.read_bytes()).stdout
    (tmp_path / "events.ndjson").write_bytes(events)
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(TOUR.read_bytes()))
    reports = [
        report(agentpipe, str(TOUR)),
        report(agentpipe, str(tmp_path / "events.ndjson")),
        report(agentpipe, str(tmp_path / "packed.jsonl.gz")),
        report(agentpipe, input=TOUR.read_bytes()),
        report(agentpipe, "-", input=events),
    ]
    for found in reports:
        del found["input"]
    assert all(found == reports[0] for found in reports)
    both = report(agentpipe, str(TOUR), str(tmp_path / "events.ndjson"))["totals"]
    assert both.pop("repeated_events") == len(events.splitlines())
    del reports[0]["totals"]["repeated_events"]
    assert both == reports[0]["totals"]


def test_a_folder_stands_for_the_logs_in_it(agentpipe: Run, tmp_path: Path) -> None:
    inside = tmp_path / "logs" / "deep"
    inside.mkdir(parents=True)
    (inside / "a.ndjson").write_bytes(TOUR.read_bytes())
    (inside / "notes.txt").write_bytes(b"no log\n")
    found = report(agentpipe, str(tmp_path / "logs"))
    assert (found["input"]["logs"], found["totals"]["runs"]["counted"]) == (1, 1)
    (inside / "a.ndjson").unlink()
    done = agentpipe("stats", str(tmp_path / "logs"))
    assert (done.returncode, done.stdout) == (66, b"")
    assert b"no log in this folder" in done.stderr


def test_a_malformed_line_among_events_is_counted_and_said(agentpipe: Run) -> None:
    events = agentpipe("parse", input=TOUR.read_bytes()).stdout.splitlines(keepends=True)
    done = agentpipe("stats", "--json", input=b"".join([*events[:5], b'{"type":"agent_\n', *events[5:]]))
    found = json.loads(done.stdout)
    assert found["input"]["malformed"] == 1
    assert len(found["runs"]) == 1
    assert done.stderr == b'agentpipe: stdin: skipped a malformed line among events: {"type":"agent_\n'


def test_damaged_gzip_is_one_line_and_status_66(agentpipe: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(TOUR.read_bytes())[:1000])
    done = agentpipe("stats", str(path))
    assert done.returncode == 66
    assert done.stderr.count(b"\n") == 1


def test_text_that_no_agent_wrote_is_a_run_without_figures(agentpipe: Run, tmp_path: Path) -> None:
    path = tmp_path / "build.log"
    path.write_bytes(b"one\ntwo\n")
    (run,) = report(agentpipe, str(path))["runs"]
    assert (run["run_id"], run["agent"], run["events"], run["kinds"]) == (str(path), "plain", 4, [])


def test_a_line_over_the_limit_is_counted(agentpipe: Run) -> None:
    long = b'{"type":"x","run_id":"r","text":"%s"}\n' % (b"y" * (17 * 1024 * 1024))
    found = report(agentpipe, input=b"one\n" + long + b"two\n")
    assert found["input"]["oversize"] == 1
    assert found["totals"]["raw"] == 1


def on_a_terminal(environment: Mapping[str, str], *args: str, **env: str) -> bytes:
    leader, follower = pty.openpty()
    try:
        done = subprocess.run(
            ["agentpipe", "stats", *args], stdin=subprocess.DEVNULL, stdout=follower, timeout=60,
            env={**environment, "TERM": "xterm", **env},
        )  # fmt: skip
        assert done.returncode == 0
        return os.read(leader, 65536)
    finally:
        os.close(leader)
        os.close(follower)


def test_colour_is_for_a_terminal_that_wants_it(agentpipe: Run, environment: dict[str, str]) -> None:
    environment.pop("NO_COLOR", None)
    assert b"\x1b[1m" in on_a_terminal(environment, str(TOUR))
    assert b"\x1b" not in on_a_terminal(environment, str(TOUR), NO_COLOR="1")
    assert b"\x1b" not in on_a_terminal(environment, str(TOUR), TERM="dumb")
    assert b"\x1b" not in agentpipe("stats", str(TOUR)).stdout


def test_a_terminal_without_a_log_is_told_what_is_needed(environment: Mapping[str, str]) -> None:
    leader, follower = pty.openpty()
    try:
        done = subprocess.run(["agentpipe", "stats"], stdin=follower, capture_output=True, env=environment, timeout=60)
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == 2
    assert b"| agentpipe stats" in done.stderr


def wait_until_read(process: "subprocess.Popen[bytes]") -> None:
    """Until the process waits in poll for more: its start-up is over."""
    deadline = time.monotonic() + 30
    while b"poll" not in Path(f"/proc/{process.pid}/wchan").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("signals", "status"), [((signal.SIGINT,), 0), ((signal.SIGINT,) * 2, 130), ((signal.SIGTERM,), 143)]
)
def test_a_signal_shows_what_was_read(environment: Mapping[str, str], signals: tuple[int, ...], status: int) -> None:
    process = subprocess.Popen(
        ["agentpipe", "stats", "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(TOUR.read_bytes()[:100_000])
        process.stdin.flush()
        for number in signals:
            wait_until_read(process)
            process.send_signal(number)
        if status == 0:
            process.stdin.close()
        found = json.loads(process.stdout.read())
        assert process.wait(30) == (-(status - 128) if status else 0)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    assert found["totals"]["events"] > 10


def test_a_reader_that_is_gone_ends_it_silently(environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", f"agentpipe stats {TOUR} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, env=environment, timeout=60,
    )  # fmt: skip
    assert done.stderr == b""
    assert done.stdout.strip() in (b"0", b"141")


def test_memory_does_not_grow_with_the_log(environment: Mapping[str, str], tmp_path: Path) -> None:
    line = (
        b'{"type":"agent_tool_result","run_id":"r%d","agent_id":"a","sequence":%d,"timestamp":"2026-11-20T07:00:00.000Z",'
        b'"payload":{"tool_use_id":"t","name":"Bash","kind":"execute","ok":true,"duration_ms":%d}}\n'
    )
    small, large = tmp_path / "small.ndjson", tmp_path / "large.ndjson"
    for path, count in ((small, 2_000), (large, 200_000)):
        path.write_bytes(b"".join(line % (n % 7, n // 7 + 1, n % 5000) for n in range(count)))
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    peaks = [
        int(
            subprocess.check_output(
                ["python", "-c", code, "agentpipe", "stats", str(path)], env=environment, timeout=120
            )
        )
        for path in (small, large)
    ]
    assert peaks[1] < peaks[0] + 8 * 1024, peaks
