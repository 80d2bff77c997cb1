"""The real Codex CLI through ``agentpipe run | agentpipe parse``: the events are what the mocked model said and did.

It gives its items numbers of its own and not the ids of the model's calls, so calls are told apart by what they do.
"""

import json
import os
import re
import shlex
import signal
from collections.abc import Callable
from typing import Any

import pytest

from agentpipe.event import Event
from tests.agents.checks import check_frame, check_whole_content, of_type, whole
from tests.agents.codex import server_options
from tests.agents.endings import agent_process, begun, ended, told
from tests.agents.mock_model import MockModel
from tests.agents.mock_responses import usage
from tests.agents.scenarios import Thinking, Tool
from tests.agents.session import Session, events

pytestmark = pytest.mark.timeout(900)  # the first test waits for the install

_CHANGES = {"Add": "created", "Update": "modified", "Delete": "deleted"}


def check_calls(found: list[Event], mock: MockModel) -> None:
    """Every call of the model was told once, as what it is, with its result; nothing else was."""
    calls = {payload["tool_use_id"]: payload for payload in of_type(found, "agent_tool_call")}
    results = {payload["tool_use_id"]: payload for payload in of_type(found, "agent_tool_result")}
    assert len(of_type(found, "agent_tool_call")) == len(calls) == len(mock.calls())
    assert results.keys() == calls.keys()
    told = sorted((said(call), results[identity]["ok"]) for identity, call in calls.items())
    assert told == sorted((scripted(tool), tool.ok) for tool in mock.calls().values())
    for identity, call in calls.items():
        result = results[identity]
        assert call["title"]
        assert (result["name"], result["kind"]) == (call["name"], call["kind"])
        assert ("exit_code" in result) == (call["kind"] == "execute")


def said(call: dict[str, Any]) -> tuple[str, str]:
    """What a call does, by its event: its kind, and the command, the files or the input."""
    given = call["input"]
    match call["kind"]:
        case "execute":
            return "execute", shlex.split(given["command"])[-1]
        case "edit":
            return "edit", " ".join(sorted(change["path"].rpartition("/")[2] for change in given["changes"]))
        case kind:
            return kind, f"{call['name'].rpartition('__')[2]} {json.dumps(given)}"


def scripted(tool: Tool) -> tuple[str, str]:
    """The same of a call as the model made it."""
    match tool.name:
        case "shell":
            return "execute", tool.input["command"]
        case "apply_patch":
            return "edit", " ".join(sorted(path for _, path in patched(tool)))
        case name:
            return "other", f"{name} {json.dumps(tool.input)}"


def patched(tool: Tool) -> list[tuple[str, str]]:
    """What a patch does to which files."""
    return re.findall(r"^\*\*\* (Add|Update|Delete) File: (\S+)$", tool.input["patch"], re.MULTILINE)


def check_usage(ended: dict[str, Any], mock: MockModel) -> None:
    """The tokens are those of all answers, input and cache apart."""
    claimed = [usage(answer) for answer in mock.answers if answer.script == "main"]
    cached = sum(each["input_tokens_details"]["cached_tokens"] for each in claimed)
    assert ended["usage"]["input_tokens"] == sum(each["input_tokens"] for each in claimed) - cached
    assert ended["usage"]["cache_read_tokens"] == cached
    assert ended["usage"]["output_tokens"] == sum(each["output_tokens"] for each in claimed)
    assert "cost_usd" not in ended


def check_texts(found: list[Event], session: Session) -> None:
    assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()
    assert session.mock.strays == []


@pytest.fixture
def codex(played: Callable[..., Any]) -> Callable[..., tuple[Session, list[Event], dict[str, Any], bytes]]:
    """Plays a scenario to its end: the session, its events, the last one's payload, the CLI's bytes."""

    def through(name: str, *options: str, ending: str = "run_completed") -> Any:
        session, done, raw = played(name, *options, of="codex")
        found = events(done.output)
        assert done.statuses == [0 if ending == "run_completed" else 1, 0], done.stderr
        return session, found, check_frame(found, ending), raw

    return through


def test_tools_edits_and_a_failing_command(codex: Callable[..., Any]) -> None:
    session, found, ending, raw = codex("tools")
    check_story(found, session)
    check_usage(ending, session.mock)
    assert found[0].payload["agent"] == "codex"
    assert found[0].payload["session_id"] == json.loads(raw.splitlines()[0])["thread_id"]
    assert (session.workspace / "notes.txt").read_text() == "alpha\nBETA\ngamma\n"


def check_story(found: list[Event], session: Session) -> None:
    """The story of the scenario ``tools``."""
    ending = check_frame(found)
    check_calls(found, session.mock)
    check_texts(found, session)
    thoughts = [block.text for turn in session.scenario.main for block in turn.blocks if isinstance(block, Thinking)]
    assert whole(found, "agent_thinking", of_helpers=False) == thoughts

    changed = [(event["path"], event["change"]) for event in of_type(found, "file_changed")]
    patches = [tool for tool in session.mock.calls().values() if tool.name == "apply_patch"]
    assert changed == [
        (str(session.workspace / path), _CHANGES[what]) for tool in patches for what, path in patched(tool)
    ]
    failed = [result for result in of_type(found, "agent_tool_result") if not result["ok"]]
    assert [result["exit_code"] for result in failed] == [3]
    assert "missing.txt" in failed[0]["content"]
    assert {error["rank"] for error in of_type(found, "error")} <= {"tool"}
    assert ending["result"] == session.scenario.said()[-1]


def test_parallel_commands_are_paired_with_their_own_results(codex: Callable[..., Any]) -> None:
    session, found, ending, _raw = codex("parallel")
    check_calls(found, session.mock)
    check_texts(found, session)
    check_usage(ending, session.mock)
    commands = {call["tool_use_id"]: call["input"]["command"] for call in of_type(found, "agent_tool_call")}
    for result in of_type(found, "agent_tool_result"):
        assert result["content"].strip() in commands[result["tool_use_id"]]
    assert {result["content"] for result in of_type(found, "agent_tool_result")} == {"first\n", "second\n", "third\n"}


def test_tools_of_a_server(codex: Callable[..., Any]) -> None:
    session, found, _ending, _raw = codex("served", *server_options())
    check_calls(found, session.mock)
    check_texts(found, session)
    contents = [(result["content"], result["ok"]) for result in of_type(found, "agent_tool_result")]
    assert contents == [("echo: hi from the model", True), ("failed on purpose", False)]


def test_an_api_that_fails_at_first_is_a_warning(codex: Callable[..., Any]) -> None:
    session, found, ending, _raw = codex("overloaded")
    check_texts(found, session)
    check_usage(ending, session.mock)
    assert [request.status for request in session.mock.requests] == [500, 500, 200]
    assert [(error["rank"], error["attempt"]) for error in of_type(found, "error")] == [("warning", 1)]


def test_an_api_that_never_answers_fails_the_run(codex: Callable[..., Any]) -> None:
    session, found, ending, _raw = codex("unavailable", ending="run_failed")
    assert {request.status for request in session.mock.requests} == {500}
    assert whole(found, "agent_output", of_helpers=False) == []
    ranks = [error["rank"] for error in of_type(found, "error")]
    assert ranks[0] == "warning"
    assert set(ranks[1:]) & {"agent", "turn"}
    assert [turn["ok"] for turn in of_type(found, "run_iteration")] == [False]
    assert ending["exit_code"] == 1
    assert ending["error"]


def test_a_big_output_travels_whole_beside_its_event(codex: Callable[..., Any]) -> None:
    """The CLI itself keeps a megabyte of three; all of that is there."""
    session, found, _ending, raw = codex("big")
    check_calls(found, session.mock)
    items = [line["item"] for line in map(json.loads, raw.splitlines()) if line["type"] == "item.completed"]
    kept = next(item["aggregated_output"] for item in items if item["type"] == "command_execution")
    assert len(kept) > 1_000_000
    assert kept.startswith("z" * 99 + "\n")
    check_whole_content(found, of_type(found, "agent_tool_result")[0]["tool_use_id"], kept)


@pytest.mark.parametrize(("sent", "expected"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_to_run_ends_the_agent_and_its_command(play: Callable[..., Session], sent: str, expected: int) -> None:
    session = play("slow", of="codex")
    process = begun(session, b'"item.started"')
    process.send_signal(signal.Signals[sent])
    assert ended(session, process)[0] == expected
    check_cut_short(told(session), "run_cancelled")


def test_an_agent_interrupted_by_others_did_not_complete(play: Callable[..., Session]) -> None:
    """It ends with status 1 and without a word about its turn."""
    session = play("slow", of="codex")
    process = begun(session, b'"item.started"')
    os.kill(agent_process(session), signal.SIGINT)
    assert ended(session, process)[0] == 1
    check_cut_short(told(session), "run_failed")


def check_cut_short(found: list[Event], ending: str) -> None:
    """The command was called and never ended; what is missing is said."""
    assert found[-1].type == ending
    assert found[-1].payload["incomplete"]
    assert len(of_type(found, "agent_tool_call")) == 1
    assert of_type(found, "agent_tool_result") == []
