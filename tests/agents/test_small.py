"""The real Gemini CLI, OpenCode and Qwen Code through ``agentpipe run | agentpipe parse``: one story, told alike.

The same act is the same event whatever the agent; what differs between them stands in `HABITS`.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from agentpipe.event import Event
from tests.agents import mock_chat, mock_gemini
from tests.agents.checks import check_frame, check_ids, check_pieces, check_whole_content, of_type, whole
from tests.agents.endings import agent_process, begun, ended, told
from tests.agents.mock_model import Answer, MockModel
from tests.agents.scenarios import Tool
from tests.agents.session import Session, events
from tests.agents.small import LINES

pytestmark = pytest.mark.timeout(900)  # the first test of each agent waits for the install


def of_gemini(answer: Answer) -> tuple[int, int, int]:
    """Input without the cache, cache, output as the mock claims them."""
    claimed = mock_gemini.usage(answer)
    cached = claimed["cachedContentTokenCount"]
    return claimed["promptTokenCount"] - cached, cached, claimed["candidatesTokenCount"]


def of_chat(answer: Answer) -> tuple[int, int, int]:
    claimed = mock_chat.usage(answer)
    cached = claimed["prompt_tokens_details"]["cached_tokens"]
    return claimed["prompt_tokens"] - cached, cached, claimed["completion_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What is this agent's own.

    *named* is its id of a call; *claimed* the tokens of an answer, *counted* the scripts whose answers it counts;
    *shown* is what it prints before a tool has ended; *refused* its status when the API refuses for good.
    """

    named: Callable[[str, Tool], str] = lambda identity, _: identity
    claimed: Callable[[Answer], tuple[int, int, int]] = of_chat
    counted: frozenset[str] = frozenset({"main"})
    shown: bytes = b'"tool_use"'
    exit_codes: bool = False
    refused: int | None = None


HABITS = {
    "gemini": Habits(
        named=lambda identity, tool: f"{tool.name}__{identity}",
        claimed=of_gemini,
        counted=frozenset({"main", "side"}),
        refused=144,
    ),
    "opencode": Habits(shown=b'"text"', exit_codes=True),
    "qwen": Habits(refused=0),
}


@pytest.fixture(params=sorted(HABITS))
def agent(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def through(played: Callable[..., Any], agent: str) -> Callable[..., tuple[Session, list[Event], dict[str, Any]]]:
    """Plays a scenario to its end: the session, its events, the last one's payload."""

    def play(name: str, status: int = 0, ending: str = "run_completed") -> Any:
        session, done, _raw = played(name, of=agent)
        found = events(done.output)
        assert done.statuses == [status, 0], done.stderr
        assert session.mock.strays == []
        assert found[0].payload["agent"] == agent
        return session, found, check_frame(found, ending)

    return play


def check_usage(ended: dict[str, Any], mock: MockModel, habits: Habits) -> None:
    """The tokens are those of all answers that the agent counts, input and cache apart."""
    claimed = [habits.claimed(answer) for answer in mock.answers if answer.script in habits.counted]
    usage = ended["usage"]
    assert (usage["input_tokens"], usage["cache_read_tokens"], usage["output_tokens"]) == tuple(
        map(sum, zip(*claimed, strict=True))
    )


def test_hello(through: Callable[..., Any], agent: str) -> None:
    session, found, ending = through("hello")
    assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()
    check_usage(ending, session.mock, HABITS[agent])


def test_tools_edits_and_failures(through: Callable[..., Any], agent: str) -> None:
    session, found, ending = through("tools")
    check_story(found, session, agent)
    check_usage(ending, session.mock, HABITS[agent])


def check_story(found: list[Event], session: Session, agent: str) -> None:
    """The story of the scenario ``tools``."""
    check_frame(found)
    check_ids(found, session.mock, named=HABITS[agent].named)
    check_pieces(found)
    assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()
    notes = str(session.workspace / "notes.txt")
    facts = ("path", "change", "added", "removed")
    changed = [tuple(event.get(fact) for fact in facts) for event in of_type(found, "file_changed")]
    assert changed == [(notes, "created", 3, 0), (notes, "modified", 1, 1)]
    kinds = [call["kind"] for call in of_type(found, "agent_tool_call")]
    assert sorted(kinds) == sorted(["read", "edit", "edit", "execute", "execute", "execute", "read"])
    check_results(found, HABITS[agent])


def check_results(found: list[Event], habits: Habits) -> None:
    """The results are what the tools gave."""
    results = {result["tool_use_id"]: result for result in of_type(found, "agent_tool_result")}
    commands = {
        call["input"]["command"]: results[call["tool_use_id"]]
        for call in of_type(found, "agent_tool_call")
        if call["kind"] == "execute"
    }
    assert {command: result["content"].strip() for command, result in commands.items()} == {
        "echo first": "first",
        "echo second": "second",
        "cat missing.txt; exit 3": "cat: missing.txt: No such file or directory",
    }
    if habits.exit_codes:
        assert [commands[command]["exit_code"] for command in sorted(commands)] == [3, 0, 0]
    failed = [result for result in results.values() if not result["ok"] and result["kind"] == "read"]
    assert len(failed) == 1
    assert "not found" in failed[0]["content"].lower()
    assert {error["rank"] for error in of_type(found, "error")} == {"tool"}


def test_a_result_of_3_mb_travels_whole_beside_its_event(played: Callable[..., Any]) -> None:
    """Gemini CLI alone passes on all that a command printed."""
    session, done, _raw = played("big", of="gemini")
    found = events(done.output)
    check_frame(found)
    printed = next(identity for identity, tool in session.mock.calls().items() if "seq" in tool.input["command"])
    given = "\n".join(f"{number:099d}" for number in range(1, LINES + 1))
    assert len(given) == 2_999_999
    check_whole_content(found, f"run_shell_command__{printed}", given)


def test_an_api_that_fails_at_first_is_no_failure(through: Callable[..., Any]) -> None:
    """None of them says that it asked again."""
    session, found, _ending = through("overloaded")
    assert [request.status for request in session.mock.requests if request.script == "main"][:2] in [
        [500, 200],
        [503, 200],
    ]
    assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()
    assert of_type(found, "error") == []


@pytest.mark.parametrize("agent", [name for name, habits in HABITS.items() if habits.refused is not None])
def test_an_api_that_refuses_fails_the_run(through: Callable[..., Any], agent: str) -> None:
    """Qwen Code's status is 0, and it calls that a success."""
    _session, found, ending = through("refused", HABITS[agent].refused, "run_failed")
    assert "400" in ending["error"]
    assert [turn["ok"] for turn in of_type(found, "run_iteration")] == [False]
    assert "agent" in {error["rank"] for error in of_type(found, "error")}


def test_a_signal_to_run_ends_the_agent_and_its_command(play: Callable[..., Session], agent: str) -> None:
    session = play("slow", of=agent)
    process = begun(session, HABITS[agent].shown)
    process.send_signal(signal.SIGINT)
    assert ended(session, process)[0] == 130
    assert told(session)[-1].type == "run_cancelled"


def test_a_group_that_is_interrupted_did_not_complete(play: Callable[..., Session], agent: str) -> None:
    """As Ctrl-C does it; the status of Gemini CLI is 0 then."""
    session = play("slow", of=agent)
    process = begun(session, HABITS[agent].shown)
    os.killpg(os.getpgid(agent_process(session)), signal.SIGINT)
    ended(session, process)
    ending = told(session)[-1]
    assert ending.type != "run_completed" or ending.payload["incomplete"]
