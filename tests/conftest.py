"""What every test may ask for: the installed command, in a home of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The caller's environment with an empty home, without settings of ours and without settings of Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTPIPE_", "PYTHON", "XDG_"))}
    home = tmp_path / "home"
    home.mkdir()
    return {**kept, "HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', '')}"}


@pytest.fixture
def agentpipe(environment: Mapping[str, str]) -> Run:
    """Run ``agentpipe ARGS…`` to its end: ``agentpipe("throttle", input=b"…")`` gives a CompletedProcess of bytes."""

    def run(*args: str, env: Mapping[str, str] | None = None, **more: Any) -> "subprocess.CompletedProcess[bytes]":
        if "input" not in more and "stdin" not in more:
            more["stdin"] = subprocess.DEVNULL
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **more}
        return subprocess.run(["agentpipe", *args], env={**environment, **(env or {})}, **more)

    return run
