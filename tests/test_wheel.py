"""What a user installs: the wheel holds the two packages, the page and the manual, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(folder), str(ROOT)], check=True, timeout=150, stdin=subprocess.DEVNULL)
    [made] = folder.glob("agentpipe-*.whl")
    return made


def test_the_wheel_holds_what_is_installed_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entries = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("agentpipe-")} == {"agentpipe", "agentpipe_cli"}
    assert "agentpipe/web/index.html" in names
    assert "agentpipe/py.typed" in names
    assert "agentpipe = agentpipe_cli.__main__:main" in entries
    manual = {Path(name).name for name in names if "/man/man1/" in name}
    assert manual == {page.name for page in (ROOT / "man").glob("*.1")}


def test_what_the_wheel_installs_works(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, with the libraries of this one behind it."""
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, timeout=150)
    code = "import agentpipe; print(agentpipe.__file__); from agentpipe_cli.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "--version"],
        env={"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    place, version = done.stdout.splitlines()
    assert place.startswith(str(target))
    assert version.startswith("agentpipe ")
