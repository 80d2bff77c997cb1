"""The real Claude Code CLI as a fixture: installed once a machine, played against a mocked API."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.agents.claude import InstallFailed, Sandbox, install
from tests.agents.mock_anthropic import MockAnthropic
from tests.agents.scenarios import SCENARIOS
from tests.agents.session import Session

_CACHE = Path(__file__).parents[2] / ".make" / "agents"


@pytest.fixture(scope="session")
def claude() -> Path:
    """The CLI's binary. Where it cannot be installed: a failure under CI=1, else a skip that says why."""
    try:
        return install(_CACHE)
    except InstallFailed as error:
        if os.environ.get("CI"):
            pytest.fail(f"Claude Code could not be installed: {error}", pytrace=False)
        pytest.skip(f"Claude Code could not be installed: {error}")


@pytest.fixture
def play(claude: Path, tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Prepares a scenario: ``play("tour")`` gives the `Session`, its API already listening. Any number a test."""
    with ExitStack() as stack:
        yield partial(_prepare, stack, claude, tmp_path)


@pytest.fixture(scope="module")
def play_throughout(claude: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Session]]:
    """As ``play``, for what goes on in the background of a module's tests."""
    with ExitStack() as stack:
        yield partial(_prepare, stack, claude, tmp_path_factory.mktemp("throughout"))


def _prepare(stack: ExitStack, binary: Path, folder: Path, name: str, *, pace: float = 0.0) -> Session:
    root = folder / f"{name}-{len(list(folder.iterdir()))}"
    workspace, home = root / "shop", root / "home"
    workspace.mkdir(parents=True)
    home.mkdir()
    scenario = SCENARIOS[name](workspace)
    scenario.prepare(workspace)
    mock = stack.enter_context(MockAnthropic(scenario, pace=pace))
    tmp = Path(stack.enter_context(TemporaryDirectory(prefix="agentpipe-", ignore_cleanup_errors=True)))
    session = Session(scenario, Sandbox(binary, home, workspace, mock.url, tmp), mock)
    stack.callback(session.close)
    return session
