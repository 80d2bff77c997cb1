"""Imports point down only (DESIGN, layout): the rule over the syntax tree, and that the rule bites.

A module may import its own room and the rows below its own; a row that is *open* may also import within the row.
Everything below the world is pure: of the standard library it may import what is on the list, and nothing else.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"agentpipe": ROOT / "agentpipe", "agentpipe_cli": ROOT / "cli" / "agentpipe_cli"}


class Row(NamedTuple):
    """Rooms of one height. A room is one subject: modules, or a package (``name.*``), that may know each other."""

    name: str
    rooms: tuple[str, ...]
    open: bool = False


ROWS = (
    Row("errors", ("errors", "version")),
    Row("event", ("event",)),
    Row("foundation", ("backoff", "intake", "ndjson", "quantity", "stage", "stop"), open=True),
    Row("parts", ("holes", "merge", "missing", "payload", "progress"), open=True),
    Row(
        "stages",
        (
            "throttle.*",
            "buffer.*",
            "parse.*",
            "process_event",
            "replay",
            "stats.*",
            "history memory_log",
            "runs",
            "inflight outbox",
        ),
    ),
    Row(
        "hub",
        (
            "accumulate",
            "admission",
            "blocks",
            "client_frame",
            "content",
            "embedded",
            "following",
            "hub",
            "reading",
            "request",
            "store",
            "wire",
        ),
        open=True,
    ),
    Row("catalog", ("catalog",)),
    Row("world", ("io.*",)),
    Row("command line", ("agentpipe_cli.*",)),
)
#: The name of the package itself stands for its public names: it may be imported from the world upwards.
FRONT = "agentpipe"

#: What the pure layer may use: values in, values out. Time, randomness and new ids arrive as arguments.
PURE = frozenset(
    {"array", "base64", "binascii", "bisect", "collections", "contextlib", "dataclasses", "datetime", "difflib",
     "enum", "functools", "hashlib", "heapq", "html", "itertools", "json", "math", "msgspec", "operator",
     "orjson", "re", "string", "struct", "textwrap", "types", "typing", "unicodedata"}
)  # fmt: skip
#: Who may use one thing more, and why.
ALLOWED = {
    "agentpipe.catalog": {"importlib"},  # it loads what its rows name
    "agentpipe.parse.detect": {"importlib"},  # it loads the formats that its table names, when they are asked for
    "agentpipe.parse.stage": {"uuid"},  # a run whose agent has no id of its own gets a fresh one
    "agentpipe.throttle.stage": {"random"},  # seeded by an option: the same input, the same sample
}
#: What only the command line may use.
CLICK = {"click"}


class Breach(NamedTuple):
    """One import that the rule forbids."""

    path: str
    line: int
    imported: str
    rule: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: imports {self.imported}: {self.rule}"


class Place(NamedTuple):
    height: int
    room: str


def place(module: str) -> Place | None:
    """The row and room of *module*; None for one that the table does not list."""
    name = module.removeprefix("agentpipe.")
    for height, row in enumerate(ROWS):
        for room in row.rooms:
            for listed in room.split():
                package = listed.removesuffix(".*")
                if name == listed or (listed.endswith(".*") and (name == package or name.startswith(package + "."))):
                    return Place(height, room)
    return None


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def imports(source: str, module: str, *, package: bool = False) -> Iterator[tuple[int, str]]:
    """Every import of *source* with its line, also inside functions and under TYPE_CHECKING; ``from`` a package of
    ours gives the module that is meant.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: None if package and node.level == 1 else -(node.level - package)]
                base = ".".join([*parents, *filter(None, [base])])
            for alias in node.names:
                below = f"{base}.{alias.name}"
                yield node.lineno, below if is_ours(base) and exists(below) else base


def exists(module: str) -> bool:
    top, *rest = module.split(".")
    path = PACKAGES[top].joinpath(*rest)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def breaches(source: str, module: str, path: str, *, package: bool = False) -> Iterator[Breach]:
    """What in *source*, the text of *module*, breaks the rule."""
    here = place(module)
    if module == FRONT:
        here = Place(len(ROWS), FRONT)  # it may name anything; only the world may import it
    if here is None:
        yield Breach(path, 1, module, "this module is in no row of tests/test_layers.py: give it its place")
        return
    for line, imported in imports(source, module, package=package):
        rule = broken(module, here, imported)
        if rule:
            yield Breach(path, line, imported, rule)


def broken(module: str, here: Place, imported: str) -> str | None:
    """The rule that *imported* breaks in *module*, or None."""
    top = imported.partition(".")[0]
    pure = here.height < height_of("world")
    if not is_ours(imported):
        if top in CLICK and here.height < height_of("command line"):
            return "click lives in the command line only"
        if pure and top not in PURE | ALLOWED.get(module, set()):
            return f"row {ROWS[here.height].name!r} is pure: no clock, files, network, processes, randomness"
        return None
    if imported == FRONT:
        return "a pure module does not import the package's front" if pure else None
    there = place(imported)
    if there is None:
        return f"{imported} is in no row of tests/test_layers.py"
    if there.height > here.height:
        return f"points up, from row {ROWS[here.height].name!r} to row {ROWS[there.height].name!r}"
    if there.height == here.height and there.room != here.room and not ROWS[here.height].open:
        return f"siblings of row {ROWS[here.height].name!r} do not know each other"
    return None


def height_of(name: str) -> int:
    return [row.name for row in ROWS].index(name)


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), path


def test_imports_point_down_only() -> None:
    found = [
        breach
        for module, path in modules()
        for breach in breaches(
            path.read_text(), module, str(path.relative_to(ROOT)), package=path.name == "__init__.py"
        )
    ]
    assert not found, "\n" + "\n".join(map(str, found))


def test_the_table_lists_only_what_exists_and_nothing_twice() -> None:
    listed = [name for row in ROWS for room in row.rooms for name in room.split()]
    assert len(listed) == len(set(listed))
    gone = [name for name in listed if not exists_at_all(name)]
    assert not gone, f"in the table but not in the package: {gone}"


def exists_at_all(listed: str) -> bool:
    name = listed.removesuffix(".*")
    module = name if is_ours(name) else f"agentpipe.{name}"
    top, *rest = module.split(".")
    return exists(module) or PACKAGES[top].joinpath(*rest).is_dir()


@pytest.mark.parametrize(
    ("module", "source", "rule"),
    [
        ("agentpipe.throttle", "import time", "is pure"),
        ("agentpipe.parse.claude", "def f():\n    from pathlib import Path", "is pure"),
        ("agentpipe.hub", "import asyncio.events", "is pure"),
        ("agentpipe.wire", "import aiohttp", "is pure"),
        ("agentpipe.event", "import random", "is pure"),
        ("agentpipe.stage", "import click", "click lives"),
        ("agentpipe.io.drive", "from click import echo", "click lives"),
        ("agentpipe.event", "from agentpipe.stage import Stage", "points up"),
        ("agentpipe.stage", "from agentpipe.io import clock", "points up"),
        ("agentpipe.io.drive", "from agentpipe_cli.options import warn", "points up"),
        ("agentpipe.throttle", "from agentpipe import hub", "points up"),
        ("agentpipe.errors", "from . import event", "points up"),
        ("agentpipe.parse.claude", "from ..catalog import STAGES", "points up"),
        ("agentpipe.throttle", "from agentpipe.buffer import SPEC", "do not know each other"),
        ("agentpipe.parse.claude", "import agentpipe.history", "do not know each other"),
        ("agentpipe.event", "if TYPE_CHECKING:\n    from agentpipe.stage import Stage", "points up"),
        ("agentpipe.stage", "from agentpipe import Event", "front"),
        ("agentpipe.newcomer", "", "give it its place"),
    ],
)
def test_a_forbidden_import_is_found_and_named(module: str, source: str, rule: str) -> None:
    (found,) = breaches(source, module, "agentpipe/somewhere.py")
    assert rule in found.rule
    assert str(found).startswith(f"agentpipe/somewhere.py:{source.count(chr(10)) + 1}: imports ")
    assert found.imported.split(".")[-1] in source or found.imported == module


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "agentpipe.throttle",
            "import re, math\nfrom agentpipe.event import Event\nfrom agentpipe.throttle.gcra import Meter",
        ),
        ("agentpipe.parse.claude", "from agentpipe.parse.vocabulary.fields import text\nfrom . import tools"),
        ("agentpipe.catalog", "from importlib import import_module\nfrom agentpipe.stage import StageSpec"),
        (
            "agentpipe.io.serve.app",
            "import os, asyncio\nfrom agentpipe import wire\nfrom agentpipe.io.clock import now",
        ),
        ("agentpipe_cli.run", "import click\nfrom agentpipe.io.run.process import run_command"),
        ("agentpipe.intake", "from agentpipe.ndjson import Splitter"),
    ],
)
def test_what_is_allowed_is_allowed(module: str, source: str) -> None:
    assert list(breaches(source, module, "x.py")) == []
