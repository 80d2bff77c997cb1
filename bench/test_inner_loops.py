"""The inner loops, timed by pytest-benchmark: 1,000 events of about 254 bytes a round."""

import orjson
import pytest

from agentpipe.event import make, peek, peek_lines
from agentpipe.intake import Intake
from agentpipe.ndjson import Splitter, join
from bench.data import events

LINES = events(1000)
BLOCK = join(LINES)


def test_split(benchmark) -> None:
    assert len(benchmark(lambda: Splitter().feed(BLOCK))) == 1000


def test_peek_lines(benchmark) -> None:
    assert len(benchmark(peek_lines, LINES)[0]) == 1000


def test_peek_one_by_one(benchmark) -> None:
    assert len(benchmark(lambda: [peek(line) for line in LINES])) == 1000


def test_orjson_loads_for_comparison(benchmark) -> None:
    assert len(benchmark(lambda: [orjson.loads(line) for line in LINES])) == 1000


def test_intake(benchmark) -> None:
    assert len(benchmark(lambda: Intake().feed(BLOCK, 0.0))) == 1000


def test_make(benchmark) -> None:
    payload = {"message_id": "m1", "index": 0, "text": "reads writes tests passes", "final": True}

    def thousand() -> list[object]:
        return [
            make("agent_output", payload, run_id="r", agent_id="claude", sequence=n, at="2026-11-20T07:00:00.123Z")
            for n in range(1, 1001)
        ]

    assert len(benchmark(thousand)) == 1000


@pytest.mark.parametrize("name", ["throttle", "buffer"])
def test_stage_that_changes_nothing(benchmark, name: str) -> None:
    from agentpipe.catalog import stage_spec

    spec = stage_spec(name)
    found, _ = peek_lines(LINES)

    def through() -> int:
        stage = spec.from_mapping({"rate": 0.0} if name == "throttle" else {})
        passed = len(stage.feed(found, 0.0))
        while stage.deadline is not None and stage.deadline <= 1.0:
            passed += len(stage.wake(1.0))
        return passed + len(stage.finish(1.0))

    assert benchmark(through) == 1000
