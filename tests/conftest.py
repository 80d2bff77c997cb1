"""What every test may ask for: the installed command, in a home of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

# A shell without job control starts what goes to the background with SIGINT and SIGQUIT ignored, and every process of
# the tests would inherit that; what they do is a part of what is tested.
for _signal in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, signal.default_int_handler if _signal is signal.SIGINT else signal.SIG_DFL)

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


SKIPS = Path(__file__).with_name("skips.txt")


def _may_skip(test_id: str) -> bool:
    """Whether ``skips.txt`` lists the test."""
    listed = [line.partition(": ")[0] for line in SKIPS.read_text().splitlines() if line and not line.startswith("#")]
    return any(part in test_id for part in listed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under ``CI=1`` a test that is skipped has failed, unless ``skips.txt`` lists it with its reason."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail") and not _may_skip(report.nodeid):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped under CI: {report.longrepr}"
    return report
