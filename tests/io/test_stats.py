"""Reading logs for statistics: no log breaks a figure, whatever became of its bytes."""

from pathlib import Path

import pytest

from agentpipe.event import encode
from agentpipe.io.stats import read_logs, shown
from tests.parse.fuzz import corpus, inputs


@pytest.mark.skipif(not corpus(), reason="there are no logs to mutate")
def test_mutated_logs_raise_nothing_and_their_times_add_up(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for name, data, _ in inputs(400, seed=11):
        path.write_bytes(data)
        said: list[str] = []
        report, signal = read_logs([str(path)], said.append)
        assert signal is None
        assert len(said) <= 20
        for run in report["runs"]:
            assert sum(run["time_ms"].values()) == run.get("duration_ms", 0), name
        assert encode(report)
        shown(report, json=False).encode()


def test_lines_cut_anywhere_give_the_same_report(tmp_path: Path) -> None:
    log = Path(__file__).parents[2] / "docs" / "samples" / "tour.ndjson"
    one, cut = tmp_path / "one.ndjson", tmp_path / "cut.ndjson"
    data = log.read_bytes()
    one.write_bytes(data)
    cut.write_bytes(data.rstrip(b"\n"))
    reports = [read_logs([str(path)], print)[0] for path in (one, cut)]
    assert reports[0] == reports[1]
