"""The drivers between real pipes, processes and sockets."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from typing import Any

import pytest

from tests.io.conftest import PATIENCE_S, Start, line, lines, numbers, read_all, read_until


def ready(process: "subprocess.Popen[bytes]") -> None:
    """Wait until the filter answers: its handlers are in place then."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line(1))
    assert read_until(process.stdout.fileno(), lambda got: got.endswith(b"\n")) == line(1)


def ended(process: "subprocess.Popen[bytes]") -> int:
    return process.wait(PATIENCE_S)


# --- immediate, and bounded


@pytest.mark.parametrize("env", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_what_one_read_brought_goes_out_by_one_write(start: Start, env: dict[str, str]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps the bounds of every write
    ours.settimeout(PATIENCE_S)
    read_end, write_end = os.pipe()
    os.write(write_end, lines(1, 200))  # all of it is there before the filter starts
    with ours, theirs:
        start("pass", stdin=read_end, stdout=theirs, env=env)
        assert ours.recv(1 << 20) == lines(1, 200)
        for batch in (lines(201, 201), lines(202, 230)):  # and nothing waits for more while the input is silent
            os.write(write_end, batch)
            assert ours.recv(1 << 20) == batch
    os.close(write_end)
    os.close(read_end)


def test_a_line_that_comes_in_two_parts_goes_out_when_it_is_whole(start: Start) -> None:
    process = start("pass")
    assert process.stdin is not None
    assert process.stdout is not None
    ready(process)
    process.stdin.write(line(2)[:10])
    process.stdin.write(line(2)[10:] + line(3)[:5])
    assert read_until(process.stdout.fileno(), lambda got: got.endswith(b"\n")) == line(2)


def test_nothing_is_read_while_the_reader_is_behind(start: Start) -> None:
    process = start("pass")
    assert process.stdin is not None
    assert process.stdout is not None
    ready(process)
    os.set_blocking(process.stdin.fileno(), False)
    block, taken, idle_since = lines(1, 500), 0, time.monotonic()
    while time.monotonic() - idle_since < 1.0:
        written = process.stdin.write(block[taken % len(block) :])
        if written:
            taken, idle_since = taken + written, time.monotonic()
        else:
            time.sleep(0.01)
        assert taken < 4 << 20, "it reads on although nobody takes its output"
    os.set_blocking(process.stdin.fileno(), True)
    process.stdin.close()
    out = read_all(process.stdout.fileno())
    assert ended(process) == 0
    whole = (block * (taken // len(block) + 1))[:taken]
    assert out == whole[: whole.rindex(b"\n") + 1]


def test_an_elastic_stage_reads_on_while_the_reader_stalls(start: Start) -> None:
    process = start("elastic", "--number", "7")
    assert process.stdin is not None
    assert process.stdout is not None
    block = lines(1, 30_000)
    process.stdin.write(block)  # 2 MB, more than any pipe holds: returns only when it was all taken
    process.stdin.close()
    assert read_all(process.stdout.fileno()) == block
    assert ended(process) == 0


@pytest.mark.parametrize("limit", ["1MiB", "16MiB"])
def test_memory_stays_flat_on_an_endless_line(start: Start, limit: str) -> None:
    """200 MB without a newline, then a good line."""

    def peak_kib(megabytes: int) -> int:
        process = start("pass", "--max-line", limit, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(megabytes):
            process.stdin.write(b"x" * 1_000_000)
        process.stdin.write(b"\n" + line(1))
        process.stdin.close()
        assert read_all(process.stdout.fileno()) == line(1)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_maxrss

    assert peak_kib(200) - peak_kib(0) < (2 * int(limit.removesuffix("MiB")) + 4) * 1024


# --- deadlines and the end


def test_a_stage_is_woken_while_its_input_is_silent(start: Start) -> None:
    process = start("delay", "--seconds", "200ms")
    assert process.stdin is not None
    assert process.stdout is not None
    begun = time.monotonic()
    process.stdin.write(lines(1, 3))
    assert read_until(process.stdout.fileno(), lambda got: got.count(b"\n") == 3) == lines(1, 3)
    assert time.monotonic() - begun >= 0.2


def test_held_events_are_waited_for_after_the_input_ended(start: Start) -> None:
    begun = time.monotonic()
    out, err = start("delay", "--seconds", "300ms", "--stats").communicate(lines(1, 5), PATIENCE_S)
    assert out == lines(1, 5)
    assert time.monotonic() - begun >= 0.3
    assert json.loads(err[err.index(b"{") :])["left"] == 0


def test_a_stage_is_finished_exactly_once_and_last(start: Start) -> None:
    out, _ = start("echo").communicate(lines(1, 2), PATIENCE_S)
    assert numbers(out) == [1, 1001, 2, 1002, 999999]


def test_a_stage_that_holds_without_a_deadline_lets_go_at_the_end(start: Start) -> None:
    assert start("batch", "--number", "4").communicate(lines(1, 10), PATIENCE_S)[0] == lines(1, 10)


def test_more_than_a_pipe_holds_is_let_go_at_the_end_to_a_slow_reader(start: Start, tmp_path: Any) -> None:
    block = lines(1, 5000)
    (tmp_path / "in").write_bytes(block)
    with (tmp_path / "in").open("rb") as stdin:
        process = start("batch", "--number", "1000000", stdin=stdin)
    assert process.stdout is not None
    piped = start("batch", "--number", "1000000")
    assert piped.stdin is not None
    assert piped.stdout is not None
    piped.stdin.write(block)
    piped.stdin.close()
    time.sleep(0.5)  # both have filled their pipes
    assert read_all(process.stdout.fileno()) == read_all(piped.stdout.fileno()) == block
    assert ended(process) == ended(piped) == 0


def test_a_stage_that_is_done_ends_the_filter_although_the_input_goes_on(start: Start) -> None:
    process = start("first", "--number", "2")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(lines(1, 5))
    assert read_all(process.stdout.fileno()) == lines(1, 2)
    assert ended(process) == 0


def test_counts_add_up_under_stats(start: Start) -> None:
    _, err = start("first", "--stats").communicate(lines(1, 10) + b"bad\n", PATIENCE_S)
    counts = json.loads(err[err.rindex(b'{"stage"') :])
    assert counts["in"] == counts["out"] + sum(counts["dropped"].values()) + counts["merged"] + counts["left"] == 10
    assert (counts["malformed"], counts["bytes_out"]) == (1, len(lines(1, 3)))


# --- a reader that is gone, an output that is full


def test_a_gone_reader_is_noticed_while_the_input_is_silent(start: Start) -> None:
    process = start("pass")
    assert process.stdout is not None
    assert process.stderr is not None
    ready(process)
    begun = time.monotonic()
    process.stdout.close()
    assert ended(process) == -signal.SIGPIPE
    assert time.monotonic() - begun < 5  # in truth a millisecond; the machine may be busy
    assert process.stderr.read() == b""


@pytest.mark.parametrize("kind", ["stream", "seqpacket"])
def test_a_gone_reader_at_the_other_end_of_a_socket_is_noticed_too(start: Start, kind: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, getattr(socket, f"SOCK_{kind.upper()}"))
    process = start("pass", stdout=theirs)
    theirs.close()
    assert process.stdin is not None
    process.stdin.write(line(1))
    ours.settimeout(PATIENCE_S)
    assert ours.recv(4096) == line(1)
    ours.close()
    assert ended(process) == -signal.SIGPIPE


def test_a_reader_that_is_gone_from_the_start_ends_it_too(start: Start) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = start("pass", stdout=write_end)
    os.close(write_end)
    assert ended(process) == -signal.SIGPIPE


def test_a_full_disk_is_one_line_and_status_74(start: Start) -> None:
    with open("/dev/full", "wb") as full:
        process = start("pass", stdout=full)
        _, err = process.communicate(lines(1, 3), PATIENCE_S)
    assert err == b"agentpipe: stdout: No space left on device\n"
    assert process.returncode == 74


def test_a_closed_stdout_is_an_error(start: Start) -> None:
    process = start("pass", stdout=None, preexec_fn=lambda: os.close(1))
    _, err = process.communicate(lines(1, 3), PATIENCE_S)
    assert err.count(b"\n") == 1
    assert b"stdout is closed" in err
    assert process.returncode == 74


@pytest.mark.parametrize("how", ["closed", "reader gone"])
def test_messages_that_nobody_can_read_are_no_error(start: Start, how: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    more: dict[str, Any] = {"stderr": write_end} if how == "reader gone" else {"preexec_fn": lambda: os.close(2)}
    process = start("pass", "--stats", **more)
    os.close(write_end)
    out, _ = process.communicate(b"bad\n" + line(1) + b"worse\n" + line(2), PATIENCE_S)
    assert out == line(1) + line(2)
    assert process.returncode == 0


# --- kinds of descriptors


@pytest.mark.parametrize("kind", ["file", "pipe", "socket", "pty", "/dev/null"])
def test_stdout_may_be_anything(start: Start, tmp_path: Any, kind: str) -> None:
    block = lines(1, 2000)
    source = tmp_path / "in.ndjson"
    source.write_bytes(block)
    with contextlib.ExitStack() as stack:
        stdin = stack.enter_context(source.open("rb"))
        if kind == "file":
            process = start("pass", stdin=stdin, stdout=stack.enter_context((tmp_path / "out").open("wb")))
            assert ended(process) == 0
            assert (tmp_path / "out").read_bytes() == block
        elif kind == "/dev/null":
            assert ended(start("pass", stdin=stdin, stdout=subprocess.DEVNULL)) == 0
        elif kind == "pipe":
            assert start("pass", stdin=stdin).communicate(timeout=PATIENCE_S)[0] == block
        elif kind == "socket":
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            process = start("pass", stdin=stdin, stdout=theirs)
            theirs.close()
            assert read_all(ours.fileno()) == block
            assert ended(process) == 0
        else:
            leader, follower = os.openpty()
            stack.callback(os.close, leader)
            process = start("pass", stdin=stdin, stdout=follower)
            shown = read_until(leader, lambda got: got.count(b"\n") == 2000)
            assert shown.replace(b"\r\n", b"\n") == block
            assert ended(process) == 0
            os.close(follower)


@pytest.mark.parametrize("kind", ["file", "pipe", "socket", "/dev/null", "closed"])
def test_stdin_may_be_anything(start: Start, tmp_path: Any, kind: str) -> None:
    block = lines(1, 2000)
    with contextlib.ExitStack() as stack:
        if kind == "file":
            (tmp_path / "in").write_bytes(block)
            process = start("pass", stdin=stack.enter_context((tmp_path / "in").open("rb")))
        elif kind == "pipe":
            process = start("pass")
        elif kind == "socket":
            ours, theirs = socket.socketpair()
            process = start("pass", stdin=theirs)
            theirs.close()
            with ours:
                ours.sendall(block)
        elif kind == "/dev/null":
            process, block = start("pass", stdin=subprocess.DEVNULL), b""
        else:
            process, block = start("pass", stdin=None, preexec_fn=lambda: os.close(0)), b""
        out, err = process.communicate(block if kind == "pipe" else None, PATIENCE_S)
    assert (out, err, process.returncode) == (block, b"", 0)


def test_nobodys_descriptor_flags_are_changed(start: Start) -> None:
    """O_NONBLOCK belongs to the open file description, which our neighbours share."""
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    process = start("pass", stdin=in_read, stdout=out_write)
    os.write(in_write, line(1))
    assert read_until(out_read, lambda got: got.endswith(b"\n")) == line(1)
    during = [fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK for fd in (in_read, out_write)]
    os.close(in_write)
    assert ended(process) == 0
    after = [fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK for fd in (in_read, out_write)]
    assert during == after == [0, 0]
    for fd in (in_read, out_read, out_write):
        os.close(fd)


def test_descriptors_that_somebody_else_made_non_blocking_are_survived(start: Start) -> None:
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    os.set_blocking(in_read, False)
    os.set_blocking(out_write, False)
    process = start("pass", stdin=in_read, stdout=out_write)
    os.close(in_read)
    os.close(out_write)
    os.write(in_write, line(1))
    assert read_until(out_read, lambda got: got.endswith(b"\n")) == line(1)
    block = lines(1, 800)
    os.write(in_write, block)
    os.close(in_write)
    time.sleep(0.1)  # let it run into the full pipe
    assert read_all(out_read) == block
    assert ended(process) == 0
    os.close(out_read)


# --- signals


def test_the_first_interrupt_drains_the_input(start: Start) -> None:
    process = start("batch", "--number", "1")
    assert process.stdin is not None
    assert process.stdout is not None
    ready(process)
    process.send_signal(signal.SIGINT)
    process.stdin.write(lines(2, 9))
    process.stdin.close()
    assert read_all(process.stdout.fileno()) == lines(2, 9)
    assert ended(process) == 0


def test_the_second_interrupt_ends_at_once_and_says_what_is_left(start: Start) -> None:
    process = start("delay", "--seconds", "1h")
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(lines(1, 3) + b"bad\n")
    read_until(process.stderr.fileno(), lambda got: b"malformed" in got)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)  # two signals of one number sent at once are one signal
    process.send_signal(signal.SIGINT)
    assert ended(process) == -signal.SIGINT
    assert b"3 events held" in process.stderr.read()


def test_an_input_that_never_ends_is_given_up_five_seconds_after_the_first_interrupt(start: Start) -> None:
    process = start("batch", "--number", "2")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(lines(1, 3))
    read_until(process.stdout.fileno(), lambda got: got.count(b"\n") == 2)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert read_all(process.stdout.fileno()) == line(3), "what was held is let go"
    assert ended(process) == -signal.SIGINT
    assert 4 < time.monotonic() - begun < PATIENCE_S


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_termination_lets_the_stage_finish(start: Start, number: signal.Signals) -> None:
    process = start("echo")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line(1))
    read_until(process.stdout.fileno(), lambda got: got.count(b"\n") == 2)
    process.send_signal(number)
    assert numbers(read_all(process.stdout.fileno())) == [999999]
    assert ended(process) == -number


@pytest.mark.parametrize("stage", ["elastic", "batch"], ids=["while it reads", "while it lets go"])
def test_a_termination_is_not_held_up_by_a_reader_that_stalls(start: Start, stage: str) -> None:
    process = start(stage, "--number", "1000000")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(lines(1, 30_000))
    process.stdin.close()
    assert os.read(process.stdout.fileno(), 10)  # it has begun to write, and will not get far
    process.send_signal(signal.SIGTERM)
    assert ended(process) == -signal.SIGTERM
    assert b"were not written" in process.stderr.read()


def test_an_interrupt_that_was_ignored_when_we_started_stays_ignored(start: Start) -> None:
    process = start("pass", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert process.stdin is not None
    ready(process)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    out, _ = process.communicate(lines(2, 3), PATIENCE_S)
    assert out == lines(2, 3)
    assert process.returncode == 0


# --- strict


@pytest.mark.parametrize("pause", [False, True])
def test_strict_hands_on_what_came_before_the_bad_line(start: Start, pause: bool) -> None:
    process = start("batch", "--number", "2", "--strict")
    assert process.stdin is not None
    process.stdin.write(lines(1, 3))
    if pause:
        time.sleep(0.3)
    out, err = process.communicate(b'\n{"a":nan}\n' + line(4), PATIENCE_S)
    assert out == lines(1, 3)
    assert err.startswith(b"agentpipe: stdin:5:7: ")
    assert process.returncode == 65
