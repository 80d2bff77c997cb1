"""`agentpipe serve` as a command: its options, its standard input, its statuses."""

import os
import pty
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agentpipe.errors import OptionError
from agentpipe.event import peek
from agentpipe.io.serve.options import ServeOptions
from agentpipe.io.sqlite.reader import SqliteReader
from tests.io.serve.hubs import event, until

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def begin(environment: Mapping[str, str], tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(*options: str, more: Mapping[str, str] | None = None, **how: Any) -> "subprocess.Popen[bytes]":
        ready = tmp_path / "ready"
        command = ["agentpipe", "serve", "--port", "0", "--store", "memory", "--ready-file", str(ready), *options]
        process = subprocess.Popen(command, env={**environment, **(more or {})}, stderr=subprocess.PIPE, **how)
        processes.append(process)
        until(lambda: ready.exists() or process.poll() is not None)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        assert process.stderr is not None
        process.stderr.close()


def stored(path: Path) -> list[int | None]:
    reader = SqliteReader(str(path))
    found = [peek(line).sequence for line in reader.since(0, 1_000_000, 1 << 30).lines]
    reader.close()
    return found


def test_events_on_standard_input_are_stored_before_it_ends(agentpipe: Run, tmp_path: Path):
    lines = [event(number, size=100) for number in range(1, 20_001)]
    store = tmp_path / "hub.db"
    body = b"\n".join([*lines[:5], b"{bad", *lines[3:]])  # the last line is torn: it has no line end
    done = agentpipe("serve", "--port", "0", "--store", str(store), "--exit-on-eof", input=body)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"stdin:6: skipped a malformed line" in done.stderr
    assert stored(store) == list(range(1, 20_001))


def test_a_file_as_standard_input(agentpipe: Run, tmp_path: Path):
    (tmp_path / "log").write_bytes(event(1) + b"\n")
    with open(tmp_path / "log", "rb") as file:
        done = agentpipe("serve", "--port", "0", "--store", str(tmp_path / "hub.db"), "--exit-on-eof", stdin=file)
    assert done.returncode == 0
    assert stored(tmp_path / "hub.db") == [1]


@pytest.mark.parametrize("options", [{"stdin": subprocess.DEVNULL}, {"stdin": None, "preexec_fn": lambda: os.close(0)}])
def test_without_an_input_it_serves(begin: Callable[..., "subprocess.Popen[bytes]"], options: dict[str, Any]):
    process = begin(**options)
    assert process.poll() is None
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM


def test_a_terminal_is_not_read(begin: Callable[..., "subprocess.Popen[bytes]"]):
    ours, theirs = pty.openpty()
    process = begin(stdin=theirs)
    os.close(theirs)
    os.write(ours, event(1) + b"\n\x04")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == -signal.SIGINT
    os.close(ours)


def test_an_input_that_ended_does_not_end_the_hub_unless_asked(begin: Callable[..., "subprocess.Popen[bytes]"]):
    process = begin(stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)


def test_signals_that_were_ignored_stay_ignored(begin: Callable[..., "subprocess.Popen[bytes]"]):
    process = begin(stdin=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)


def test_the_browser_is_told_the_token_by_a_file_not_by_its_command_line(
    begin: Callable[..., "subprocess.Popen[bytes]"], tmp_path: Path
):
    """BROWSER is what `webbrowser` runs: it gets a file that only we can read and that leads to the page."""
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/asked.part\nmv {tmp_path}/asked.part {tmp_path}/asked\n'
    )
    browser.chmod(0o700)
    process = begin("--open", stdin=subprocess.DEVNULL, more={"BROWSER": str(browser)})
    asked = until(lambda: (tmp_path / "asked").exists() and (tmp_path / "asked").read_text())
    assert "token" not in asked
    page = Path(asked.removeprefix("file://"))
    assert page.stat().st_mode & 0o777 == 0o600
    url = (tmp_path / "ready").read_text().strip()
    assert f"url={url}#token=" in page.read_text()
    assert process.poll() is None


def test_a_port_in_use_is_an_error_of_one_line(agentpipe: Run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = agentpipe("serve", "--port", str(port), "--store", "memory")
    assert done.returncode == 74
    assert done.stderr == f"agentpipe: 127.0.0.1:{port}: Address already in use\n".encode()


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--retain", "soon"], 2, b"--retain"),
        (["--heartbeat", "60s"], 2, b"more than"),
        (["--store", "/dev/null/x"], 74, b"/dev/null"),
        (["--host", "no.such.host.invalid"], 74, b"no.such.host.invalid"),
        (["--token-file", "/dev/null/token"], 66, b"/dev/null/token"),
        (["--port", "70000"], 2, b"70000"),
        (["--ready-file", "/dev/null/x"], 74, b"/dev/null/x"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    agentpipe: Run, tmp_path: Path, options: list[str], status: int, said: bytes
):
    done = agentpipe("serve", "--port", "0", *options)
    assert done.returncode == status
    assert said in done.stderr
    assert b"Traceback" not in done.stderr


def test_its_help_needs_no_server(agentpipe: Run):
    done = agentpipe("serve", "--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0
    assert b"--exit-on-eof" in done.stdout
    assert b"aiohttp" not in done.stderr


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", (0.0, 0, 0)), ("none", (0.0, 0, 0)), ("7d", (604800.0, 0, 0)), ("1GiB", (0.0, 1 << 30, 0)),
        ("500ev", (0.0, 0, 500)), (" 2h , 10MiB,5ev", (7200.0, 10 << 20, 5)),
    ],
)  # fmt: skip
def test_what_is_kept_is_said_by_age_size_or_number(text: str, limits: tuple[float, int, int]):
    assert ServeOptions(retain=text).limits == limits


def test_a_limit_that_is_none_of_these_is_refused():
    with pytest.raises(OptionError, match="'xev' is no age"):
        assert ServeOptions(retain="xev").limits
