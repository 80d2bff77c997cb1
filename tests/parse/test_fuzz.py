"""A short search with a fixed seed; the long one is ``python tests/parse/fuzz.py --count 200000``."""

import signal

import pytest

from agentpipe.parse.claude.stream import Claude
from tests.parse.fuzz import _hangs, checked, inputs


def test_mutated_logs_raise_nothing_hang_nowhere_and_lose_no_line() -> None:
    before = signal.signal(signal.SIGALRM, _hangs)
    try:
        said = {name: checked(name, data, format_) for name, data, format_ in inputs(2000, seed=7)}
    finally:
        signal.signal(signal.SIGALRM, before)
    assert {name: problem for name, problem in said.items() if problem} == {}


def test_the_search_finds_an_adapter_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check bites: a fault in an adapter is found within few inputs."""

    def broken(*_: object) -> list[object]:
        raise IndexError("broken on purpose")

    monkeypatch.setattr(Claude, "read", broken)
    found = [checked(name, data, "claude") for name, data, _ in inputs(40, seed=7)]
    assert any(said and "broken on purpose" in said for said in found)
