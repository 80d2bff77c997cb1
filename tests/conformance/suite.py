"""The Autobahn suite: finding a Python 2.7 for it, installing it into a cache, and running it.

The rule this module keeps: an install is there whole or not at all, is made once, and touches nothing but the cache;
an interpreter is one only if it runs (a shim that finds none behind it is not).
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["InstallFailed", "Outcome", "install", "interpreter", "run"]

REQUIREMENTS = Path(__file__).with_name("requirements.txt")

#: The last release that can make an environment of Python 2.7 and carries what that needs with it.
_VIRTUALENV = "virtualenv==16.7.12"

#: 65 MB at most; a slow line gets ten minutes.
_INSTALL_TIMEOUT_S = 600

_IS_27 = "import sys, ssl; sys.exit(sys.version_info[:2] != (2, 7))"

_MAIN = "import sys; sys.argv[0] = 'wstest'; from autobahntestsuite.wstest import run; run()"


class InstallFailed(Exception):
    """The suite could not be installed; the text says why."""


class Outcome(NamedTuple):
    """How one case went, in Autobahn's words: ``OK NON-STRICT INFORMATIONAL UNIMPLEMENTED FAILED`` and, for the close,
    ``WRONG CODE``, ``UNCLEAN`` or ``FAILED BY CLIENT`` too.
    """

    behavior: str
    close: str

    @property
    def failed(self) -> bool:
        """Whether the server did what no endpoint may. A wrong close code is one; so is an unclean end."""
        return self.behavior not in _GOOD or self.close not in _GOOD


_GOOD = ("OK", "NON-STRICT", "INFORMATIONAL")


def interpreter(environment: Mapping[str, str]) -> Path | None:
    """A Python 2.7 that runs: from PATH, else one of pyenv's; None when there is none."""
    return next((path for path in _candidates(environment) if _runs(path)), None)


def _candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    for folder in environment.get("PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder) / "python2.7"
    for root in (environment.get("PYENV_ROOT", ""), os.path.join(environment.get("HOME", ""), ".pyenv")):
        if root:
            yield from sorted(Path(root).glob("versions/2.7*/bin/python2.7"))


def _runs(path: Path) -> bool:
    try:
        done = subprocess.run([path, "-c", _IS_27], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def install(cache: Path, python: Path) -> Path:
    """The interpreter of an environment below *cache* that has the suite; the first who asks makes it, others wait.

    It is made anew when the requirements change. Raises InstallFailed.
    """
    target = cache / "environment"
    stamp = target / "requirements.txt"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_bytes() != REQUIREMENTS.read_bytes():
            _install_into(target, python, cache / "tool")
            shutil.copyfile(REQUIREMENTS, stamp)  # last: without it there is no install
    return target / "bin" / "python"


def _install_into(target: Path, python: Path, tool: Path) -> None:
    for folder in (target, tool):
        shutil.rmtree(folder, ignore_errors=True)
    # Our own pip fetches the tool, since not every Python 2.7 has one.
    pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _step([sys.executable, *pip, "--no-deps", "--target", tool, _VIRTUALENV])
    _step([python, tool / "virtualenv.py", "--no-download", "--quiet", target])
    # The list is complete; and what the packages say they need includes an extra that has to be compiled.
    _step([target / "bin" / "python", *pip, "--no-deps", "--requirement", REQUIREMENTS])


def _step(command: Sequence[str | Path]) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUALENV"))}
    try:
        done = subprocess.run(
            command, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallFailed(str(error)) from error
    if done.returncode != 0:
        shown = " ".join(map(str, command))
        raise InstallFailed(f"{shown}: {(done.stderr or done.stdout).strip()[-800:]}")


def run(
    python: Path,
    folder: Path,
    servers: Mapping[str, str],
    cases: Sequence[str],
    *,
    timeout_s: float,
) -> dict[str, dict[str, Outcome]]:
    """Play *cases* (``"7.*"``) against each of *servers* (name → URL): name → case → outcome."""
    reports = folder / "reports"
    specification = {
        "outdir": str(reports),
        "servers": [{"agent": name, "url": url} for name, url in servers.items()],
        "cases": list(cases),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    path = folder / "specification.json"
    path.write_text(json.dumps(specification))
    command = [python, "-c", _MAIN, "--mode", "fuzzingclient", "--spec", path]
    with (folder / "output").open("wb") as output:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=timeout_s
        )
    index = reports / "index.json"
    said = (folder / "output").read_text(errors="replace")[-2000:]
    assert done.returncode == 0, said
    assert index.exists(), said
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(index.read_text())
    return {
        name: {case: Outcome(told["behavior"], told["behaviorClose"]) for case, told in sorted(outcomes.items())}
        for name, outcomes in found.items()
    }
