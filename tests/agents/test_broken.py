"""The checks bite: with any adapter broken on purpose, what the real agents' tests compare is no longer the same."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentpipe.event import Event
from tests.agents import test_codex, test_recordings, test_small
from tests.agents.checks import check_frame, check_ids, of_type, whole
from tests.agents.record_versions import TARGET
from tests.agents.sabotage import FAULTS
from tests.agents.session import PARSE, PATIENCE_S, Session, events

pytestmark = pytest.mark.timeout(900)  # the first test of each agent waits for the install

ROOT = Path(__file__).parents[2]

#: The scenario with most of what can go wrong, by agent.
STORIES = {"claude": "tour", "codex": "tools", "gemini": "tools", "opencode": "tools", "qwen": "tools"}


def check(agent: str, session: Session, found: list[Event]) -> None:
    """What the agent's own tests compare with the script."""
    if agent == "codex":
        test_codex.check_story(found, session)
    elif agent == "claude":
        check_frame(found)
        check_ids(found, session.mock)
        assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()
        assert len(of_type(found, "file_changed")) == 2
    else:
        test_small.check_story(found, session, agent)


def parsed(command: list[str], log: Path) -> list[Event]:
    with log.open("rb") as lines:
        done = subprocess.run(command, cwd=ROOT, stdin=lines, stdout=subprocess.PIPE, timeout=PATIENCE_S)
    assert done.returncode == 0
    return events(done.stdout)


def test_the_list_of_stories_is_complete() -> None:
    from tests.agents.agents import AGENTS

    assert STORIES.keys() == AGENTS.keys()


@pytest.mark.parametrize("agent", sorted(STORIES))
def test_a_broken_adapter_is_noticed(played: Callable[..., Any], agent: str) -> None:
    session, _done, raw = played(STORIES[agent], of=agent)
    log = session.sandbox.home / "log"
    log.write_bytes(raw)
    check(agent, session, parsed(PARSE, log))

    def noticed(fault: str) -> bool:
        found = parsed([sys.executable, "-m", "tests.agents.sabotage", agent, fault], log)
        try:
            check(agent, session, found)
        except (AssertionError, KeyError, StopIteration):
            return True
        return False

    with ThreadPoolExecutor(2) as pool:
        bitten = dict(zip(FAULTS, pool.map(noticed, FAULTS), strict=True))
    assert [fault for fault, bites in bitten.items() if not bites] == []


@pytest.mark.parametrize("teller", ["hooks", "transcript"])
def test_a_broken_teller_is_noticed(teller: str) -> None:
    """The same of what Claude Code leaves beside its output, by the checks of the recordings."""
    log = TARGET / "claude-2.1.328" / f"tools.{teller}.jsonl"

    def agrees(command: list[str]) -> bool:
        found = parsed(command, log)
        try:
            test_recordings.test_it_begins_and_ends_once(log, found)
            test_recordings.test_calls_and_results_are_as_many_as_in_the_log(log, found)
            test_recordings.test_it_tells_what_the_scenario_says(log, found)
        except (AssertionError, KeyError, StopIteration):
            return False
        return True

    assert agrees(PARSE)
    faults = ["calls-are-lost", "inputs-are-lost", "results-are-lost", "texts-are-wrong", "unknown"]
    sabotage = [sys.executable, "-m", "tests.agents.sabotage", f"claude-{teller}"]
    assert [fault for fault in faults if agrees([*sabotage, fault])] == []
