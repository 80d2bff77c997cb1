"""The servers that are examined, and the suite that examines them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conformance.suite import InstallFailed, install, interpreter
from tests.hub_process import PATIENCE_S, until
from tests.io.serve.hubs import Hub

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".make" / "autobahn"


class Server(NamedTuple):
    """Something that speaks WebSocket at ``url`` (``http://127.0.0.1:PORT/``) with ``ws`` behind it. Without a token it
    asks for none.
    """

    name: str
    url: str
    token: str = ""


@pytest.fixture(scope="session")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """``echo("hub")`` is the hub's WebSocket path as an echo server, ``echo("library")`` that of aiohttp alone."""
    started: dict[str, tuple[Server, subprocess.Popen[bytes], Path]] = {}

    def start(which: str) -> Server:
        if which not in started:
            started[which] = _started(which, tmp_path_factory.mktemp(which))
        return started[which][0]

    yield start
    for _, process, said in started.values():
        process.terminate()
        process.wait(PATIENCE_S)
        assert "Traceback" not in said.read_text()


def _started(which: str, folder: Path) -> tuple[Server, "subprocess.Popen[bytes]", Path]:
    ready, said = folder / "ready", folder / "stderr"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTPIPE_", "XDG_"))}
    with said.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.echo", which, str(ready), str(folder)],
            env={**kept, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    until(lambda: ready.exists() or process.poll() is not None, f"the start of the {which}")
    assert ready.exists(), said.read_text()
    return Server(which, ready.read_text().strip()), process, said


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``agentpipe serve`` itself."""
    hub = Hub(tmp_path_factory.mktemp("hub"))
    yield Server("real", hub.url, hub.token)
    hub.stop()
    assert "Traceback" not in hub.stderr
    assert "Exception" not in hub.stderr


@pytest.fixture(scope="session")
def autobahn() -> Path:
    """A Python that has the suite. Without Python 2.7 a skip that says so; where there is one and the install fails, a
    failure under CI=1.
    """
    python = interpreter(os.environ)
    if python is None:
        pytest.skip("the WebSocket conformance suite needs CPython 2.7: no working python2.7 on PATH or in pyenv")
    try:
        return install(CACHE, python)
    except InstallFailed as error:
        if os.environ.get("CI"):
            pytest.fail(f"the WebSocket conformance suite could not be installed: {error}", pytrace=False)
        pytest.skip(f"the WebSocket conformance suite could not be installed: {error}")
