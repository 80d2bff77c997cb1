"""The real CLI through ``agentpipe run | agentpipe parse``: the events are what the mocked model said and did."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentpipe.event import Event
from tests.agents.checks import check_frame, check_pieces, check_tools, of_type, summary, whole
from tests.agents.claude import CLAUDE
from tests.agents.scenarios import Scenario, Text, Thinking
from tests.agents.session import AGENTPIPE, PARSE, Session, events


def facts(found: list[Event]) -> dict[str, Any]:
    """What is known of the agent: with the start, or right after it when the agent took more than a second to begin."""
    late = [update["changed"] for update in of_type(found, "agent_state_update") if update["state"] == "initialized"]
    return found[0].payload | (late[0] if late else {})


def result_line(raw: bytes) -> dict[str, Any]:
    """The CLI's own account, the last line of its output."""
    found: dict[str, Any] = json.loads(raw.splitlines()[-1])
    assert found["type"] == "result"
    return found


def test_hello(played: Callable[..., Any]) -> None:
    session, done, raw = played("hello")
    found = events(done.output)
    assert done.statuses == [0, 0]
    ended = check_frame(found)
    assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()
    assert ended["exit_code"] == 0
    assert ended["cost_usd"] == result_line(raw)["total_cost_usd"] > 0
    assert found[0].payload["agent"] == "claude"
    assert facts(found)["agent_version"] == CLAUDE.version
    assert facts(found)["session_id"] == result_line(raw)["session_id"]


@pytest.mark.parametrize(
    "options", [[], ["--include-partial-messages", "--forward-subagent-text"]], ids=["whole", "live"]
)
def test_tour(played: Callable[..., Any], options: list[str]) -> None:
    """The whole of the sample's story, as plain messages and with every piece of text as it comes."""
    session, done, raw = played("tour", *options)
    scenario: Scenario = session.scenario
    found = events(done.output)
    assert done.statuses == [0, 0]
    ended = check_frame(found)
    check_tools(found, scenario)
    assert whole(found, "agent_output", of_helpers=False) == scenario.said()
    assert whole(found, "agent_thinking", of_helpers=False) == [
        block.text for turn in scenario.main for block in turn.blocks if isinstance(block, Thinking)
    ]
    if options:
        helper_texts = [block.text for turn in scenario.helper for block in turn.blocks if isinstance(block, Text)]
        assert whole(found, "agent_output", of_helpers=True) == helper_texts
        assert len([text for text in of_type(found, "agent_output") if not text["final"]]) > len(scenario.said())
        check_pieces(found)
    account = result_line(raw)
    assert ended["cost_usd"] == account["total_cost_usd"] > 0
    assert ended["usage"]["output_tokens"] >= account["usage"]["output_tokens"] > 0
    assert {payload["path"].rpartition("shop/")[2] for payload in of_type(found, "file_changed")} == {
        "discount.py",
        "tests/test_discount.py",
    }
    progress = of_type(found, "progress_update")
    assert (progress[-1]["done"], progress[-1]["total"], progress[-1]["percent"]) == (4, 4, 100)


def test_the_tee_file_holds_the_clis_bytes(play: Callable[..., Session]) -> None:
    """Every line stands in the file as in run's events, in the same order; parsed alone it tells the same session."""
    session = play("helpers")
    tee = session.sandbox.home / "tee.jsonl"
    through_run = session.pipe(session.run("--tee", str(tee)))
    raw = tee.read_bytes()
    outputs = [event for event in events(through_run.output) if event.type == "process_output"]
    carried = [event.line for event in outputs if event.payload["stream"] == "stdout"]
    lines = raw.splitlines(keepends=True)
    assert len(lines) == len(carried)
    assert all(line.endswith(b"\n") for line in lines)
    for line, event in zip(lines, carried, strict=True):
        assert line.rstrip(b"\n") in event

    tee_alone = session.pipe(["cat", str(tee)], PARSE)
    (session.sandbox.home / "run.ndjson").write_bytes(through_run.output)
    of_run = session.pipe(["cat", str(session.sandbox.home / "run.ndjson")], PARSE)
    assert summary(events(tee_alone.output)) == summary(events(of_run.output))
    check_frame(events(tee_alone.output))
    check_tools(events(tee_alone.output), session.scenario)


def test_parallel_calls_are_paired_with_their_own_results(played: Callable[..., Any]) -> None:
    session, done, _raw = played("parallel")
    found = events(done.output)
    check_frame(found)
    check_tools(found, session.scenario)
    said = {payload["tool_use_id"]: payload["input"]["command"] for payload in of_type(found, "agent_tool_call")}
    for result in of_type(found, "agent_tool_result"):
        assert result["content"].strip() in said[result["tool_use_id"]]
    assert [result["content"].strip() for result in of_type(found, "agent_tool_result")] == ["second", "third", "first"]


def test_a_failed_tool_is_not_a_failed_run(played: Callable[..., Any]) -> None:
    session, done, _raw = played("failing")
    found = events(done.output)
    check_frame(found)
    check_tools(found, session.scenario)
    by_name = {result["name"]: result for result in of_type(found, "agent_tool_result")}
    assert by_name["Bash"]["exit_code"] == 1
    assert "on its way" in by_name["Bash"]["content"]
    assert {error["rank"] for error in of_type(found, "error")} <= {"tool"}


def test_helpers_in_the_background_make_several_turns_of_one_run(played: Callable[..., Any]) -> None:
    """The CLI reports several inits and results then; the run begins once and ends once, with the last cost."""
    session, done, raw = played("helpers")
    found = events(done.output)
    ended = check_frame(found)
    check_tools(found, session.scenario)
    results = [json.loads(line) for line in raw.splitlines() if json.loads(line)["type"] == "result"]
    assert len(results) > 1
    assert len(of_type(found, "run_iteration")) == len(results)
    assert ended["cost_usd"] == results[-1]["total_cost_usd"]
    parents = {event.envelope["parent_id"] for event in found if "parent_id" in event.envelope}
    agents = {payload["tool_use_id"] for payload in of_type(found, "agent_tool_call") if payload["name"] == "Agent"}
    assert parents == agents


def test_an_overload_is_a_warning_and_the_run_completes(played: Callable[..., Any]) -> None:
    session, done, _raw = played("overloaded")
    found = events(done.output)
    assert done.statuses == [0, 0]
    check_frame(found)
    warnings = of_type(found, "error")
    assert [warning["rank"] for warning in warnings] == ["warning"]
    assert warnings[0]["attempt"] == 1
    assert warnings[0]["retry_in_ms"] > 0
    assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()


def test_an_api_that_never_answers_fails_the_run(played: Callable[..., Any]) -> None:
    """The CLI calls that "success" with is_error; its status is 1, and so is that of run."""
    _session, done, _raw = played("unavailable")
    found = events(done.output)
    assert done.statuses == [1, 0]
    ended = check_frame(found, "run_failed")
    assert ended["exit_code"] == 1
    assert "529" in ended["error"]
    assert [error["rank"] for error in of_type(found, "error")][:2] == ["warning", "warning"]


def test_lines_of_hundreds_of_kilobytes(played: Callable[..., Any]) -> None:
    session, done, raw = played("big")
    found = events(done.output)
    assert done.statuses == [0, 0]
    check_frame(found)
    check_tools(found, session.scenario)
    assert len(raw) > 2_500_000
    assert whole(found, "agent_output", of_helpers=False)[-1] == "W" * 70_000


def test_the_json_form_tells_the_result(play: Callable[..., Session]) -> None:
    """One object with the final text and the cost, no calls: all that there is comes through."""
    session = play("failing")
    command = [AGENTPIPE, "run", "--", *session.sandbox.command(session.scenario, "json")]
    done = session.pipe(command, PARSE)
    found = events(done.output)
    assert done.statuses == [0, 0]
    ended = check_frame(found)
    assert ended["cost_usd"] > 0
    assert ended["result"] == session.scenario.said()[-1]
