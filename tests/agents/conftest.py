"""The real Claude Code CLI as a fixture: installed once a machine, played against a mocked API."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

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

        def prepare(name: str, *, pace: float = 0.0) -> Session:
            root = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
            workspace, home = root / "shop", root / "home"
            workspace.mkdir(parents=True)
            home.mkdir()
            scenario = SCENARIOS[name](workspace)
            scenario.prepare(workspace)
            mock = stack.enter_context(MockAnthropic(scenario, pace=pace))
            session = Session(scenario, Sandbox(claude, home, workspace, mock.url), mock)
            stack.callback(session.close)
            return session

        yield prepare
