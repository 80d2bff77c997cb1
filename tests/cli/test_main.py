"""The entry point: every way to end has its one status and, at most, one line on stderr."""

import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

from agentpipe import errors
from agentpipe.catalog import COMMANDS
from tests.conftest import Run

#: A command that raises what its words name, in the real command line.
SCRIPT = """
import sys, click
from agentpipe import catalog, errors
import agentpipe_cli.main as main

@click.command("raise", short_help="Raise.")
@click.argument("what")
def raising(what):
    result = eval(what)
    if isinstance(result, BaseException):
        raise result
    return result

sys.modules["raising"] = type(sys)("raising")
sys.modules["raising"].command = raising
catalog.COMMANDS["raise"] = catalog.Row("raising:command", "Raise.")
sys.argv = ["agentpipe", "raise", sys.argv[1]]
main.main()
"""


def ended(environment: Mapping[str, str], what: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, what], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("what", "status", "told"),
    [
        ("None", 0, ""),
        ("0", 0, ""),
        ("7", 7, ""),
        ("124", 124, ""),
        ("137", 137, ""),
        ("128 + 2", -signal.SIGINT, ""),
        ("128 + 15", -signal.SIGTERM, ""),
        ("errors.OptionError('--x', 'no')", 2, "agentpipe: --x: no\n"),
        ("errors.InputError('stdin', 3, 4, 'bad')", 65, "agentpipe: stdin:3:4: bad\n"),
        ("errors.InputMissing('f', 'not there')", 66, "agentpipe: f: not there\n"),
        ("errors.HubUnreachable('ws://h', 'refused')", 69, "agentpipe: ws://h: refused\n"),
        ("errors.OutputError('stdout', 'full')", 74, "agentpipe: stdout: full\n"),
        ("errors.ContinuityLost('redis://h', 'gone')", 74, "agentpipe: redis://h: gone\n"),
        ("errors.Undelivered(3, 'gone')", 75, "agentpipe: 3 events not delivered: gone\n"),
        ("errors.ProtocolError('bad_json', 'x')", 76, "agentpipe: bad_json: x\n"),
        ("errors.AuthError('ws://h', 'refused')", 77, "agentpipe: ws://h: refused\n"),
        ("errors.ReaderGone()", -signal.SIGPIPE, ""),
        ("BrokenPipeError()", -signal.SIGPIPE, ""),
        ("OSError(28, 'No space left on device')", 74, "agentpipe: No space left on device\n"),
        ("KeyboardInterrupt()", -signal.SIGINT, None),
        ("click.Abort()", -signal.SIGINT, ""),
        ("SystemExit(5)", 5, ""),
    ],
)
def test_every_ending_has_its_status(environment: Mapping[str, str], what: str, status: int, told: str | None) -> None:
    found, said = ended(environment, what)
    assert found == status
    assert told is None or said == told
    assert "Traceback" not in said


def test_a_mistake_of_ours_is_no_silent_success(environment: Mapping[str, str]) -> None:
    status, said = ended(environment, "1 / 0")
    assert status == 1
    assert "ZeroDivisionError" in said


def test_every_error_of_the_tree_is_tried_above() -> None:
    leaves = {cls for cls in vars(errors).values() if isinstance(cls, type) and not cls.__subclasses__()}
    marks = [mark for mark in test_every_ending_has_its_status.pytestmark if mark.name == "parametrize"]
    tried = " ".join(what for what, *_ in marks[0].args[1])
    assert all(cls.__name__ in tried for cls in leaves if issubclass(cls, errors.AgentpipeError))


def test_help_lists_every_command_with_its_summary(agentpipe: Run) -> None:
    text = " ".join(agentpipe("--help").stdout.decode().split())
    for name, row in COMMANDS.items():
        assert f"{name} {row.summary}" in text


@pytest.mark.parametrize("closed", [[0], [2], [0, 2]])
def test_closed_descriptors_are_not_taken_by_others(environment: Mapping[str, str], closed: list[int]) -> None:
    """Or our messages would go into the first file or socket that is opened."""
    code = (
        "import os, sys, agentpipe_cli.main as main\n"
        "main.cli.main = lambda **_: os.write(1, str(sorted(os.open('/dev/zero', 0) for _ in 'ab')).encode()) and 0\n"
        "main.main()"
    )
    script = f'exec {sys.executable} -c "$0" ' + " ".join(f"{fd}>&-" if fd else "<&-" for fd in closed)
    done = subprocess.run(["bash", "-c", script, code], capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0
    assert min(eval(done.stdout)) > 2
