"""How a run ends: limits of time, signals, and that nothing an agent started is ever left."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import (
    PATIENCE_S,
    Run,
    Start,
    alive,
    background,
    children_of,
    events_of,
    number_in,
    python,
    state,
    texts,
    until,
)  # fmt: skip


@pytest.fixture
def run(agentpipe: Run) -> Run:
    """``agentpipe run ARGS…`` to its end."""
    return lambda *args, **more: agentpipe("run", *args, **more)


@pytest.fixture
def start(environment: Mapping[str, str]) -> Iterator[Start]:
    """``agentpipe run ARGS…`` in the background."""
    with background(environment) as begin:
        yield begin


def ending(output: bytes) -> dict[str, Any]:
    payload: dict[str, Any] = events_of(output)[-1]["payload"]
    return payload


def finish(process: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
    return process.communicate(timeout=PATIENCE_S)


# Limits of time


def test_a_timeout_ends_the_command_with_124(run: Run, tmp_path: Path) -> None:
    began = time.monotonic()
    done = run("--timeout", "300ms", "--", "sh", "-c", f"echo $$ > {tmp_path}/pid; echo on it; exec sleep 600")
    assert done.returncode == 124
    assert time.monotonic() - began < PATIENCE_S
    assert texts(events_of(done.stdout)) == ["on it"]
    assert ending(done.stdout).items() >= {"reason": "timeout", "signal": "SIGTERM", "exit_code": None}.items()
    assert 300 <= ending(done.stdout)["duration_ms"] < 1000 * PATIENCE_S
    assert not alive(int((tmp_path / "pid").read_text()))


def test_what_ignores_every_signal_that_can_be_is_killed(run: Run) -> None:
    script = "trap '' INT TERM HUP QUIT; echo on it; while :; do sleep 0.05; done"
    done = run("--timeout", "300ms", "--grace", "200ms", "--", "sh", "-c", script)
    assert done.returncode == 124
    assert ending(done.stdout).items() >= {"reason": "timeout", "signal": "SIGKILL"}.items()


def test_an_agent_that_ends_in_time_is_left_alone(run: Run) -> None:
    done = run("--timeout", "60s", "--idle-timeout", "60s", "--result-grace", "60s", "--", "sh", "-c", "echo x; exit 4")
    assert (done.returncode, ending(done.stdout)["reason"]) == (4, "exit")


def test_silence_is_measured_from_the_last_output_of_either_stream(run: Run) -> None:
    script = "for n in 1 2 3 4 5 6; do echo $n; sleep 0.15; echo $n >&2; sleep 0.15; done; sleep 600"
    done = run("--idle-timeout", "1s", "--", "sh", "-c", script)
    assert done.returncode == 124
    assert ending(done.stdout)["reason"] == "idle_timeout"
    assert texts(events_of(done.stdout)) == list("123456")
    assert ending(done.stdout)["duration_ms"] >= 2650


def test_an_agent_that_stays_after_its_result_is_ended_and_has_succeeded(run: Run) -> None:
    script = """echo '{"result":"ok","type":"result"}'; echo bye; exec sleep 600"""
    done = run("--result-grace", "300ms", "--", "sh", "-c", script)
    assert done.returncode == 0
    assert ending(done.stdout).items() >= {"reason": "exit", "exit_code": 0, "signal": None}.items()
    assert texts(events_of(done.stdout)) == [{"result": "ok", "type": "result"}, "bye"]


# Signals


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_a_signal_is_passed_on_and_the_last_words_are_delivered(start: Start, name: str) -> None:
    code = (  # os.write, for a handler may not print while the program is printing
        "import os, signal, sys, time\n"
        "def end(*_): os.write(1, b'last words\\n'); time.sleep(0.2); os.write(1, b'really\\n'); os._exit(0)\n"
        f"signal.signal(signal.{name}, end); os.write(1, b'ready\\n'); time.sleep(600)"
    )
    process = start("--", *python(code))
    assert process.stdout is not None
    first = process.stdout.readline() + process.stdout.readline()
    process.send_signal(signal.Signals[name])
    rest, errors = finish(process)
    assert texts(events_of(first + rest)) == ["ready", "last words", "really"]
    assert ending(first + rest).items() >= {"reason": "signal", "exit_code": 0, "signal": None}.items()
    number = int(signal.Signals[name])
    assert process.returncode == (128 + number if name == "SIGQUIT" else -number), "which a shell shows as 128+n"
    assert errors == b""


def test_each_further_interrupt_takes_the_next_harder_signal(start: Start) -> None:
    process = start("--grace", "600s", "--", "sh", "-c", "trap '' INT TERM; echo ready; while :; do sleep 0.05; done")
    assert process.stdout is not None
    first = process.stdout.readline() + process.stdout.readline()
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)  # two at once are one
    rest, _ = finish(process)
    assert ending(first + rest)["signal"] == "SIGKILL"
    assert process.returncode == -signal.SIGINT


def test_an_interrupt_inherited_as_ignored_stays_ignored(start: Start) -> None:
    """As for every command that a script starts with ``&``."""
    process = start(
        "--",
        "sh",
        "-c",
        "echo ready; sleep 0.5; echo done",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.stdout is not None
    first = process.stdout.readline() + process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, _ = finish(process)
    assert texts(events_of(first + rest)) == ["ready", "done"]
    assert process.returncode == 0


def test_statuses_survive_a_parent_that_ignored_sigchld(start: Start) -> None:
    process = start("--", "sh", "-c", "exit 9", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    finish(process)
    assert process.returncode == 9


@pytest.mark.parametrize("script", ["exec yes", "seq 1 100000; exec sleep 600"])
def test_a_reader_that_stalls_while_we_are_told_to_end_is_given_the_grace_and_no_more(
    start: Start, script: str
) -> None:
    """Whether or not the queue is full and the drain itself waits for room."""
    process = start("--grace", "300ms", "--queue", "1MiB", "--", "sh", "-c", script)
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    until(lambda: int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder) > 50_000)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == -signal.SIGTERM
    assert process.stderr is not None
    assert b"were not delivered" in process.stderr.read()


def test_suspending_us_suspends_the_command_and_its_time(start: Start, tmp_path: Path) -> None:
    code = (
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "for n in range(5): print(n, flush=True); time.sleep(0.2)"
    )
    process = start("--timeout", "20s", "--idle-timeout", "1s", "--", "setsid", "--wait", *python(code))
    pid = until(number_in(tmp_path / "pid"))
    process.send_signal(signal.SIGTSTP)
    until(lambda: state(process.pid) == "T")
    assert state(pid) == "T"
    time.sleep(1.3)
    process.send_signal(signal.SIGCONT)
    output, _ = finish(process)
    assert texts(events_of(output)) == list("01234")
    assert process.returncode == 0


# Nothing is left


def sleeper(path: Path, *, prefix: str = "") -> str:
    """A shell command for a process that lives for ten minutes and tells its pid."""
    return f"{prefix} sh -c 'echo $$ > {path}; exec sleep 600'"


#: Ways to get out of a group kill's reach, and to let go of the pipe or not.
HIDEOUTS = {
    "background": "{} &",
    "own session": "setsid {} &",
    "own session, pipe closed": "setsid {} > /dev/null 2>&1 &",
    "orphan of a session": 'setsid sh -c "{} & " &',
    "ignores what it can": "setsid sh -c \"trap '' TERM INT HUP; {}\" > /dev/null 2>&1 &",
}
ENDS = ["exits", "killed", "timeout", "SIGTERM", "SIGINT", "SIGHUP", "reader gone"]


def hide(path: Path, way: str) -> str:
    inner = f"sh -c 'echo $$ > {path}; exec sleep 600'"
    template = HIDEOUTS[way]
    return template.format(inner) if '"' not in template else template.replace("{}", inner)


@pytest.mark.parametrize("end", ENDS)
def test_no_descendant_is_left_however_it_ends_and_wherever_they_went(start: Start, tmp_path: Path, end: str) -> None:
    paths = {way: tmp_path / str(number) for number, way in enumerate(HIDEOUTS)}
    script = "\n".join(hide(path, way) for way, path in paths.items())
    last = "exit 0" if end == "exits" else "sleep 600"
    waits = " ".join(f"while ! [ -s {path} ]; do sleep 0.02; done;" for path in paths.values())
    timeout = "1500ms" if end == "timeout" else "none"
    process = start("--grace", "400ms", "--timeout", timeout, "--", "sh", "-c", f"{script}\n{waits} echo $$; {last}")
    assert process.stdout is not None
    process.stdout.readline()
    child = int(json.loads(process.stdout.readline())["payload"]["text"])
    pids = {way: until(number_in(path)) for way, path in paths.items()}
    if end == "killed":
        os.kill(child, signal.SIGKILL)
    elif end == "reader gone":
        process.stdout.close()
    elif end.startswith("SIG"):
        process.send_signal(signal.Signals[end])
    process.wait(PATIENCE_S)
    assert {way: alive(pid) for way, pid in pids.items()} == dict.fromkeys(HIDEOUTS, False)
    assert not alive(child)
    wanted = {"exits": 0, "killed": 137, "timeout": 124, "reader gone": -signal.SIGPIPE}
    assert process.returncode == (wanted[end] if end in wanted else -signal.Signals[end])


def test_what_holds_the_pipe_is_heard_for_a_while_and_then_ended_with_a_word(run: Run, tmp_path: Path) -> None:
    script = f"(sleep 0.5; echo late; echo $$ > {tmp_path}/x; exec sleep 600) & echo early"
    done = run("--", "sh", "-c", script)
    assert texts(events_of(done.stdout)) == ["early", "late"]
    assert done.returncode == 0
    assert b"left 1 process running and still held its output" in done.stderr


def test_helpers_that_end_by_themselves_are_no_news(run: Run) -> None:
    done = run("--", "sh", "-c", "sleep 0.1 > /dev/null 2>&1 & sleep 0.5 & exit 0")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_stranger_that_holds_the_pipe_does_not_hold_us(start: Start, tmp_path: Path) -> None:
    """A process that the command did not start: we ourselves, through /proc."""
    process = start(
        "--", "sh", "-c", f"echo $$ > {tmp_path}/pid; while ! [ -e {tmp_path}/go ]; do sleep 0.02; done; echo end"
    )
    pid = until(number_in(tmp_path / "pid"))
    with open(f"/proc/{pid}/fd/1", "wb"):
        (tmp_path / "go").touch()
        output, errors = finish(process)
    assert texts(events_of(output)) == ["end"]
    assert b"still holds its output open" in errors


def test_children_that_we_had_before_are_nobodys_business(environment: Mapping[str, str], tmp_path: Path) -> None:
    """A shell that starts a background job and then becomes us."""
    script = f"sh -c 'echo $$ > {tmp_path}/pid; exec sleep 600' & exec agentpipe run --timeout 1s -- sleep 600"
    done = subprocess.run(["sh", "-c", script], env=environment, stdout=subprocess.DEVNULL, timeout=60)
    pid = int((tmp_path / "pid").read_text())
    try:
        assert done.returncode == 124
        assert alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_orphans_are_buried_while_the_command_runs(start: Start, tmp_path: Path) -> None:
    orphans = "for n in 1 2 3 4 5 6 7 8 9; do (sleep 0.05 &); done"
    script = f"{orphans}; while ! [ -e {tmp_path}/go ]; do sleep 0.1; done"
    process = start("--", "sh", "-c", script)
    assert process.stdout is not None
    process.stdout.readline()
    until(lambda: len(children_of(process.pid)) == 1)
    (tmp_path / "go").touch()
    finish(process)
    assert process.returncode == 0


def test_a_command_whose_wrapper_was_killed_is_asked_to_end(start: Start, tmp_path: Path) -> None:
    process = start("--", "sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600")
    pid = until(number_in(tmp_path / "pid"))
    process.kill()
    process.wait()
    until(lambda: not alive(pid))


def test_a_failure_of_ours_leaves_nothing_either(environment: Mapping[str, str], tmp_path: Path) -> None:
    """An exception out of the middle of the loop."""
    code = (
        "from agentpipe.io.run import loop, process\n"
        "def broken(self): raise RuntimeError('a bug')\n"
        "loop.RunLoop._deliver = broken\n"
        f"words = ['sh', '-c', 'echo $$ > {tmp_path}/pid; echo x; exec sleep 600']\n"
        "process.run_command(process.RunOptions(), words, warn=print)"
    )
    done = subprocess.run(python(code), env=environment, capture_output=True, timeout=60)
    assert b"a bug" in done.stderr
    assert not alive(int((tmp_path / "pid").read_text()))


def test_running_again_and_again_in_one_process_leaks_no_descriptor(environment: Mapping[str, str]) -> None:
    code = (
        "import os\n"
        "from agentpipe.io.run.process import RunOptions, run_command\n"
        "null = os.open('/dev/null', os.O_WRONLY)\n"
        "counts = []\n"
        "for n in range(5):\n"
        "    for words in (['true'], ['sh', '-c', 'exit 3'], ['/no/such']):\n"
        "        run_command(RunOptions(pty=n % 2 == 0, tee='/dev/null'), words, warn=lambda line: None, fd_out=null)\n"
        "    counts.append(len(os.listdir('/proc/self/fd')))\n"
        "print(counts)"
    )
    done = subprocess.run(python(code), env=environment, capture_output=True, timeout=60, check=True)
    counts = json.loads(done.stdout)
    assert len(set(counts)) == 1, counts
