"""The real Claude Code: limits, permissions, pictures, long contents, and what it is told on stdin."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.agents.checks import check_frame, check_ids, check_whole_content, of_type, whole
from tests.agents.claude import SERVER_OPTIONS
from tests.agents.mcp_server import lines
from tests.agents.session import PARSE, Session, events

#: The CLI's own, where the mock says everything to the main agent and nothing on the side.
_USAGE = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
}


def test_calls_have_the_models_ids_and_tokens_are_the_models(played: Callable[..., Any]) -> None:
    session, done, raw = played("parallel")
    found = events(done.output)
    ended = check_frame(found)
    check_ids(found, session.mock)
    assert session.mock.strays == []
    in_order = [call["tool_use_id"] for call in of_type(found, "agent_tool_call")]
    assert in_order == list(session.mock.calls())
    account = json.loads(raw.splitlines()[-1])["usage"]
    assert {ours: account[theirs] for theirs, ours in _USAGE.items()} == ended["usage"]
    assert ended["usage"]["input_tokens"] == 40 + 47  # as the mock counts


def test_a_run_out_of_turns_has_failed(played: Callable[..., Any]) -> None:
    session, done, _raw = played("endless", "--max-turns", "2")
    found = events(done.output)
    assert done.statuses == [1, 0]
    ended = check_frame(found, "run_failed")
    check_ids(found, session.mock)
    assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()[:2]
    assert "maximum number of turns" in ended["error"]
    assert [(error["rank"], error["code"]) for error in of_type(found, "error")] == [("turn", "error_max_turns")]


def test_a_call_without_permission_fails_and_the_run_does_not(played: Callable[..., Any]) -> None:
    session, done, _raw = played("forbidden", "--permission-mode", "default")
    found = events(done.output)
    assert done.statuses == [0, 0]
    check_frame(found)
    check_ids(found, session.mock)
    assert not (session.workspace / "made.txt").exists()
    assert [error["rank"] for error in of_type(found, "error")] == ["warning", "tool"]
    assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()


def test_a_picture_travels_whole_beside_its_result(played: Callable[..., Any]) -> None:
    session, done, _raw = played("pictured")
    found = events(done.output)
    check_frame(found)
    check_ids(found, session.mock)
    for identity, tool in session.mock.calls().items():
        picture = (session.workspace / tool.input["file_path"]).read_bytes()
        check_whole_content(found, identity, base64.b64encode(picture).decode(), "image/png")
        result = next(each for each in of_type(found, "agent_tool_result") if each["tool_use_id"] == identity)
        assert "image/png" in result["content"]
        assert len(result["content"]) < 100


def test_what_a_servers_tool_gave_travels_whole(played: Callable[..., Any]) -> None:
    session, done, _raw = played("served", *SERVER_OPTIONS)
    found = events(done.output)
    check_frame(found)
    check_ids(found, session.mock)
    contents = [result["content"] for result in of_type(found, "agent_tool_result")]
    assert contents[:2] == ["echo: hi from the model", "failed on purpose"]
    check_whole_content(found, list(session.mock.calls())[-1], lines(4_500))


def test_lines_of_three_megabytes(played: Callable[..., Any]) -> None:
    session, done, raw = played("written")
    found = events(done.output)
    assert done.statuses == [0, 0]
    check_frame(found)
    content = next(iter(session.mock.calls().values())).input["content"]
    assert (session.workspace / "out.txt").read_text() == content
    assert sorted(map(len, raw.splitlines()))[-2] > len(content) > 3_000_000
    (changed,) = of_type(found, "file_changed")
    assert (changed["change"], changed["added"], changed["removed"]) == ("created", 25_000, 0)
    assert len(done.output) < 2 * len(raw)


def told_on_stdin(session: Session, said: str, *options: str) -> Any:
    """The scenario, played with what is *said* on the CLI's stdin and no prompt on its command line."""
    command = session.sandbox.command(replace(session.scenario, prompt=""), options=options)
    run = [*session.run("--stdin", "inherit")[:4], "--", *command]
    return session.pipe(["printf", "%s", said], run, PARSE)


def test_the_prompt_may_come_on_stdin(play: Callable[..., Session]) -> None:
    session = play("hello")
    done = told_on_stdin(session, session.scenario.prompt)
    found = events(done.output)
    assert done.statuses == [0, 0, 0], done.stderr
    check_frame(found)
    assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()
    assert session.mock.answers[0].begun.endswith(session.scenario.prompt)


def test_a_conversation_on_stdin_is_one_run_of_several_turns(play: Callable[..., Session]) -> None:
    """What is said while it answers it takes together."""
    session = play("talked")
    asked = ["First question", "Second question"]
    said = [{"type": "user", "message": {"role": "user", "content": text}} for text in asked]
    spoken = "".join(f"{json.dumps(line)}\n" for line in said)
    done = told_on_stdin(session, spoken, "--input-format", "stream-json")
    found = events(done.output)
    assert done.statuses == [0, 0, 0], done.stderr
    check_frame(found)
    answers = session.scenario.said()[: len(session.mock.answers)]
    assert [turn["result"] for turn in of_type(found, "run_iteration")] == answers
    assert whole(found, "agent_output", of_helpers=False) == answers
