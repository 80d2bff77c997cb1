"""Recorded outputs of several versions: each is recognised, begins and ends once, and tells what its scenario says."""

import json
import shlex
import subprocess
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from agentpipe.event import TERMINAL_TYPES, Event
from tests.agents.agents import AGENTS
from tests.agents.checks import check_frame, check_tools, is_call_of, of_type, whole
from tests.agents.record_versions import RECORDINGS, TARGET
from tests.agents.scenarios import Scenario
from tests.agents.session import PARSE, PATIENCE_S, events

LOGS = sorted(TARGET.glob("*/*.jsonl"))

#: How a scenario ends.
ENDINGS = {"refused": "run_failed", "unavailable": "run_failed"}

#: The workspace of all recordings.
SHOP = Path("/home/dev/shop")


def parts(log: Path) -> tuple[str, str, str]:
    """The agent, the scenario, and who tells it (nothing: the output)."""
    name, _, teller = log.name.removesuffix(".jsonl").partition(".")
    return log.parent.name.rpartition("-")[0], name, teller


def format_of(log: Path) -> str:
    agent, _, teller = parts(log)
    return f"{agent}-{teller}" if teller else agent


def scenario_of(log: Path) -> Scenario:
    agent, name, _ = parts(log)
    return AGENTS[agent].scenarios[name](SHOP)


@pytest.fixture(scope="module", params=LOGS, ids=lambda log: f"{log.parent.name}/{log.name}")
def log(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def parsed(log: Path) -> "subprocess.CompletedProcess[bytes]":
    with log.open("rb") as lines:
        return subprocess.run(PARSE, stdin=lines, capture_output=True, check=True, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def found(parsed: "subprocess.CompletedProcess[bytes]") -> list[Event]:
    return events(parsed.stdout)


def test_the_recordings_are_those_of_the_list() -> None:
    listed = {f"{package.name}-{package.version}/{name}" for package, names in RECORDINGS for name in names}
    assert {f"{log.parent.name}/{parts(log)[1]}" for log in LOGS} == listed
    assert {f"{meta.parent.name}/{meta.stem}" for meta in TARGET.glob("*/*.json")} == listed


def test_it_is_recognised(log: Path, parsed: "subprocess.CompletedProcess[bytes]") -> None:
    assert parsed.stderr.decode() == f"agentpipe: parse: detected {format_of(log)}\n"


def test_it_begins_and_ends_once(log: Path, found: list[Event]) -> None:
    """Only a command's status shows that older versions failed; their session files and hooks do not tell."""
    _, name, teller = parts(log)
    check_frame(found, found[-1].type)
    assert found[-1].type in TERMINAL_TYPES
    if not teller:
        assert found[-1].type == ENDINGS.get(name, "run_completed")


def test_calls_and_results_are_as_many_as_in_the_log(log: Path, found: list[Event]) -> None:
    counts = import_module(f"tests.parse.counts.{format_of(log).replace('-', '_')}")
    told = len(of_type(found, "agent_tool_call")), len(of_type(found, "agent_tool_result"))
    assert told == counts.counted(log.read_bytes())


def test_it_tells_what_the_scenario_says(log: Path, found: list[Event]) -> None:
    agent, name, teller = parts(log)
    scenario = scenario_of(log)
    if name in ENDINGS:
        assert not of_type(found, "agent_tool_call")
        assert "never said" not in log.read_text()
        return
    if agent == "codex":
        check_commands(found, scenario)
    elif teller != "hooks":
        check_tools(found, scenario)
    else:
        check_hooked(found, scenario, log)
    said = [text.strip() for text in whole(found, "agent_output", of_helpers=False)]
    if teller == "hooks":  # they show the last text, if any
        assert said in ([], scenario.said()[-1:], scenario.said())
    else:
        assert said == scenario.said()


def check_hooked(found: list[Event], scenario: Scenario, log: Path) -> None:
    """Before 2.1, a reading that failed had no hooks."""
    old = not log.parent.name.startswith("claude-2.1")
    expected = [tool for tool in scenario.calls() if tool.ok or tool.name != "Read" or not old]
    calls = of_type(found, "agent_tool_call")
    assert len(calls) == len(expected)
    assert all(any(is_call_of(call, tool) for call in calls) for tool in expected)


def check_commands(found: list[Event], scenario: Scenario) -> None:
    """Codex: the commands in order, with what they said, and plans as progress."""
    commands = [
        shlex.split(call["input"]["command"])[-1]
        for call in of_type(found, "agent_tool_call")
        if call["kind"] == "execute"
    ]
    assert commands == [tool.input["command"] for tool in scenario.calls() if tool.name == "shell"]
    plans = [tool.input["plan"] for tool in scenario.calls() if tool.name == "update_plan"]
    steps = [[item["text"] for item in update["items"]] for update in of_type(found, "progress_update")]
    assert steps[: len(plans)] == [[item["step"] for item in plan] for plan in plans]


def test_they_are_small_and_name_no_machine() -> None:
    """The recorder looks for the names of its own user and host."""
    files = [path for path in TARGET.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_500_000
    for path in files:
        text = path.read_text()
        assert len(text) < 60_000, path
        if path.suffix != ".md":
            for name in ("sk-dummy", "127.0.0.1", "/tmp/", "/root", ".make"):
                assert name not in text, (path, name)


def test_no_prompt_of_a_maker_is_in_them() -> None:
    """Whatever is long was written here: long texts of others are prompts and descriptions of tools."""
    for log in LOGS:
        known = json.dumps([scenario_of(log).main, scenario_of(log).files], default=str)
        for text in texts_of(log):
            assert len(text) < 300 or text in known, (log, text)


def texts_of(log: Path) -> Iterable[str]:
    waiting: list[Any] = [json.loads(line) for line in log.read_text().split("\n") if line.strip()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, (dict, list)):
            waiting += value.values() if isinstance(value, dict) else value
