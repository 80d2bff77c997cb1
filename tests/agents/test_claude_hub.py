"""The real CLI through the pipe of five processes into a real hub: what the agent did is what the hub's log holds."""

import os
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentpipe.event import decode
from tests.agents.checks import check_frame, check_tools, whole
from tests.agents.session import AGENTPIPE, PATIENCE_S, Session, events, wait_until
from tests.hub_process import HubProcess

#: Every piece of text as it comes, which is what fills a pipe.
LIVE = ["--include-partial-messages", "--forward-subagent-text"]


class Hub(HubProcess):
    """A running hub, as the whole pipe and its API see it."""

    def stages(self) -> list[list[str]]:
        """The four commands after ``run``; the last one prints what it has sent, the same bytes."""
        address = f"ws://127.0.0.1:{self.port}"
        publish = [AGENTPIPE, "publish", address, "--token-file", str(self.token_file), "--passthrough"]
        return [[AGENTPIPE, "parse"], [AGENTPIPE, "throttle"], [AGENTPIPE, "buffer"], publish]

    def types(self, run_id: str) -> list[str]:
        """The types of a run's stored events; none before the first has come."""
        known = {run["run_id"] for run in self.json("api/runs")["runs"]}
        return [event["type"] for event in self.events(run_id, limit=50)] if run_id in known else []


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    running = Hub(tmp_path_factory.mktemp("hub"), os.environ)
    running.start()
    yield running
    running.stop()


def check_stored(hub: Hub, run_id: str, session: Session, sent: bytes) -> None:
    """The log holds what was sent, all of it, in order and once; and that is what the model did."""
    assert hub.events(run_id) == [decode(line) for line in sent.splitlines()]
    found = events(sent)
    check_frame(found)
    check_tools(found, session.scenario)
    assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()


def test_a_tour_arrives_whole_and_in_order(play: Callable[..., Session], hub: Hub) -> None:
    session = play("tour")
    done = session.pipe(session.run("--run-id", "tour", agent=LIVE), *hub.stages())
    assert done.statuses == [0] * 5, done.stderr
    check_stored(hub, "tour", session, done.output)
    shown = hub.json("api/runs/tour")
    assert shown["state"] == "completed"
    assert shown["tool_calls"] == len(session.scenario.calls())
    assert shown["tool_failures"] == sum(not call.ok for call in session.scenario.calls())
    assert shown["files_changed"] == 2
    assert shown["cost_usd"] == events(done.output)[-1].payload["cost_usd"] > 0


def test_agents_at_the_same_time_are_kept_apart(play: Callable[..., Session], hub: Hub) -> None:
    names = ["failing", "helpers", "parallel", "hello"]
    sessions = {name: play(name) for name in names}

    def play_to_the_end(name: str) -> bytes:
        session = sessions[name]
        return session.pipe(session.run("--run-id", f"many-{name}", agent=LIVE), *hub.stages()).output

    with ThreadPoolExecutor() as pool:
        sent = dict(zip(names, pool.map(play_to_the_end, names), strict=True))
    for name in names:
        found = events(sent[name])
        assert hub.events(f"many-{name}") == [decode(line) for line in sent[name].splitlines()]
        check_frame(found)
        check_tools(found, sessions[name].scenario)


def test_a_call_is_seen_while_its_tool_runs_and_a_cancelled_run_ends_in_the_hub(
    play: Callable[..., Session], hub: Hub
) -> None:
    session = play("slow")
    stages = session.chain(session.run("--run-id", "cancelled"), *hub.stages())
    wait_until(lambda: "agent_tool_call" in hub.types("cancelled"), "the hub has the call")
    assert "agent_tool_result" not in hub.types("cancelled")
    assert hub.json("api/runs/cancelled")["state"] == "running"
    stages[0].send_signal(signal.SIGINT)
    sent, _ = stages[-1].communicate(timeout=PATIENCE_S)
    assert [stage.wait(PATIENCE_S) for stage in stages] == [-signal.SIGINT, 0, 0, 0, 0]
    assert hub.events("cancelled") == [decode(line) for line in sent.splitlines()]
    assert hub.json("api/runs/cancelled")["state"] == "cancelled"
    assert session.descendants() == {}


def test_an_interrupt_from_the_keyboard_reaches_every_stage_and_loses_nothing(
    play: Callable[..., Session], hub: Hub
) -> None:
    """A terminal sends it to the whole pipe at once: the filters wait for the end of what the agent still says."""
    session = play("slow")
    sent = session.sandbox.home / "sent.ndjson"
    line = " | ".join(shlex.join(command) for command in [session.run("--run-id", "keyboard"), *hub.stages()])
    shell = session.start(["setsid", "--wait", "bash", "-c", f"set -o pipefail; {line} > {shlex.quote(str(sent))}"])
    wait_until(lambda: "agent_tool_call" in hub.types("keyboard"), "the hub has the call")
    groups = {os.getpgid(number) for number, command in session.descendants().items() if "agentpipe parse" in command}
    assert len(groups) == 1
    assert groups != {os.getpgrp()}
    os.killpg(groups.pop(), signal.SIGINT)
    shell.wait(PATIENCE_S)
    wait_until(lambda: not session.descendants(), "nothing of the session is left")
    assert hub.events("keyboard") == [decode(line) for line in sent.read_bytes().splitlines()]
    assert hub.json("api/runs/keyboard")["state"] == "cancelled"
    assert re.fullmatch(r"agentpipe: parse: detected \w+\n", session.stderr_path.read_text())
