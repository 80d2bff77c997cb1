"""``agentpipe replay`` as a process: the same bytes, in their own time."""

import gzip
import json
import os
import signal
import subprocess
import time

import pytest

from agentpipe.errors import OptionError
from agentpipe.io.replay import Player, Playing
from tests.io.hubs import PATIENCE_S

RECORDINGS = os.path.join(os.path.dirname(__file__), "..", "..", "..", "shared", "recordings")


def stamped(second, number=0):
    return b'{"n":%d, "timestamp":"2026-11-20T07:00:%06.3fZ"}\n' % (number, second)


@pytest.fixture
def log(tmp_path):
    def write(data, name="log.jsonl"):
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)

    return write


def arrivals(environment, *args):
    """Seconds after the first line at which each line came, and the lines."""
    process = subprocess.Popen(["agentpipe", "replay", *args], env=environment, stdout=subprocess.PIPE, bufsize=0)
    found, times, buffer = [], [], b""
    while piece := os.read(process.stdout.fileno(), 65536):
        *lines, buffer = (buffer + piece).split(b"\n")
        found += lines
        times += [time.monotonic()] * len(lines)
    process.stdout.close()
    assert process.wait() == 0
    return [at - times[0] for at in times], found


ODD = b'{"a":1}\r\n\n  {"b" : 1.50}\nno json \xff\xe2\x80\xa8x\n'


@pytest.mark.parametrize("speed", ["max", "1000"])
def test_what_is_written_is_what_was_read(log, agentpipe, speed):
    data = ODD + stamped(1) + b'{"long":"' + b"x" * 3_000_000 + b'"}\n' + stamped(2)
    assert agentpipe("replay", "--speed", speed, log(data)).stdout == data


@pytest.mark.parametrize("speed", ["max", "1"])
def test_a_last_line_gets_the_line_end_it_lacked(log, agentpipe, speed):
    first, second = log(b'{"a":1}\n{"b":2}', "a"), log(b'{"c":3}', "b")
    assert agentpipe("replay", "--speed", speed, first, second).stdout == b'{"a":1}\n{"b":2}\n{"c":3}\n'


def test_lines_come_in_their_own_time_divided_by_the_speed(log, environment):
    data = b'{"type":"init"}\n' + stamped(0) + stamped(0.5) + b'{"inherits":1}\n' + stamped(1.5)
    times, lines = arrivals(environment, "--speed", "2", log(data))
    assert lines == data.splitlines()
    assert times[2] >= 0.2
    assert times[3] - times[2] < 0.2
    assert times[4] >= 0.7
    assert times[4] < PATIENCE_S


def test_a_silence_is_capped(log, environment):
    times, _ = arrivals(environment, "--max-idle", "200ms", log(stamped(0) + stamped(50) + stamped(50.1)))
    assert 0.25 <= times[2] < PATIENCE_S


def test_a_reader_that_stalls_delays_nothing_but_the_lines_it_would_not_take(log, environment):
    """What was due during the stall comes with its end, what is due later when it always was: nothing adds up."""
    fill = b'{"fill":"%s"}\n' % (b"x" * 300_000)
    process = subprocess.Popen(
        ["agentpipe", "replay", log(stamped(0) + fill + stamped(0.3) + stamped(1.5))],
        env=environment,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    assert os.read(process.stdout.fileno(), 1)
    begun = time.monotonic()
    time.sleep(0.7)
    got = b""
    while not got.endswith(stamped(0.3)):
        got += os.read(process.stdout.fileno(), 65536)
    got += process.stdout.read()
    last = time.monotonic() - begun
    assert got == (stamped(0) + fill + stamped(0.3) + stamped(1.5))[1:]
    assert last >= 1.4, "not early: a stall is no reason to hurry"
    assert last < PATIENCE_S
    process.stdout.close()
    assert process.wait(timeout=PATIENCE_S) == 0


def test_from_and_to_are_line_numbers_inclusive(log, agentpipe):
    data = b"".join(stamped(n, n) for n in range(1, 6))
    path = log(data)
    assert agentpipe("replay", "--from", "2", "--to", "3", path).stdout == stamped(2, 2) + stamped(3, 3)
    assert agentpipe("replay", "--speed", "max", "--from", "5", path).stdout == stamped(5, 5)
    assert agentpipe("replay", "--speed", "max", "--to", "1", path, path).stdout == stamped(1, 1)
    assert agentpipe("replay", "--speed", "max", "--from", "6", "--to", "6", path, path).stdout == stamped(1, 1)


def test_a_log_without_timestamps_is_played_at_once_and_said(log, agentpipe):
    done = agentpipe("replay", log(b'{"a":1}\n{"b":2}\n'))
    assert done.stdout == b'{"a":1}\n{"b":2}\n'
    assert b"no line has a timestamp" in done.stderr
    assert agentpipe("replay", "--speed", "max", log(b'{"a":1}\n{"b":2}\n')).stderr == b""


def test_gzip_is_recognised_and_a_damaged_one_is_said(log, agentpipe):
    packed = gzip.compress(stamped(1) * 100)
    assert agentpipe("replay", "--speed", "max", log(packed, "log.gz")).stdout == stamped(1) * 100
    done = agentpipe("replay", "--speed", "max", log(packed[:-20], "cut.gz"))
    assert done.returncode == 66
    assert b"damaged gzip" in done.stderr


def test_stdin_is_played_as_it_comes(environment):
    process = subprocess.Popen(
        ["agentpipe", "replay", "-"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    process.stdin.write(stamped(0))
    assert os.read(process.stdout.fileno(), 100) == stamped(0)
    process.stdin.write(stamped(0.2))
    assert os.read(process.stdout.fileno(), 100) == stamped(0.2)
    process.stdin.close()
    assert process.stdout.read() == b""
    process.stdout.close()
    assert process.wait(timeout=PATIENCE_S) == 0


def test_restamped_lines_have_the_moment_of_playing(log, agentpipe):
    before = time.time()
    done = agentpipe("replay", "--speed", "max", "--rewrite-time", log(stamped(1, 7)))
    event = json.loads(done.stdout)
    assert event["n"] == 7
    assert event["timestamp"] >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before - 1))


@pytest.mark.parametrize("args", [("--speed", "max"), ("--speed", "max", "--to", "2"), ()])
def test_a_loop_goes_on_until_its_reader_leaves_with_141(log, environment, args):
    path = log(stamped(1) + stamped(1.01) + stamped(1.02))
    command = f"agentpipe replay --loop {' '.join(args)} {path} | head -n 10 | wc -l; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, timeout=60)
    assert done.stdout.split() == [b"10", b"141"]
    assert done.stderr == b""


def test_a_loop_over_nothing_ends(log, agentpipe):
    assert agentpipe("replay", "--loop", log(b"")).returncode == 0


def test_stdin_cannot_be_looped():
    with pytest.raises(OptionError, match="--loop"):
        Player(["-"], Playing(loop=True), warn=print)


def test_a_reader_that_leaves_during_a_silence_ends_it(log, environment):
    process = subprocess.Popen(
        ["agentpipe", "replay", log(stamped(0) + stamped(59))], env=environment, stdout=subprocess.PIPE, bufsize=0
    )
    os.read(process.stdout.fileno(), 100)
    process.stdout.close()
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGPIPE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_silence(log, environment, number):
    process = subprocess.Popen(
        ["agentpipe", "replay", log(stamped(0) + stamped(59))], env=environment, stdout=subprocess.PIPE, bufsize=0
    )
    assert os.read(process.stdout.fileno(), 100) == stamped(0)
    process.send_signal(number)
    assert process.wait(timeout=PATIENCE_S) == -number
    process.stdout.close()


def test_a_file_that_is_not_there_is_66_and_a_wrong_speed_is_usage(log, agentpipe, tmp_path):
    assert agentpipe("replay", str(tmp_path / "none")).returncode == 66
    assert agentpipe("replay", str(tmp_path)).returncode == 66
    assert agentpipe("replay", "--speed", "0", log(b"")).returncode == 2
    assert agentpipe("replay").returncode == 2


@pytest.mark.skipif(not os.path.isdir(RECORDINGS), reason="the recordings are not beside the repository")
@pytest.mark.parametrize("name", ["claude/latency.jsonl", "gemini/hello.jsonl", "codex/tools.transcript.jsonl"])
def test_real_logs_are_played_with_their_own_timing_and_bytes(agentpipe, name):
    path = os.path.join(RECORDINGS, name)
    with open(path, "rb") as file:
        data = file.read()
    done = agentpipe("replay", "--speed", "100", path)
    assert done.stdout == data
    assert done.stderr == b"", "it has timestamps"
