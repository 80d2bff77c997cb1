"""The ways in which a run of the real CLI ends: whoever is killed or stops reading, nothing is lost, no one is left."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.agents.endings import agent_process, begun, ended, saved, status, told
from tests.agents.session import AGENTPIPE, PARSE, PATIENCE_S, Session, events, wait_until

#: What shows that a tool was called.
CALL = b'"type":"tool_use"'

#: Longer than the 10 s for which the CLI waits for its reader before it exits 0 with a cut line.
STALL_S = 20.0

#: Three megabytes as fast as it goes, then a last line and the end: as agents do that do not wait at all.
_BURST = "import os\nfor _ in range(30000): os.write(1, b'x' * 99 + b'\\n')\nos.write(1, b'the end\\n')"


@dataclass(frozen=True, slots=True)
class Stalled:
    """Two runs whose output nobody has read since *began* (monotonic seconds): the CLI's and the burst's."""

    session: Session
    of_claude: subprocess.Popen[bytes]
    of_burst: subprocess.Popen[bytes]
    began: float


@pytest.fixture(scope="module", autouse=True)
def stalled(play_throughout: Callable[..., Session]) -> Stalled:
    """Begins before the first test of this module, so that nothing waits for it but the last."""
    session, stand_in = play_throughout("big"), play_throughout("hello")
    of_claude = session.start(session.run("--tee", str(session.sandbox.home / "tee")))
    of_burst = stand_in.start([AGENTPIPE, "run", "--", sys.executable, "-c", _BURST])
    return Stalled(session, of_claude, of_burst, time.monotonic())


@pytest.mark.parametrize(("sent", "expected"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129), ("SIGQUIT", 131)])
def test_a_signal_to_run_ends_the_agent_and_its_tools(play: Callable[..., Session], sent: str, expected: int) -> None:
    session = play("slow")
    process = begun(session, CALL)
    process.send_signal(signal.Signals[sent])
    returncode, exited = ended(session, process)
    assert returncode == expected
    assert exited.payload["reason"] == "signal"
    assert told(session)[-1].type == "run_cancelled"


def test_an_agent_killed_outright_leaves_no_tool_behind(play: Callable[..., Session]) -> None:
    """The CLI cannot clean up then; its tool runs in another session, where a kill of the group does not reach."""
    session = play("slow")
    process = begun(session, CALL)
    os.kill(agent_process(session), signal.SIGKILL)
    returncode, exited = ended(session, process)
    assert returncode == 137
    assert exited.payload["signal"] == "SIGKILL"
    assert told(session)[-1].type == "run_failed"


def test_an_agent_interrupted_by_others_is_not_completed_though_its_status_is_0(play: Callable[..., Session]) -> None:
    """The CLI ends with 0 then, now and then without a result line."""
    session = play("slow")
    process = begun(session, CALL)
    os.kill(agent_process(session), signal.SIGINT)
    returncode, exited = ended(session, process)
    assert (returncode, exited.payload["exit_code"]) == (0, 0)
    assert told(session)[-1].type == "run_cancelled"


def test_an_agent_that_refuses_its_options_says_why_and_fails(play: Callable[..., Session]) -> None:
    """Nothing on stdout, a line on stderr, status 1."""
    session = play("hello")
    command = [word for word in session.run() if word != "--verbose"]
    done = session.pipe(command, PARSE)
    found = events(done.output)
    assert done.statuses == [1, 0]
    assert [event.type for event in found] == ["run_started", "agent_log_entry", "run_failed"]
    assert "requires --verbose" in found[1].payload["message"]
    assert found[-1].payload["exit_code"] == 1


def test_a_timeout_ends_the_run_with_124(play: Callable[..., Session]) -> None:
    """While a tool runs the CLI is silent, but for one line after 3 s. Both limits at once, on a run each."""
    sessions = {"timeout": play("slow"), "idle_timeout": play("slow")}

    def timed_out(reason: str) -> None:
        session = sessions[reason]
        process = begun(session, CALL, f"--{reason.replace('_', '-')}", "6s")
        returncode, exited = ended(session, process)
        assert returncode == 124
        assert exited.payload["reason"] == reason
        terminal = told(session)[-1]
        assert terminal.type in {"run_failed", "run_cancelled"}
        assert terminal.payload["reason"] == reason

    with ThreadPoolExecutor() as pool:
        list(pool.map(timed_out, sessions))


def test_a_reader_that_goes_away_ends_the_agent(play: Callable[..., Session]) -> None:
    """``| head -5``: an agent that nobody listens to must not go on spending money."""
    session = play("tour", pace=1.0)
    done = session.pipe(session.run(agent=["--include-partial-messages"]), ["head", "-5"])
    assert len(done.output.splitlines()) == 5
    assert [status(each) for each in done.statuses] == [141, 0]
    assert session.descendants() == {}
    assert done.stderr == ""
    assert len(session.mock.requests) < len(session.scenario.main)


def test_a_stalled_reader_does_not_slow_the_agent(play: Callable[..., Session], tmp_path: Path) -> None:
    """All of the model's turns are done while nobody reads."""
    session = play("big")
    process = session.start(session.run())
    wait_until(lambda: len(session.mock.requests) == len(session.scenario.main), "the agent has had all its turns")
    wait_until(
        lambda: (
            not any(str(session.sandbox.binary) == line.split()[0] for line in session.descendants().values() if line)
        ),
        "the agent has ended",
    )
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert b'"subtype":"success"' in output


def test_a_run_killed_outright_takes_the_agent_with_it(play: Callable[..., Session]) -> None:
    """SIGKILL leaves ``run`` no time to end anything; the system tells the agent, which ends its tools."""
    session = play("slow")
    process = begun(session, CALL)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not session.descendants(), "nothing of the session is left")


def test_a_reader_that_never_reads_again_is_said_to_have_missed_something(play: Callable[..., Session]) -> None:
    """A run that is told to end does not wait for ever; what the reader missed is in the file, and counted."""
    session = play("big")
    tee = session.sandbox.home / "tee"
    process = session.start(session.run("--tee", str(tee), "--grace", "0.5s"))
    wait_until(lambda: len(session.mock.requests) == len(session.scenario.main), "the agent has had all its turns")
    wait_until(lambda: all("agentpipe run" in line for line in session.descendants().values()), "the agent has ended")
    process.terminate()
    assert status(process.wait(PATIENCE_S)) == 143
    assert re.search(r"\d+ bytes of output were not delivered", session.stderr_path.read_text())
    assert b'"type":"result"' in tee.read_bytes().splitlines()[-1]


def test_a_signal_at_any_turn_leaves_a_whole_story_and_nobody(play: Callable[..., Session]) -> None:
    """Whatever the agent is doing just then: every result has its call, every line its event, every process its end."""
    sessions = {(1, "SIGINT"): play("tour"), (3, "SIGTERM"): play("tour"), (6, "SIGINT"): play("tour")}

    def interrupted(moment: tuple[int, str]) -> None:
        turn, sent = moment
        session = sessions[moment]
        process = session.start(session.run("--tee", str(session.sandbox.home / "tee")))
        wait_until(lambda: len(session.mock.requests) >= turn, f"the model is asked for answer {turn}")
        process.send_signal(signal.Signals[sent])
        ended(session, process)
        check_story(session)

    with ThreadPoolExecutor() as pool:
        list(pool.map(interrupted, sessions))


def check_story(session: Session) -> None:
    carried = [event for event in events(saved(session).read_bytes()) if event.type == "process_output"]
    lines = (session.sandbox.home / "tee").read_bytes().splitlines()
    assert len([event for event in carried if event.payload["stream"] == "stdout"]) == len(lines)
    found = events(session.pipe(["cat", str(saved(session))], PARSE).output)
    assert [event.sequence for event in found] == list(range(1, len(found) + 1))
    assert told(session)[-1].type == "run_cancelled"
    calls = {event.payload["tool_use_id"] for event in found if event.type == "agent_tool_call"}
    results = {event.payload["tool_use_id"] for event in found if event.type == "agent_tool_result"}
    assert results <= calls


def test_a_reader_that_stalls_loses_nothing(stalled: Stalled) -> None:
    """The CLI gives up on a stalled reader after 10 s, others at once, and exit 0 with a cut last line."""
    time.sleep(max(0.0, stalled.began + STALL_S - time.monotonic()))
    session = stalled.session
    raw = (session.sandbox.home / "tee").read_bytes()
    check_whole(stalled.of_claude, raw)
    check_whole(stalled.of_burst, (b"x" * 99 + b"\n") * 30_000 + b"the end\n")
    assert b'"type":"result"' in raw.splitlines()[-1]
    assert session.mock.requests[-1].turn == len(session.scenario.main) - 1


def check_whole(process: subprocess.Popen[bytes], expected: bytes) -> None:
    output, _ = process.communicate(timeout=PATIENCE_S)
    found = events(output)
    assert process.returncode == 0
    assert found[-1].type == "process_exited"
    assert found[-1].payload["exit_code"] == 0
    carried = [event for event in found if event.type == "process_output" and event.payload["stream"] == "stdout"]
    lines = expected.splitlines()
    assert len(carried) == len(lines)
    for event, line in zip(carried, lines, strict=True):
        assert (line in event.line) or event.payload["text"].encode() == line
    assert [event.sequence for event in found] == list(range(1, len(found) + 1))
