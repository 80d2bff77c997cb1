"""The tables are sorted, complete and true."""

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

from agentpipe import catalog
from agentpipe.catalog import ADAPTERS, COMMANDS, STAGES, Row, stage_spec
from agentpipe.stage import StageSpec

TABLES = {name: value for name, value in vars(catalog).items() if isinstance(value, dict) and name.isupper()}
ROWS = [(table, name) for table, rows in TABLES.items() for name in rows]


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_sorted_and_their_rows_are_rows(table: str) -> None:
    rows = TABLES[table]
    assert list(rows) == sorted(rows)
    assert all(isinstance(row, Row) and row.summary for row in rows.values())


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_every_row_leads_to_something(table: str, name: str) -> None:
    assert TABLES[table][name].load() is not None


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_specified_under_its_own_name(name: str) -> None:
    spec = stage_spec(name)
    assert isinstance(spec, StageSpec)
    assert spec.name == name
    assert spec.summary == STAGES[name].summary
    assert COMMANDS[name].summary == spec.summary
    assert spec.from_mapping({}).counts.read == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_own_name_and_the_summary_of_its_row(name: str) -> None:
    command = COMMANDS[name].load()
    assert isinstance(command, click.Command)
    assert command.name == name
    assert (command.short_help or "") == COMMANDS[name].summary


def test_every_adapter_module_of_the_package_has_a_row() -> None:
    import agentpipe.parse

    package = Path(agentpipe.parse.__file__ or "").parent
    named = {row.place.partition(":")[0] for row in ADAPTERS.values()}
    holding = set()
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        module = importlib.import_module(".".join(("agentpipe", *parts)).removesuffix(".__init__"))
        own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
        if any(isinstance(cls, type) and isinstance(getattr(cls, "name", None), str) and cls.name for cls in own):
            holding.add(module.__name__)
    assert {place for place in named if place.startswith("agentpipe.parse.")} >= holding


def test_reading_the_tables_imports_nothing_they_name() -> None:
    code = "import sys, agentpipe.catalog; print(*sorted(m for m in sys.modules if m.startswith('agentpipe')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["agentpipe", "agentpipe.catalog", "agentpipe.version"]


def test_an_unknown_stage_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        stage_spec("nothing")
