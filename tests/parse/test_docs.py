"""The documents say what the code does."""

import json
import re
from pathlib import Path

import jsonschema

from agentpipe import catalog
from agentpipe.parse.claude.system import _LINES, _SUBTYPES
from agentpipe.parse.detect import ADAPTERS
from agentpipe.parse.options import FORMATS
from agentpipe.payload import PAYLOADS, event_schema

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = [json.loads(line) for line in (DOCS / "events.md").read_text().splitlines() if line.startswith('{"type"')]


def test_every_type_has_a_valid_example() -> None:
    validator = jsonschema.Draft202012Validator(event_schema())
    for example in EXAMPLES:
        validator.validate(example)
    assert {example["type"] for example in EXAMPLES} == set(PAYLOADS)


def test_formats_are_the_catalog_s_and_documented() -> None:
    assert set(FORMATS) == set(ADAPTERS) == set(catalog.ADAPTERS)
    documented = re.findall(r"^\| `([\w-]+)` \| ", (DOCS / "formats.md").read_text(), re.MULTILINE)
    assert set(FORMATS) <= set(documented)
    for name, row in catalog.ADAPTERS.items():
        assert row.place == ADAPTERS[name]
        assert row.load().name == name


def test_what_claude_code_says_is_in_the_table() -> None:
    text = (DOCS / "formats" / "claude.md").read_text()
    assert {name for name in {*_SUBTYPES, *_LINES} if f"`{name}`" not in text and f"/{name}`" not in text} == set()
