"""A browser for the whole session; a hub and a tab for each test, and the page built from its sources."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from tests.browser.chromium import Browser, Page, find
from tests.browser.hub import BrowsedHub

ROOT = Path(__file__).resolve().parent.parent.parent
ARTIFACTS = ROOT / "tests" / "artifacts"


@pytest.fixture(scope="session")
def build_page() -> ModuleType:
    """The build hook as a module."""
    spec = importlib.util.spec_from_file_location("build_page", ROOT / "dashboard" / "build_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def built(build_page: ModuleType) -> None:
    """``agentpipe/web`` is what the sources say."""
    build_page.build(ROOT)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    browser = Browser(program)
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Browser, start_hub: Callable[..., BrowsedHub]) -> Iterator[Page]:
    """A tab; at the end nothing may have gone wrong in it that the test did not take out of `problems`."""
    with browser.page() as page:
        page.size(1280, 860)
        yield page
        assert page.surprises() == []


@pytest.fixture
def start_hub(built: None, tmp_path: Path, environment: Mapping[str, str]) -> Iterator[Callable[..., BrowsedHub]]:
    """Starts a hub; all are stopped at the end."""
    hubs: list[BrowsedHub] = []

    def start(store: str = "hub.db", *more: str) -> BrowsedHub:
        folder = tmp_path / f"hub{len(hubs)}"
        folder.mkdir()
        hubs.append(BrowsedHub(folder, environment, store, *more))
        hubs[-1].start()
        return hubs[-1]

    yield start
    for hub in hubs:
        hub.stop()


@pytest.fixture
def hub(start_hub: Callable[..., BrowsedHub]) -> BrowsedHub:
    return start_hub()


@pytest.fixture
def artifacts() -> Path:
    """Where screenshots are kept."""
    return ARTIFACTS
