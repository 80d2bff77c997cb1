"""Installing the CLI: once, whole or not at all, and with a reason when it fails. The npm here is a stand-in."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.agents.claude import CLAUDE
from tests.agents.install import InstallFailed, install

_WORKS = """
mkdir -p node_modules/@anthropic-ai/claude-code-linux-x64
sleep 0.2
echo binary > node_modules/@anthropic-ai/claude-code-linux-x64/claude
echo "$@" >> "$(dirname "$0")/calls"
"""


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a script in the place of npm; gives the folder that it is in."""

    def put(script: str) -> Path:
        path = tmp_path / "npm"
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        return tmp_path

    return put


def test_the_first_who_asks_installs_and_the_others_wait_for_it(npm: Callable[[str], Path], tmp_path: Path) -> None:
    folder = npm(_WORKS)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: install(tmp_path / "cache", CLAUDE), range(4)))
    assert {path.read_text() for path in found} == {"binary\n"}
    calls = (folder / "calls").read_text().splitlines()
    assert len(calls) == 1
    assert f"@anthropic-ai/claude-code@{CLAUDE.version}" in calls[0]
    assert "--ignore-scripts" in calls[0]


def test_a_failure_says_why_and_leaves_nothing_to_be_taken_for_an_install(
    npm: Callable[[str], Path], tmp_path: Path
) -> None:
    npm("echo 'no such version' >&2; exit 1")
    with pytest.raises(InstallFailed, match="no such version"):
        install(tmp_path / "cache", CLAUDE)
    npm(_WORKS)
    assert install(tmp_path / "cache", CLAUDE).read_text() == "binary\n"


def test_a_platform_without_a_binary_is_a_failure(npm: Callable[[str], Path], tmp_path: Path) -> None:
    npm("mkdir -p node_modules/@anthropic-ai/claude-code")
    with pytest.raises(InstallFailed, match="no binary for this platform"):
        install(tmp_path / "cache", CLAUDE)


def test_no_npm_is_a_failure_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere" / "python"))
    with pytest.raises(InstallFailed, match="npm"):
        install(tmp_path / "cache", CLAUDE)
