"""A filter as a real process between real descriptors."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 30.0  # upper bound of every wait; a quick machine waits milliseconds

Start = Callable[..., "subprocess.Popen[bytes]"]


def line(sequence: int, fill: str = "") -> bytes:
    return b'{"type":"t","run_id":"r","agent_id":"a","sequence":%d,"payload":{"text":"%s"}}\n' % (
        sequence,
        fill.encode(),
    )


def lines(first: int, last: int) -> bytes:
    return b"".join(line(n) for n in range(first, last + 1))


def numbers(out: bytes) -> list[int]:
    return [json.loads(text)["sequence"] for text in out.splitlines()]


def read_until(fd: int, enough: Callable[[bytes], bool], patience_s: float = PATIENCE_S) -> bytes:
    """What comes from *fd* until *enough* says so or it ends; fails when it takes too long."""
    got, limit = b"", time.monotonic() + patience_s
    while not enough(got):
        ready, _, _ = select.select([fd], [], [], max(0.0, limit - time.monotonic()))
        assert ready, f"nothing more came in {patience_s} s after {got[-200:]!r}"
        piece = os.read(fd, 1 << 20)
        if not piece:
            break
        got += piece
    return got


def read_all(fd: int) -> bytes:
    return read_until(fd, lambda got: False)


@pytest.fixture
def start(environment: Mapping[str, str]) -> Iterator[Start]:
    """``start("pass", stdin=…)`` begins a filter process; whatever still runs at the end of the test is killed."""
    begun: list[subprocess.Popen[bytes]] = []

    def run(*args: str, env: Mapping[str, str] | None = None, **more: Any) -> "subprocess.Popen[bytes]":
        script = str(Path(__file__).with_name("command.py"))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, script, *args], bufsize=0, env={**environment, **(env or {})}, **{**pipes, **more}
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
