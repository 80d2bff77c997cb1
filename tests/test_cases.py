"""Cases in folders: ``cases/COMMAND/NAME/`` with ``cmd``, and ``in``, ``out``, ``err``, ``status`` where they matter.

``cmd`` is shell text run in the case's own folder; ``in`` is its stdin (nothing when it is not there); ``out`` is its
stdout byte for byte; ``err`` its stderr byte for byte (nothing when it is not there); ``status`` its status (0).
``UPDATE_CASES=1`` writes ``out``, ``err`` and ``status`` anew: look at the difference before it is kept.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from agentpipe.catalog import COMMANDS

FOLDER = Path(__file__).with_name("cases")
CASES = sorted(path.parent for path in FOLDER.glob("*/*/cmd"))
PARTS = {"cmd", "in", "out", "err", "status"}


def content(case: Path, part: str, otherwise: bytes) -> bytes:
    path = case / part
    return path.read_bytes() if path.exists() else otherwise


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_case(case: Path, environment: Mapping[str, str], tmp_path: Path) -> None:
    work = shutil.copytree(case, tmp_path / "work")
    done = subprocess.run(
        ["bash", "-c", (case / "cmd").read_text()],
        input=content(case, "in", b""),
        capture_output=True,
        cwd=work,
        env=environment,
        timeout=60,
    )
    if os.environ.get("UPDATE_CASES"):
        update(case, done)
    assert done.stderr.decode() == content(case, "err", b"").decode()
    assert done.returncode == int(content(case, "status", b"0"))
    assert done.stdout == content(case, "out", b"")


def update(case: Path, done: "subprocess.CompletedProcess[bytes]") -> None:
    for part, found, usual in (
        ("out", done.stdout, b""),
        ("err", done.stderr, b""),
        ("status", b"%d\n" % done.returncode, b"0\n"),
    ):
        if found != usual:
            (case / part).write_bytes(found)
        else:
            (case / part).unlink(missing_ok=True)


def test_folders_are_commands_and_hold_nothing_else() -> None:
    assert CASES
    assert {case.parent.name for case in CASES} <= set(COMMANDS)
    for case in CASES:
        assert {path.name for path in case.iterdir()} <= PARTS, case
        assert case.parent.name in (case / "cmd").read_text()
