"""The real CLIs as fixtures: installed once a machine, played against mocked APIs."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.agents.agents import AGENTS
from tests.agents.install import InstallFailed, install
from tests.agents.session import PARSE, Done, Session

_HERE = Path(__file__).parent
_CACHE = _HERE.parents[1] / ".make" / "agents"

Binaries = Callable[[str], Path]


@pytest.fixture(scope="session")
def binary(request: pytest.FixtureRequest) -> Iterator[Binaries]:
    """``binary("codex")`` is the CLI's program. Where it cannot be installed: a failure under CI=1, else a skip that
    says why. Those that this test run is going to need are installed two at a time from its first test of an agent on.
    """
    asked = [item.path.stem + item.name for item in request.session.items if item.path.parent == _HERE]
    needed = [name for name in AGENTS if any(name in test for test in asked)]
    with ThreadPoolExecutor(2) as pool:
        coming = {name: pool.submit(install, _CACHE, AGENTS[name].package) for name in needed}

        def arrived(name: str) -> Path:
            if name not in coming:
                coming[name] = pool.submit(install, _CACHE, AGENTS[name].package)
            return _arrived(name, coming[name])

        yield arrived
        pool.shutdown(cancel_futures=True)


def _arrived(name: str, coming: "Future[Path]") -> Path:
    try:
        return coming.result()
    except InstallFailed as error:
        if os.environ.get("CI"):
            pytest.fail(f"{name} could not be installed: {error}", pytrace=False)
        pytest.skip(f"{name} could not be installed: {error}")


@pytest.fixture
def play(binary: Binaries, tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Prepares a scenario: ``play("tour")`` gives Claude Code's `Session`, its API already listening; ``play("tools",
    of="codex")`` another agent's. Any number a test.
    """
    with ExitStack() as stack:
        yield partial(_prepare, stack, binary, tmp_path)


@pytest.fixture(scope="module")
def play_throughout(binary: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Session]]:
    """As ``play``, for what goes on in the background of a module's tests."""
    with ExitStack() as stack:
        yield partial(_prepare, stack, binary, tmp_path_factory.mktemp("throughout"))


@pytest.fixture
def played(play: Callable[..., Session]) -> Callable[..., tuple[Session, Done, bytes]]:
    """Plays a scenario through ``run --tee | parse``: the session, what came out, and the CLI's bytes."""

    def through(name: str, *agent: str, of: str = "claude", **how: Any) -> tuple[Session, Done, bytes]:
        session = play(name, of=of, **how)
        tee = session.sandbox.home / "tee.jsonl"
        done = session.pipe(session.run("--tee", str(tee), agent=agent), PARSE)
        return session, done, tee.read_bytes()

    return through


def _prepare(
    stack: ExitStack, binary: Binaries, folder: Path, name: str, *, of: str = "claude", pace: float = 0.0
) -> Session:
    agent = AGENTS[of]
    root = folder / f"{name}-{len(list(folder.iterdir()))}"
    workspace, home = root / "shop", root / "home"
    workspace.mkdir(parents=True)
    home.mkdir()
    scenario = agent.scenarios[name](workspace)
    scenario.prepare(workspace)
    mock = stack.enter_context(agent.mock(scenario, pace=pace))
    tmp = Path(stack.enter_context(TemporaryDirectory(prefix="agentpipe-", ignore_cleanup_errors=True)))
    session = Session(scenario, agent.sandbox(binary(of), home, workspace, mock.url, tmp), mock)
    stack.callback(session.close)
    return session
