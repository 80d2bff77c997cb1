"""``agentpipe buffer`` as a process: a writer that never waits, crashes, resumption, statuses."""

import array
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentpipe.event import make, timestamp

AGENTPIPE = str(Path(sys.executable).with_name("agentpipe"))

#: How long to wait for something that should come at once, on a machine that is busy.
PATIENCE_S = 30


def line(sequence: int, kind: str = "agent_tool_call", size: int = 200) -> bytes:
    at = timestamp(1.79e9)
    return make(kind, {"text": "x" * size}, run_id="r", agent_id="a", sequence=sequence, at=at).line + b"\n"


def lines(first: int, last: int, size: int = 200) -> bytes:
    return b"".join(line(n, size=size) for n in range(first, last + 1))


def numbers(data: bytes) -> list[int]:
    return [json.loads(one)["sequence"] for one in data.splitlines()]


@contextlib.contextmanager
def buffer(*options: str) -> Iterator[subprocess.Popen]:
    """The process, with small pipes on both sides; it does not outlive the block."""
    process = subprocess.Popen(
        [AGENTPIPE, "buffer", *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    try:
        for pipe in (process.stdin, process.stdout):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def write(process: subprocess.Popen, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[process.stdin.write(view) :]


def read_to_end(process: subprocess.Popen) -> bytes:
    return b"".join(iter(lambda: process.stdout.read(65536), b""))


def wait_until_read(process: subprocess.Popen) -> None:
    """Wait until the process has read all of its input and gone to sleep over its stalled output."""
    waiting = array.array("i", [1])
    deadline = time.monotonic() + PATIENCE_S
    while True:
        fcntl.ioctl(process.stdin, termios.FIONREAD, waiting)
        state = Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1][0]
        if waiting[0] == 0 and state == "S":
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_writer_does_not_wait_for_a_reader_that_sleeps() -> None:
    data = lines(1, 4000)
    with buffer("--stats") as process:
        write(process, data)  # would block for ever after 12 KiB without the buffer
        process.stdin.close()
        assert read_to_end(process) == data
        assert process.wait() == 0
        counts = json.loads(process.stderr.read().decode().removeprefix("agentpipe: "))
    assert (counts["in"], counts["out"], counts["dropped"], counts["left"]) == (4000, 4000, {}, 0)


def test_what_comes_is_handed_on_at_once() -> None:
    with buffer() as process:
        for n in (1, 2, 3):
            write(process, line(n))
            assert process.stdout.read(65536) == line(n)


def test_an_event_larger_than_the_limit_passes() -> None:
    data = lines(1, 3, size=500_000)
    with buffer("--memory", "1KiB") as process:
        feeder = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=process.stdin)
        process.stdin.close()
        writing = threading.Thread(target=lambda: (feeder.stdin.write(data), feeder.stdin.close()))
        writing.start()
        assert read_to_end(process) == data
        writing.join()
        assert feeder.wait() == process.wait() == 0


@pytest.mark.parametrize("mode", ["drop-oldest", "drop-newest"])
def test_what_was_dropped_is_declared_before_the_end_of_the_run(mode: str) -> None:
    with buffer("--memory", "64KiB", "--when-full", mode, "--stats") as process:
        write(process, lines(1, 3000))
        write(process, line(3001, "error"))
        write(process, line(3002, "run_completed"))
        process.stdin.close()
        found = [json.loads(one) for one in read_to_end(process).splitlines()]
        assert process.wait() == 0
        counts = json.loads(process.stderr.read().decode().removeprefix("agentpipe: "))
    seen = []
    for one in found:
        spans = one["payload"]["ranges"] if one["type"] == "gap" else [[one["sequence"]] * 2]
        seen += [n for first, last in spans for n in range(first, last + 1)]
    assert seen == list(range(1, 3003))
    assert counts["dropped"]["buffer"] > 0
    assert counts["in"] == counts["out"] + counts["dropped"]["buffer"] == 3002
    assert found[-1]["type"] == "run_completed"


def test_fail_ends_with_74() -> None:
    with buffer("--memory", "64KiB", "--when-full", "fail") as process:
        with pytest.raises(BrokenPipeError):
            write(process, lines(1, 5000))
        assert process.wait() == 74
        assert b"buffer: full with" in process.stderr.read()


def test_a_reader_that_is_gone_ends_it_silently_with_141() -> None:
    command = f"yes '{line(1).decode().strip()}' | {AGENTPIPE} buffer | head -1; echo ${{PIPESTATUS[1]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "141"
    assert done.stderr == ""


# --- spill --------------------------------------------------------------------------------------------------------


def resumed(path: Path, *options: str) -> tuple[list[int], dict]:
    """Start again on the same file with no input: what was left there, and the counts."""
    done = subprocess.run(
        [AGENTPIPE, "buffer", "--spill", str(path), "--stats", *options], stdin=subprocess.DEVNULL, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return numbers(done.stdout), json.loads(done.stderr.decode().strip().removeprefix("agentpipe: "))


def test_what_memory_does_not_hold_goes_to_the_file_and_comes_back_in_order(tmp_path: Path) -> None:
    data = lines(1, 5000)
    with buffer("--spill", str(tmp_path / "f"), "--memory", "64KiB", "--stats") as process:
        write(process, data)
        process.stdin.close()
        assert read_to_end(process) == data
        assert process.wait() == 0
        counts = json.loads(process.stderr.read().decode().removeprefix("agentpipe: "))
    assert counts["spilled"] > 3000
    assert (counts["out"], counts["left"], counts["kept"]) == (5000, 0, 0)
    assert resumed(tmp_path / "f")[0] == []


@pytest.mark.parametrize("taken", [0, 100, 2500])
def test_after_kill_9_everything_spilled_is_resumed_and_only_the_batch_under_way_repeated(
    tmp_path: Path, taken: int
) -> None:
    path = tmp_path / "f"
    with buffer("--spill", str(path), "--memory", "0") as process:
        write(process, lines(1, 5000))
        seen = b""
        while seen.count(b"\n") < taken:
            seen += process.stdout.read(4096)
        wait_until_read(process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        seen += read_to_end(process)
    first = numbers(seen[: seen.rfind(b"\n") + 1])
    after, counts = resumed(path)
    assert first == list(range(1, len(first) + 1))
    assert after == list(range(after[0], after[-1] + 1)), "in order, without a hole"
    assert after[0] <= len(first) + 1, "nothing between what was read and what is resumed is missing"
    assert after[-1] == 5000
    batch = 2 * 256 * 1024 // len(line(1))
    assert len(first) - after[0] + 1 <= batch, "no more than one batch comes twice"
    assert counts["resumed"] == counts["in"] == counts["out"] == len(after)
    assert resumed(path)[0] == [], "once handed on it is gone"


def test_kill_9_again_and_again_loses_nothing(tmp_path: Path) -> None:
    """Each start takes in more and is killed in the middle of reading; ids tell the repeats."""
    path, seen = tmp_path / "f", []
    for start in range(1, 2001, 500):
        with buffer("--spill", str(path), "--memory", "0") as process:
            write(process, lines(start, start + 499))
            data = process.stdout.read(4096) + process.stdout.read(4096)
            wait_until_read(process)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            data += read_to_end(process)
        seen += numbers(data[: data.rfind(b"\n") + 1])
    seen += resumed(path)[0]
    assert list(dict.fromkeys(seen)) == list(range(1, 2001))


def test_sigterm_keeps_everything_for_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with buffer("--spill", str(path), "--memory", "256KiB", "--stats") as process:
        write(process, lines(1, 3000))
        wait_until_read(process)
        process.terminate()
        seen = read_to_end(process)
        assert process.wait() == -15
        counts = json.loads(process.stderr.read().decode().splitlines()[0].removeprefix("agentpipe: "))
    first = numbers(seen)
    after, _ = resumed(path)
    assert list(dict.fromkeys([*first, *after])) == list(range(1, 3001))
    assert counts["in"] == counts["out"] + counts["left"] == 3000
    assert counts["kept"] == len(after)


def test_a_reader_that_goes_leaves_the_rest_for_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with buffer("--spill", str(path)) as process:
        write(process, lines(1, 2000))
        wait_until_read(process)
        process.stdout.close()
        assert process.wait() == -signal.SIGPIPE
        assert process.stderr.read() == b""
    after, _ = resumed(path)
    assert after == list(range(after[0], 2001))
    assert after[0] <= 4096 // len(line(1)) + 1, "what lay in the pipe was the reader's, the rest is here"


def test_a_second_process_on_the_same_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with buffer("--spill", str(path)) as process:
        write(process, line(1))
        process.stdout.read(4096)
        other = subprocess.run(
            [AGENTPIPE, "buffer", "--spill", str(path)], input=line(2), capture_output=True, timeout=PATIENCE_S
        )
        assert other.returncode == 74
        assert other.stderr.decode() == f"agentpipe: {path}: in use by another process\n"
        assert other.stdout == b""


def test_a_full_disk_ends_it_with_74_and_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    command = f"ulimit -f 200; exec {AGENTPIPE} buffer --memory 0 --spill {path}"
    with subprocess.Popen(
        ["bash", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        with pytest.raises(BrokenPipeError):
            write(process, lines(1, 10_000))
        assert process.wait() == 74
        assert process.stderr.read().decode().startswith(f"agentpipe: {path}: ")


@pytest.mark.parametrize(
    "options", [["--when-full", "spill"], ["--spill", "f", "--when-full", "fail"], ["--memory", "much"]]
)
def test_options_that_make_no_sense_are_a_usage_error(tmp_path: Path, options: list[str]) -> None:
    done = subprocess.run([AGENTPIPE, "buffer", *options], stdin=subprocess.DEVNULL, capture_output=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr
