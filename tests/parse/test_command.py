"""``agentpipe parse`` as a command: real pipes, real statuses."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.parse.lines import SESSION, call, encoded, init, result, returned, text

if TYPE_CHECKING:
    import subprocess

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]

SAMPLE = encoded([init(), text("hello"), call("Bash", {"command": "ls"}), returned("a"), result()])


def test_a_log_becomes_events(agentpipe: Run) -> None:
    done = agentpipe("parse", "--stats", input=SAMPLE)
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["type"] for event in events] == [
        "run_started", "agent_output", "agent_tool_call", "agent_tool_result", "usage_update", "run_iteration",
        "run_completed",
    ]  # fmt: skip
    stats = json.loads(done.stderr.decode().splitlines()[-1].removeprefix("agentpipe: "))
    assert stats["in"] == stats["sources"] + stats["ignored"] + stats["raw"] + stats["passed_through"] == 5
    assert stats["formats"] == {SESSION: "claude"}


def test_options_reach_the_stage(agentpipe: Run) -> None:
    done = agentpipe(
        "parse", "--run-id", "r", "--agent", "a", "--work-id", "w", "--max-content", "1KiB", "--no-output",
        "--progress-interval", "none", "--format", "claude", input=SAMPLE,
    )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(event["run_id"], event["agent_id"], event["work_id"]) for event in events} == {("r", "a", "w")}
    assert "agent_output" not in {event["type"] for event in events}


def test_strict_ends_with_status_65(agentpipe: Run) -> None:
    done = agentpipe("parse", "--strict", input=SAMPLE + b'{"type":"assist\n')
    assert done.returncode == 65
    assert b"stdin:6:9: " in done.stderr
    assert done.stdout.splitlines()[-1].startswith(b'{"type":"run_completed"')  # what came before is told


@pytest.mark.parametrize(
    ("bad", "column"),
    [(b'{"a":1,}', 8), ('{"é":1,}'.encode(), 9), (b'{"a":"\xff"', 7), (b"{nonsense}", 2)],
)
def test_strict_names_the_line_and_the_byte_blank_lines_and_all(agentpipe: Run, bad: bytes, column: int) -> None:
    done = agentpipe("parse", "--strict", input=b"\n\n" + SAMPLE + b"\n" + bad + b"\n")
    assert done.returncode == 65
    assert f"stdin:9:{column}: ".encode() in done.stderr


def test_an_unknown_format_is_a_usage_error(agentpipe: Run) -> None:
    assert agentpipe("parse", "--format", "nonsense", input=b"").returncode == 2


def test_nothing_in_nothing_out(agentpipe: Run) -> None:
    done = agentpipe("parse", input=b"")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_events_of_run_go_through_the_pipe(agentpipe: Run) -> None:
    ran = agentpipe("run", "--", "printf", "one\\ntwo\\n")
    assert ran.returncode == 0
    events = [json.loads(line) for line in agentpipe("parse", input=ran.stdout).stdout.splitlines()]
    assert [event["type"] for event in events] == ["run_started", "agent_output", "agent_output", "run_completed"]
    assert events[-1]["payload"]["exit_code"] == 0
    assert {event["agent_id"] for event in events} == {"printf"}
