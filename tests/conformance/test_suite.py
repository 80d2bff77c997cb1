"""Finding a Python 2.7 and installing the suite: what counts as one, once, and with a reason when it fails."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.conformance import suite
from tests.conformance.suite import InstallFailed, Outcome, install, interpreter

#: As a Python 2.7 looks to who asks for the version; and as a shim of pyenv, with nothing behind it.
WORKS = "#!/bin/sh\nexit 0\n"
SHIM = "#!/bin/sh\necho 'pyenv: python2.7: command not found' >&2\nexit 127\n"

#: In place of virtualenv.py: makes an "environment" whose pip notes what it was asked.
VIRTUALENV = """#!/bin/sh
for target; do :; done
mkdir -p "$target/bin"
printf '#!/bin/sh\\necho "$@" >> "%s/calls"\\n' "$target" > "$target/bin/python"
chmod +x "$target/bin/python"
"""


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_shim_that_finds_nothing_is_no_interpreter(tmp_path: Path) -> None:
    _program(tmp_path / "shims" / "python2.7", SHIM)
    environment = {"PATH": f"{tmp_path / 'nowhere'}:{tmp_path / 'shims'}", "HOME": str(tmp_path)}
    assert interpreter(environment) is None
    behind = _program(tmp_path / "root" / "versions" / "2.7.18" / "bin" / "python2.7", WORKS)
    assert interpreter({**environment, "PYENV_ROOT": str(tmp_path / "root")}) == behind


def test_path_goes_before_pyenv_and_home_is_looked_through_too(tmp_path: Path) -> None:
    own = _program(tmp_path / ".pyenv" / "versions" / "2.7.3" / "bin" / "python2.7", WORKS)
    assert interpreter({"PATH": "", "HOME": str(tmp_path)}) == own
    first = _program(tmp_path / "bin" / "python2.7", WORKS)
    assert interpreter({"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}) == first


def test_another_python_of_that_name_is_no_interpreter(tmp_path: Path) -> None:
    _program(tmp_path / "python2.7", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert interpreter({"PATH": str(tmp_path), "HOME": str(tmp_path)}) is None


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "requirements.txt"
    path.write_text("autobahntestsuite==1\n")
    monkeypatch.setattr(suite, "REQUIREMENTS", path)
    return path


@pytest.fixture
def python27(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the interpreter, which runs the stand-in for virtualenv; and none of our own pip."""
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    return _program(tmp_path / "python2.7", VIRTUALENV)


def test_an_install_is_made_once_and_again_when_the_requirements_change(
    tmp_path: Path, requirements: Path, python27: Path
) -> None:
    cache = tmp_path / "cache"
    made = install(cache, python27)
    calls = cache / "environment" / "calls"
    assert calls.read_text().splitlines() == [
        f"-m pip --disable-pip-version-check install --quiet --no-deps --requirement {requirements}"
    ]
    assert install(cache, python27) == made
    assert len(calls.read_text().splitlines()) == 1
    calls.unlink()
    requirements.write_text("autobahntestsuite==2\n")
    assert install(cache, python27) == made
    assert calls.exists()


def test_a_failed_install_says_why_and_is_tried_again(tmp_path: Path, requirements: Path, python27: Path) -> None:
    broken = _program(tmp_path / "broken", "#!/bin/sh\necho 'no such version' >&2\nexit 1\n")
    with pytest.raises(InstallFailed, match="no such version"):
        install(tmp_path / "cache", broken)
    with pytest.raises(InstallFailed, match="nowhere"):
        install(tmp_path / "cache", tmp_path / "nowhere")
    assert install(tmp_path / "cache", python27).exists()


def test_every_requirement_is_pinned_and_none_says_where_it_comes_from() -> None:
    lines = [line for line in suite.REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 and "/" not in line and " " not in line for line in lines)
    assert "autobahntestsuite==25.10.1" in lines


@pytest.mark.parametrize(
    ("behavior", "close", "failed"),
    [
        ("OK", "OK", False),
        ("NON-STRICT", "OK", False),
        ("INFORMATIONAL", "INFORMATIONAL", False),
        ("FAILED", "OK", True),
        ("UNIMPLEMENTED", "OK", True),
        ("OK", "FAILED", True),
        ("OK", "WRONG CODE", True),
        ("OK", "UNCLEAN", True),
    ],
)
def test_an_end_that_is_not_as_it_should_be_is_a_failure_too(behavior: str, close: str, *, failed: bool) -> None:
    assert Outcome(behavior, close).failed is failed
