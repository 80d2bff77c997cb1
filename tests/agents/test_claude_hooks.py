"""The real CLI with our hook installed: what the hooks tell is what the stream tells, and the agent notices nothing."""

import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from agentpipe.event import Event, encode, peek
from tests.agents.checks import check_frame, of_type, whole
from tests.agents.session import AGENTPIPE, PARSE, Session, events, wait_until
from tests.hub_process import HubProcess


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    running = HubProcess(tmp_path_factory.mktemp("hub"), os.environ)
    running.start()
    yield running
    running.stop()


def install(session: Session, hub: HubProcess, *options: str) -> None:
    """Put the hook into the settings of the session's own account, as a user would."""
    where = ["--url", f"ws://127.0.0.1:{hub.port}", "--token-file", str(hub.token_file)]
    process = session.start([AGENTPIPE, "hook", "--install", *where, *options])
    assert process.wait(60) == 0, session.stderr_path.read_text()
    session.stderr_path.write_text("")


def told(hub: HubProcess, run_id: str) -> list[Event]:
    """The events of a run that has ended in the hub."""

    def ended() -> bool:
        states = {run["run_id"]: run["state"] for run in hub.json("api/runs")["runs"]}
        return states.get(run_id) not in (None, "running")

    wait_until(ended, f"{run_id} has ended in the hub")
    return [peek(encode(event)) for event in hub.events(run_id.replace("/", "%2F"))]


def session_of(found: list[Event]) -> str:
    """The session's id: told with the start, or right after it when the agent took more than a second to begin."""
    late = [update["changed"] for update in of_type(found, "agent_state_update") if update["state"] == "initialized"]
    return str((found[0].payload | (late[0] if late else {}))["session_id"])


def end_sender(session: Session, session_id: str) -> None:
    """End the process that waits for the hub that is away: it would go on waiting for a minute."""
    lock = session.sandbox.home / ".local/state/agentpipe/hooks" / f"{session_id}.lock"
    os.kill(int(lock.read_text()), signal.SIGTERM)

    def free() -> bool:
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
        return True

    wait_until(free, "the sender has ended")


def acts(found: list[Event]) -> dict[str, tuple[str, str, str, bool]]:
    """What was done: each call by its id, with its name, kind, input, and whether it succeeded."""
    results = {payload["tool_use_id"]: payload["ok"] for payload in of_type(found, "agent_tool_result")}
    return {
        each["tool_use_id"]: (
            each["name"], each["kind"], json.dumps(each["input"], sort_keys=True), results[each["tool_use_id"]]
        )
        for each in of_type(found, "agent_tool_call")
    }  # fmt: skip


@pytest.mark.parametrize("scenario", ["tour", "failing", "parallel"])
def test_hooks_tell_what_the_stream_tells(play: Callable[..., Session], hub: HubProcess, scenario: str) -> None:
    """Under ``run``, which ends what the agent leaves behind: the sender brings the session to its end all the same."""
    session = play(scenario)
    install(session, hub, "--events", "all")
    done = session.pipe(session.run(), PARSE)
    assert done.statuses == [0, 0], done.stderr
    stream = events(done.output)
    check_frame(stream)
    hooks = told(hub, f"{session_of(stream)}/hooks")
    ended = check_frame(hooks)
    assert acts(hooks) == acts(stream)
    assert ended["result"] == stream[-1].payload["result"]
    assert whole(hooks, "agent_output", of_helpers=False) == session.scenario.said()
    files = [
        {(change["path"], change["change"]) for change in of_type(each, "file_changed")} for each in (hooks, stream)
    ]
    assert files[0] == files[1]
    assert "hook" not in done.stderr


def test_a_hub_that_is_away_changes_nothing_for_the_agent(play: Callable[..., Session], hub: HubProcess) -> None:
    session = play("tour")
    where = ["--url", "ws://127.0.0.1:9", "--events", "all"]
    process = session.start([AGENTPIPE, "hook", "--install", *where])
    assert process.wait(60) == 0
    session.stderr_path.write_text("")
    done = session.pipe(session.run(), PARSE)
    assert done.statuses == [0, 0], done.stderr
    stream = events(done.output)
    assert of_type(stream, "error") == [each for each in of_type(stream, "error") if each["rank"] == "tool"]
    end_sender(session, session_of(stream))
    send = [AGENTPIPE, "hook", "--send", "all", "--linger", "5s", "--token-file", str(hub.token_file)]
    sent = session.pipe([*send, "--url", f"ws://127.0.0.1:{hub.port}"])
    assert sent.statuses == [0], sent.stderr
    assert acts(told(hub, f"{session_of(stream)}/hooks")) == acts(stream)
