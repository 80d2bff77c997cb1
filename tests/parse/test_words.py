"""Lines made of each format's own words: whatever they say, what is told is valid and the same however it is cut.

A format's words are the short texts in its adapter's source and in its story: types, fields, names of tools, states. So
a word that an adapter learns is tried without being listed here.
"""

import ast
import json
from collections.abc import Iterator
from functools import cache
from inspect import getsourcefile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentpipe.event import TERMINAL_TYPES, decode
from agentpipe.parse.detect import adapter
from tests.parse.lines import Line, encoded, lines_in, parsed_bytes, stage, types
from tests.parse.logs import EXAMPLES
from tests.parse.test_properties import MANY, SCALARS, VALIDATOR

STORIES: dict[str, list[Line]] = {
    log.format: [decode(line) for line in log.path.read_bytes().splitlines()]
    for log in EXAMPLES
    if log.format != "plain"
}

#: A text in a source that is longer, or has a space in it, is prose.
_LONGEST = 40


def _texts(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _in_story(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, found in value.items():
            yield key
            yield from _in_story(found)
    elif isinstance(value, list):
        for found in value:
            yield from _in_story(found)
    elif isinstance(value, str):
        yield value


@cache
def words(format_: str) -> list[str]:
    """The words of a format's adapter, of the modules beside it that are its own, and of its story."""
    main = Path(str(getsourcefile(adapter(format_))))
    mine = main.parent.glob("*.py") if main.parent.name == "claude" else main.parent.glob(f"{main.stem}*.py")
    found = {text for source in mine for text in _texts(source)}
    found |= {text for line in STORIES[format_] for text in _in_story(line)}
    return sorted(text for text in found if 0 < len(text) <= _LONGEST and " " not in text.strip())


@cache
def lines(format_: str) -> st.SearchStrategy[Line]:
    """Lines of the story with other words in some places, and lines that are nothing but words."""
    word = st.sampled_from(words(format_))
    shape = st.recursive(
        SCALARS | word | word | word,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(word, inner, max_size=5),
        max_leaves=12,
    )
    story = st.sampled_from(STORIES[format_])
    return st.builds(_changed, story, st.lists(st.tuples(st.integers(0, 60), shape), max_size=3)) | st.dictionaries(
        word, shape, max_size=8
    )


def _changed(line: Line, changes: list[tuple[int, Any]]) -> Line:
    """*line* with the places that *changes* count replaced; the first level stays an object."""
    value: Any = json.loads(json.dumps(line))
    for number, new in changes:
        places = list(_places(value))
        holder, key = places[number % len(places)] if places else (value, "type")
        holder[key] = new
    return dict(value)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in rows:
        yield value, key
        yield from _places(inner)


def told(data: bytes, format_: str, cuts: Any = ()) -> list[bytes]:
    """What is told of *data*, after all that must hold for it."""
    parse = stage(format=format_)
    made = parsed_bytes(data, parse, cuts)
    report = parse.report()
    assert report["in"] == lines_in(data)
    assert report["in"] == report["sources"] + report["ignored"] + report["raw"] + report["passed_through"]
    return [event.line for event in made]


def whole(made: list[bytes]) -> None:
    runs: dict[str, list[Line]] = {}
    for event in map(decode, made):
        VALIDATOR.validate(event)
        runs.setdefault(event["run_id"], []).append(event)
    for found in runs.values():
        kinds = types(found)
        assert (kinds[0], kinds.count("run_started")) == ("run_started", 1)
        assert kinds[-1] in TERMINAL_TYPES
        assert sum(kind in TERMINAL_TYPES for kind in kinds) == 1
        assert [event["sequence"] for event in found] == list(range(1, len(found) + 1))


@pytest.mark.parametrize("format_", sorted(STORIES))
@settings(MANY, max_examples=25)
@given(data=st.data())
def test_whatever_its_words_say_is_told_whole_and_the_same_however_it_is_cut(format_: str, data: st.DataObject) -> None:
    input_ = encoded(data.draw(st.lists(lines(format_), min_size=1, max_size=8)))
    forced = data.draw(st.sampled_from(["auto", format_]))
    cuts = data.draw(st.lists(st.integers(0, len(input_)), max_size=8))
    made = told(input_, forced)
    whole(made)
    assert told(input_, forced, cuts) == made
    assert told(input_, forced, range(1, len(input_))) == made


def test_each_format_has_words_enough() -> None:
    assert all(len(words(format_)) > 30 for format_ in STORIES)
