"""The real CLI through the pipe of five processes into a real hub: what the agent did is what the hub's log holds."""

import json
import os
import shlex
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentpipe.event import decode
from tests.agents.session import AGENTPIPE, PATIENCE_S, Session, events, wait_until
from tests.agents.test_claude import check_frame, check_tools, whole

#: Every piece of text as it comes, which is what fills a pipe.
LIVE = ["--include-partial-messages", "--forward-subagent-text"]


@dataclass(frozen=True, slots=True)
class Hub:
    """A running hub: its *address* and the file that its *token* is in."""

    address: str
    token: Path

    def stages(self) -> list[list[str]]:
        """The four commands after ``run``; the last one prints what it has sent, the same bytes."""
        publish = [AGENTPIPE, "publish", self.address.replace("http", "ws"), "--token-file", str(self.token)]
        return [[AGENTPIPE, "parse"], [AGENTPIPE, "throttle"], [AGENTPIPE, "buffer"], [*publish, "--passthrough"]]

    def get(self, path: str) -> Any:
        """What the hub's API says."""
        headers = {"Authorization": f"Bearer {self.token.read_text().strip()}"}
        request = urllib.request.Request(self.address + path, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
            return json.load(reply)

    def stored(self, run_id: str) -> list[dict[str, Any]]:
        """Every event of a run that the log holds, page by page."""
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            page = self.get(f"/api/runs/{run_id}/events?after={after}&limit=50")
            found += page["events"]
            after = page["next"]
            if not page["more"]:
                return found

    def types(self, run_id: str) -> list[str]:
        """The types of a run's stored events; none before the first has come."""
        known = {run["run_id"] for run in self.get("/api/runs")["runs"]}
        return [event["type"] for event in self.stored(run_id)] if run_id in known else []


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    files = {name: folder / name for name in ("store", "token", "ready")}
    options = [
        f"--{'ready-file' if name == 'ready' else name}={path}" for name, path in files.items() if name != "token"
    ]
    command = [AGENTPIPE, "serve", "--port=0", f"--token-file={files['token']}", *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    ready = files["ready"]
    wait_until(lambda: process.poll() is not None or (ready.exists() and ready.read_text()), "the hub listens")
    assert process.poll() is None, (folder / "log").read_text()
    yield Hub(ready.read_text().split("#")[0].strip().rstrip("/"), files["token"])
    process.terminate()
    process.wait(PATIENCE_S)


def check_stored(hub: Hub, run_id: str, session: Session, sent: bytes) -> None:
    """The log holds what was sent, all of it, in order and once; and that is what the model did."""
    assert hub.stored(run_id) == [decode(line) for line in sent.splitlines()]
    found = events(sent)
    check_frame(found)
    check_tools(found, session.scenario)
    assert whole(found, "agent_output", of_helpers=False) == session.scenario.said()


def test_a_tour_arrives_whole_and_in_order(play: Callable[..., Session], hub: Hub) -> None:
    session = play("tour")
    done = session.pipe(session.run("--run-id", "tour", claude=LIVE), *hub.stages())
    assert done.statuses == [0] * 5, done.stderr
    check_stored(hub, "tour", session, done.output)
    shown = hub.get("/api/runs/tour")
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
        return session.pipe(session.run("--run-id", f"many-{name}", claude=LIVE), *hub.stages()).output

    with ThreadPoolExecutor() as pool:
        sent = dict(zip(names, pool.map(play_to_the_end, names), strict=True))
    for name in names:
        found = events(sent[name])
        assert hub.stored(f"many-{name}") == [decode(line) for line in sent[name].splitlines()]
        check_frame(found)
        check_tools(found, sessions[name].scenario)


def test_a_call_is_seen_while_its_tool_runs_and_a_cancelled_run_ends_in_the_hub(
    play: Callable[..., Session], hub: Hub
) -> None:
    session = play("slow")
    stages = session.chain(session.run("--run-id", "cancelled"), *hub.stages())
    wait_until(lambda: "agent_tool_call" in hub.types("cancelled"), "the hub has the call")
    assert "agent_tool_result" not in hub.types("cancelled")
    assert hub.get("/api/runs/cancelled")["state"] == "running"
    stages[0].send_signal(signal.SIGINT)
    sent, _ = stages[-1].communicate(timeout=PATIENCE_S)
    assert [stage.wait(PATIENCE_S) for stage in stages] == [-signal.SIGINT, 0, 0, 0, 0]
    assert hub.stored("cancelled") == [decode(line) for line in sent.splitlines()]
    assert hub.get("/api/runs/cancelled")["state"] == "cancelled"
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
    groups = {os.getpgid(number) for number, command in session.descendants().items() if "agentpipe run" in command}
    assert len(groups) == 1
    assert groups != {os.getpgrp()}
    os.killpg(groups.pop(), signal.SIGINT)
    shell.wait(PATIENCE_S)
    wait_until(lambda: not session.descendants(), "nothing of the session is left")
    assert hub.stored("keyboard") == [decode(line) for line in sent.read_bytes().splitlines()]
    assert hub.get("/api/runs/keyboard")["state"] == "cancelled"
    assert session.stderr_path.read_text() == ""
