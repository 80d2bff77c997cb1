"""One session of the real Claude Code, told by its stream, its hooks and its session files: the same story three times.

In a hub they are one session with three tellers, and telling it again adds nothing.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentpipe.event import Event, decode
from tests.agents.checks import check_frame, check_ids, of_type, whole
from tests.agents.claude import hook_settings
from tests.agents.session import AGENTPIPE, PARSE, Session, events
from tests.hub_process import HubProcess

TELLERS = ["stream", "hooks", "transcript"]


class Told:
    """What the tellers left: for each its log, and what parse makes of it."""

    def __init__(self, session: Session, logs: dict[str, bytes]) -> None:
        self.session = session
        self.logs = logs
        self.parsed = {name: session.pipe(["cat", str(_kept(session, name, log))], PARSE) for name, log in logs.items()}
        self.found = {name: events(done.output) for name, done in self.parsed.items()}

    def run_id(self, teller: str) -> str:
        own = json.loads(self.logs["stream"].splitlines()[-1])["session_id"]
        return own if teller == "stream" else f"{own}/{teller}"


def _kept(session: Session, name: str, log: bytes) -> Path:
    path = session.sandbox.home / f"{name}.jsonl"
    path.write_bytes(log)
    return path


@pytest.fixture(scope="module")
def told(play_throughout: Callable[..., Session]) -> Told:
    """The tour, played once with hooks."""
    session = play_throughout("tour")
    home, tee = session.sandbox.home, session.sandbox.home / "tee"
    options = ["--settings", str(hook_settings(home)), "--forward-subagent-text"]
    done = session.pipe(session.run("--tee", str(tee), agent=options))
    assert done.statuses == [0], done.stderr
    projects = home / "config" / "projects"
    files = [*projects.glob("*/*.jsonl"), *projects.glob("*/*/subagents/*.jsonl")]
    assert len(files) == 2  # the session's and its sub-agent's
    transcript = b"".join(path.read_bytes() for path in files)
    return Told(
        session, {"stream": tee.read_bytes(), "hooks": (home / "hooked").read_bytes(), "transcript": transcript}
    )


def calls(found: list[Event]) -> dict[str, Any]:
    """By id: name, kind, input, whether a sub-agent made it, and how it ended."""
    results = {result["tool_use_id"]: result for result in of_type(found, "agent_tool_result")}
    return {
        event.payload["tool_use_id"]: (
            event.payload["name"],
            event.payload["kind"],
            event.payload["input"],
            event.payload["title"],
            event.envelope.get("parent_id"),
            results[event.payload["tool_use_id"]]["ok"],
            results[event.payload["tool_use_id"]].get("exit_code"),
        )
        for event in found
        if event.type == "agent_tool_call"
    }


def outputs(found: list[Event]) -> dict[str, str]:
    """What the commands and the searches gave: the other tools' results each teller words for itself."""
    kinds = {"execute", "search"}
    given = of_type(found, "agent_tool_result")
    return {result["tool_use_id"]: result["content"].strip() for result in given if result["kind"] in kinds}


@pytest.mark.parametrize("teller", TELLERS)
def test_each_tells_what_the_model_did(told: Told, teller: str) -> None:
    """By itself, as one run with an id that says who tells it."""
    found = told.found[teller]
    ended = check_frame(found)
    assert found[0].run_id == told.run_id(teller)
    assert found[0].payload["agent"] == "claude"
    assert found[0].payload["session_id"] == told.run_id("stream")
    check_ids(found, told.session.mock)
    assert whole(found, "agent_output", of_helpers=False) == told.session.scenario.said()
    assert ended["result"] == told.session.scenario.said()[-1]


@pytest.mark.parametrize("teller", TELLERS[1:])
def test_they_tell_the_same(told: Told, teller: str) -> None:
    stream, other = told.found["stream"], told.found[teller]
    assert calls(other) == calls(stream)
    assert outputs(other) == outputs(stream)
    assert files(other) == files(stream)
    assert [event.type for event in other if event.type.startswith("run_")] == [
        event.type for event in stream if event.type.startswith("run_")
    ]


def files(found: list[Event]) -> list[dict[str, Any]]:
    """What became of which file, with the lines that came and went."""
    assert len(of_type(found, "file_changed")) == 2
    return of_type(found, "file_changed")


def test_the_helpers_last_word_is_told_by_all(told: Told) -> None:
    """Its other texts do not show in hooks."""
    said = [whole(found, "agent_output", of_helpers=True)[-1] for found in told.found.values()]
    assert len(set(said)) == 1


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    running = HubProcess(tmp_path_factory.mktemp("hub"), os.environ)
    running.start()
    yield running
    running.stop()


def publish(told: Told, hub: HubProcess, teller: str) -> None:
    """Parse the teller's log once more and publish it."""
    address = f"ws://127.0.0.1:{hub.port}"
    log = ["cat", str(told.session.sandbox.home / f"{teller}.jsonl")]
    done = told.session.pipe(log, PARSE, [AGENTPIPE, "publish", address, "--token-file", str(hub.token_file)])
    assert done.statuses == [0, 0, 0], done.stderr


def stored(told: Told, hub: HubProcess) -> dict[str, list[dict[str, Any]]]:
    return {teller: hub.events(told.run_id(teller)) for teller in TELLERS}


def undated(event: dict[str, Any]) -> dict[str, Any]:
    """Without its times, which are those of the reading where the CLI tells none."""
    timeless = {key: value for key, value in event["payload"].items() if key not in {"duration_ms", "elapsed_s"}}
    return {key: value for key, value in event.items() if key != "timestamp"} | {"payload": timeless}


def test_in_a_hub_it_is_one_session_with_three_tellers(told: Told, hub: HubProcess) -> None:
    for teller in TELLERS:
        publish(told, hub, teller)
    runs = {run["run_id"]: run for run in hub.json("api/runs")["runs"]}
    assert sorted(runs) == sorted(map(told.run_id, TELLERS))
    assert {run["session_id"] for run in runs.values()} == {told.run_id("stream")}
    assert {run["agent_id"] for run in runs.values()} == {"claude"}
    assert {run["state"] for run in runs.values()} == {"completed"}
    assert {run["tool_calls"] for run in runs.values()} == {len(told.session.scenario.calls())}
    before = stored(told, hub)
    for teller in TELLERS:
        parsed = [decode(line) for line in told.parsed[teller].output.splitlines()]
        assert list(map(undated, before[teller])) == list(map(undated, parsed))

    for teller in reversed(TELLERS):
        publish(told, hub, teller)
    assert stored(told, hub) == before
    assert len(hub.json("api/runs")["runs"]) == len(TELLERS)
