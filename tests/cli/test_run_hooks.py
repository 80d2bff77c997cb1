"""``agentpipe run`` over an agent that calls ``agentpipe hook``: the sender is neither ended nor waited for."""

import json
import os
import shlex
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.hooking import NOWHERE, SESSION, Hooks, call, hooking, payload, result
from tests.cli.running import alive, background, events_of, number_in
from tests.hub_process import PATIENCE_S, HubProcess, until

if TYPE_CHECKING:
    from subprocess import Popen


@pytest.fixture
def hub(environment: Mapping[str, str], tmp_path: Path) -> Iterator[HubProcess]:
    running = HubProcess(tmp_path, environment)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def silent() -> Iterator[str]:
    """A hub that accepts, by its system's hand, and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}"


def told(hub: HubProcess) -> list[str]:
    """The types of the events that the hub has of the hooks' run; none when it does not know it."""
    run = f"{SESSION}/hooks"
    known = {each["run_id"] for each in hub.json("api/runs")["runs"]}
    return [event["type"] for event in hub.events(run.replace("/", "%2F"))] if run in known else []


def agent(hooks: Hooks, *payloads: bytes, then: str = "exit 0") -> list[str]:
    """An agent that calls the hook once for each of *payloads*, and then does *then*."""
    hook = f"agentpipe hook --url {hooks.url}"
    calls = [f"printf %s {shlex.quote(each.decode())} | {hook}" for each in payloads]
    return ["--", "sh", "-c", "\n".join([*calls, then])]


def spared(hooks: Hooks, process: "Popen[bytes]", status: int) -> tuple[int, bytes]:
    """Let ``run`` end; the sender, which has outlived it, and what ``run`` said on stderr."""
    output, errors = process.communicate(timeout=PATIENCE_S)
    sender = hooks.sender()
    assert process.returncode == status, errors
    assert events_of(output)[-1]["type"] == "process_exited"
    assert sender is not None
    assert alive(sender)
    return sender, errors


@pytest.mark.parametrize("where", ["up", "away", "silent"])
def test_a_sender_that_goes_on_is_no_news(
    environment: Mapping[str, str], hub: HubProcess, silent: str, where: str
) -> None:
    """The session is not over, so the sender stays for a minute: whoever waited for it would be seen to."""
    hooked = {**environment, "AGENTPIPE_TOKEN_FILE": str(hub.token_file)}
    url = {"up": f"ws://127.0.0.1:{hub.port}", "away": NOWHERE, "silent": silent}[where]
    with hooking(hooked, url) as hooks, background(hooks.environment) as start:
        process = start(*agent(hooks, call(1), result(1)))
        sender, errors = spared(hooks, process, 0)
        assert errors == b""
        if where == "up":
            until(lambda: told(hub) == ["run_started", "agent_tool_call", "agent_tool_result"], "what was hooked")
            hooks.run(payload("SessionEnd", reason="other"))
            until(lambda: told(hub)[-1] == "run_completed", "the end, from the same sender")
            until(lambda: not alive(sender), "the sender's own end")
        else:
            assert [line["tool_use_id"] for line in hooks.kept()] == ["t1", "t1"]


def test_a_session_that_ends_with_the_agent_is_told_to_its_end(environment: Mapping[str, str], hub: HubProcess) -> None:
    hooked = {**environment, "AGENTPIPE_TOKEN_FILE": str(hub.token_file)}
    with hooking(hooked, f"ws://127.0.0.1:{hub.port}") as hooks, background(hooks.environment) as start:
        ends = payload("SessionEnd", reason="other")
        _, errors = start(*agent(hooks, call(1), result(1), ends)).communicate(timeout=PATIENCE_S)
        assert errors == b""
        until(lambda: told(hub)[-1:] == ["run_completed"], "the end")


def test_a_sender_that_has_not_begun_is_one_all_the_same(environment: Mapping[str, str]) -> None:
    """One that follows another too soon waits for two seconds, as a copy of the hook that started it."""
    with hooking(environment) as hooks, background(hooks.environment) as start:
        lock = hooks.folder / f"{SESSION}.lock"
        again = agent(hooks, call(2))[-1]
        kill = f"while ! [ -s {lock} ]; do sleep 0.02; done; kill -9 $(cat {lock}); flock {lock} true"
        _, errors = spared(hooks, start(*agent(hooks, call(1), then=f"{kill}; {again}")), 0)
        assert errors == b""


@pytest.mark.parametrize("end", ["exits", "SIGTERM", "SIGINT"])
def test_all_others_are_ended_and_counted_without_it(environment: Mapping[str, str], tmp_path: Path, end: str) -> None:
    """However it ends; among the others one that only looks like it from afar."""
    leave = f"setsid sh -c 'echo $$ > {tmp_path}/one; exec sleep 600' > /dev/null 2>&1 &"
    disguise = f"import os, time; open('{tmp_path}/two', 'w').write(str(os.getpid())); time.sleep(600)"
    words = shlex.join([sys.executable, "-c", disguise, "agentpipe", "hook", "--send", SESSION])
    pids = [tmp_path / "one", tmp_path / "two"]
    waits = " ".join(f"while ! [ -s {path} ]; do sleep 0.02; done;" for path in pids)
    then = (
        f"{leave} setsid {words} > /dev/null 2>&1 & {waits} echo ready; {'exit 0' if end == 'exits' else 'sleep 600'}"
    )
    with hooking(environment) as hooks, background(hooks.environment) as start:
        process = start("--grace", "1s", *agent(hooks, call(1), then=then))
        left = [until(number_in(path), "a process in hiding") for path in pids]
        until(lambda: hooks.sender() is not None, "the sender")
        if end.startswith("SIG"):
            process.send_signal(signal.Signals[end])
        _, errors = spared(hooks, process, 0 if end == "exits" else -signal.Signals[end])
        assert [alive(pid) for pid in left] == [False, False]
        assert (b"left 2 processes running" in errors) == (end == "exits")


def test_a_worker_that_is_killed_costs_no_sender(environment: Mapping[str, str], tmp_path: Path) -> None:
    with hooking(environment) as hooks, background(hooks.environment) as start:
        then = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/agent; exec sleep 600"
        process = start(*agent(hooks, call(1), then=then))
        left = until(number_in(tmp_path / "agent"), "the agent")
        sender = until(hooks.sender, "the sender")
        worker = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        os.kill(worker, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 128 + signal.SIGKILL
        assert (alive(left), alive(sender)) == (False, True)
        assert json.loads(hooks.spool().read_bytes().splitlines()[1])["tool_use_id"] == "t1"
