"""The recorded samples tell the story that they were recorded from, whole, at a pace for people, and of no machine."""

import getpass
import itertools
import json
import re
import socket
import subprocess
from pathlib import Path

import pytest

from agentpipe.event import Event, peek, seconds
from tests.agents.checks import check_frame, check_tools, of_type, whole
from tests.agents.scenarios import SCENARIOS
from tests.agents.session import AGENTPIPE, events

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
TOUR = SCENARIOS["tour"](Path("/home/dev/shop"))


def parsed(name: str, *through: str) -> bytes:
    """What parse makes of a sample, read directly or by way of another command."""
    command = f"{' '.join(through) or 'cat'} {SAMPLES / name} | {AGENTPIPE} parse"
    shell = ["bash", "-o", "pipefail", "-c", command]
    return subprocess.run(shell, stdout=subprocess.PIPE, check=True, timeout=60).stdout


@pytest.mark.parametrize("name", ["tour.ndjson", "tour.stream.jsonl"])
def test_the_sample_tells_the_story(name: str) -> None:
    found = events(parsed(name))
    ended = check_frame(found)
    check_tools(found, TOUR)
    assert whole(found, "agent_output", of_helpers=False) == TOUR.said()
    assert ended["cost_usd"] > 0
    assert ended["usage"]["output_tokens"] > 0
    assert of_type(found, "progress_update")[-1]["percent"] == 100
    assert len(of_type(found, "file_changed")) == 2


def test_the_json_form_has_the_result() -> None:
    ended = check_frame(events(parsed("tour.json")))
    assert ended["result"] == TOUR.said()[-1]


def test_replay_changes_nothing() -> None:
    assert parsed("tour.ndjson", AGENTPIPE, "replay", "--speed", "max") == parsed("tour.ndjson")


def test_an_interruption_is_a_cancelled_run_when_it_is_the_last_word() -> None:
    """The CLI ends with status 0 then, and now and then without its result line."""
    lines = (SAMPLES / "tour.stream.jsonl").read_bytes().splitlines(keepends=True)
    said = {"role": "user", "content": [{"type": "text", "text": "[Request interrupted by user for tool use]"}]}
    stop = json.dumps({"type": "user", "message": said, "parent_tool_use_id": None}).encode() + b"\n"
    cut_short = ending(b"".join([*lines[:20], stop]))
    assert cut_short.type == "run_cancelled"
    assert cut_short.payload["incomplete"] == "no result from the agent"
    assert ending(b"".join([*lines[:20], stop, *lines[20:]])).type == "run_completed"
    assert ending(b"".join(lines[:20])).type == "run_completed"


def ending(log: bytes) -> Event:
    """The last event that parse makes of *log*."""
    parse = subprocess.run([AGENTPIPE, "parse"], input=log, stdout=subprocess.PIPE, check=True, timeout=60)
    return events(parse.stdout)[-1]


def test_the_same_log_gives_the_same_events_at_any_pace() -> None:
    """What is published twice adds nothing only if event ids do not depend on when the lines were read."""
    often = [AGENTPIPE, "parse", "--progress-interval", "20ms"]
    log = SAMPLES / "tour.ndjson"
    at_once = subprocess.run(often, input=log.read_bytes(), stdout=subprocess.PIPE, check=True, timeout=60).stdout
    replay = f"{AGENTPIPE} replay --speed 40 {log} | {' '.join(often)}"
    paced = subprocess.run(["bash", "-o", "pipefail", "-c", replay], stdout=subprocess.PIPE, check=True, timeout=60)
    assert paced.stdout == at_once


def test_the_sample_plays_for_about_half_a_minute_without_long_silences() -> None:
    moments = [seconds(peek(line).timestamp or "") for line in (SAMPLES / "tour.ndjson").read_bytes().splitlines()]
    assert moments == sorted(moments)
    assert 25 <= moments[-1] - moments[0] <= 40
    assert max(after - before for before, after in itertools.pairwise(moments)) < 6


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("tour*")), ids=lambda path: path.name)
def test_the_sample_is_small_and_names_no_machine(path: Path) -> None:
    text = path.read_text()
    assert len(text) < 300_000
    for line in text.splitlines():
        json.loads(line)
    for name in ("sk-dummy", "127.0.0.1", "/tmp/", "/root", ".make/agents", socket.gethostname()):
        assert not re.search(rf"{re.escape(name)}\b", text), name
    assert set(re.findall(r"/home/(\w+)", text)) <= {"dev"}
    if getpass.getuser() not in {"root", "dev"}:
        assert getpass.getuser() not in text
