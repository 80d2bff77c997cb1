"""A pipeline that is started again on the spill file of the one that was killed.

What `buffer` has on disk goes first, as it must; what it had handed on and `publish` had not read yet died in the pipe
between them. The source prints that again, but later numbers of the run are stored by then. So it is lost, and the hub
has to say so, number by number, before the run's end.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import pytest

from tests.faults.lab.checker import judge_store, shown
from tests.faults.lab.hubs import SqliteHub
from tests.faults.lab.journal import mark
from tests.hub_process import PATIENCE_S, until

COUNT = 2000


def line(number: int, kind: str = "agent_output") -> bytes:
    return b'{"type":"%s","run_id":"r","agent_id":"a","sequence":%d,"event_id":"r:%d","payload":{"text":"%s%s"}}\n' % (
        kind.encode(),
        number,
        number,
        mark("r", number).encode() if number <= COUNT else b"",
        b"x" * 100,
    )


EVENTS = b"".join([*(line(number) for number in range(1, COUNT + 1)), line(COUNT + 1, "run_completed")])


@pytest.fixture
def hub(tmp_path: Path, environment: Mapping[str, str]) -> Iterator[SqliteHub]:
    found = SqliteHub(tmp_path, environment)
    yield found
    found.stop()


class Two:
    """``buffer --spill | publish --outbox``, on the same two files each time; killed at the end of the block."""

    def __init__(self, folder: Path, environment: Mapping[str, str], hub: SqliteHub) -> None:
        self.spill = folder / "spill"
        self._environment = environment
        self._buffer = ["agentpipe", "buffer", "--memory", "64KiB", "--spill", str(self.spill)]
        self._publish = ["agentpipe", "publish", "--token-file", str(hub.token_file), f"ws://127.0.0.1:{hub.ports[0]}"]
        self._publish += ["--outbox", str(folder / "outbox")]

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self.buffer = subprocess.Popen(self._buffer, env=self._environment, stdin=pipe, stdout=pipe)
        self.publish = subprocess.Popen(self._publish, env=self._environment, stdin=self.buffer.stdout)
        assert self.buffer.stdin is not None
        assert self.buffer.stdout is not None
        self.buffer.stdout.close()
        self.input = self.buffer.stdin
        return self

    def __exit__(self, *details: object) -> None:
        for process in (self.buffer, self.publish):
            process.kill()
            process.wait(PATIENCE_S)
        self.input.close()


def test_what_died_in_the_pipe_behind_the_buffer_is_declared(
    tmp_path: Path, environment: Mapping[str, str], hub: SqliteHub
) -> None:
    with Two(tmp_path, environment, hub) as first:
        os.kill(first.publish.pid, signal.SIGSTOP)  # it has not even begun to read
        first.input.write(EVENTS)
        first.input.flush()
        until(first.spill.exists, "the spill file")
        first.publish.kill()
        first.input.close()
        first.buffer.wait(PATIENCE_S)  # it writes down what it still has in memory
    with Two(tmp_path, environment, hub) as again:
        again.input.write(EVENTS)
        again.input.close()
        assert [process.wait(PATIENCE_S) for process in (again.buffer, again.publish)] == [0, 0]
    hub.stop()
    log = hub.stored()
    findings = judge_store({"r": COUNT}, log, whole=False)
    assert not findings, shown(findings)
    declared = sum(end - start + 1 for entry in log if entry.type == "gap" for start, end in entry.declares)
    assert 0 < declared == COUNT - sum(bool(entry.marks) for entry in log)
    assert log[-1].type == "run_completed"
