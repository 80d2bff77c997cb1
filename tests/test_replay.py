"""The schedule of a saved log, and the edges of reading timestamps."""

import json

import pytest

from agentpipe.replay import FASTEST, Schedule, moment, restamped, speed


def test_a_line_is_due_as_long_after_the_first_as_its_timestamp_says():
    schedule = Schedule()
    assert [schedule.due(at) for at in (100.0, 100.5, 103.0)] == [0.0, 0.5, 3.0]
    assert schedule.stamped == 3


def test_the_factor_divides_the_logs_time():
    schedule = Schedule(factor=2.0)
    assert [schedule.due(at) for at in (100.0, 101.0, 104.0)] == [0.0, 0.5, 2.0]


def test_a_silence_counts_at_most_as_the_cap_and_moves_everything_behind_it():
    schedule = Schedule(max_idle=2.0)
    assert [schedule.due(at) for at in (100.0, 101.0, 1000.0, 1001.0)] == [0.0, 1.0, 3.0, 4.0]


def test_the_cap_is_in_the_logs_time_before_the_speed():
    schedule = Schedule(factor=10.0, max_idle=2.0)
    assert [schedule.due(at) for at in (0.0, 100.0)] == [0.0, 0.2]


def test_a_line_without_a_time_is_due_with_the_line_before_it():
    schedule = Schedule()
    assert [schedule.due(at) for at in (None, 100.0, None, 101.0, None)] == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert schedule.stamped == 2


def test_time_never_runs_backwards():
    schedule = Schedule()
    assert [schedule.due(at) for at in (100.0, 102.0, 101.0, 101.5, 103.0)] == [0.0, 2.0, 2.0, 2.0, 3.0]


def test_the_schedule_does_not_drift_over_many_lines():
    schedule = Schedule()
    last = [schedule.due(1_700_000_000 + number / 1000) for number in range(100_001)][-1]
    assert last == pytest.approx(100.0, abs=1e-4)


def test_another_log_follows_at_once():
    schedule = Schedule()
    schedule.due(100.0)
    schedule.due(105.0)
    schedule.rewind()
    assert [schedule.due(at) for at in (9000.0, 9001.0)] == [5.0, 6.0]


def test_at_the_fastest_nothing_is_ever_waited_for():
    schedule = Schedule(factor=FASTEST)
    assert [schedule.due(at) for at in (100.0, 1e9)] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"timestamp":"2026-11-20T07:00:00.500Z"}', 1795158000.5),
        (b'{"timestamp": "2026-11-20T08:00:00.5+01:00"}', 1795158000.5),
        (b'{"timestamp":"2026-11-20T07:00:00.5"}', 1795158000.5),
        (b'{"timestamp":1795158000500}', 1795158000.5),
        (b'{"timestamp":1795158000.5}', 1795158000.5),
        (b'{"message":{"timestamp":"2026-11-20T07:00:00Z"}}', None),
        (b'{"timestamp":null}', None),
        (b'{"timestamp":"yesterday"}', None),
        (b'{"timestamp":{"at":1}}', None),
        (b'{"timestamp":1e999}', None),
        (b'"timestamp"', None),
        (b'["timestamp"]', None),
        (b'{"timestamp":"2026-11-20T07:0', None),
        (b'{"type":"result"}', None),
        (b"plain text with \xff", None),
    ],
)
def test_the_time_of_a_line_is_its_top_level_timestamp_or_unknown(line, expected):
    assert moment(line) == expected


@pytest.mark.parametrize(("text", "factor"), [("1", 1.0), ("0.5", 0.5), ("10x", 10.0), (" MAX ", FASTEST)])
def test_a_speed_is_a_factor_or_max(text, factor):
    assert speed(text) == factor


@pytest.mark.parametrize("text", ["0", "-1", "", "fast", "inf", "nan", "x"])
def test_what_is_no_speed_is_refused(text):
    with pytest.raises(ValueError, match="is not a speed"):
        speed(text)


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":1,"timestamp":"2026-11-20T07:00:00.000Z","big":12345678901234567890123}',
        b'{"in":{"timestamp":"2026-11-20T07:00:00.000Z"},"timestamp" : "2026-11-20T07:00:00.000Z"}\n',
        b'{"text":"\\"timestamp\\":\\"x\\"","timestamp":"2020-01-01T00:00:00Z","timestamp_":1}',
        b'{"\\u0061":1.50, "timestamp":1595158000500}',
        b'{"timestamp":1595158000.25 ,"z":[]}',
    ],
)
def test_a_restamped_line_differs_in_its_timestamp_alone(line):
    changed = restamped(line, 1795158000.5)
    assert moment(changed) == 1795158000.5
    assert {**json.loads(line), "timestamp": 0} == {**json.loads(changed), "timestamp": 0}
    assert len(changed.split(b"timestamp")) == len(line.split(b"timestamp"))
    if b"big" in line:
        assert b"12345678901234567890123" in changed


@pytest.mark.parametrize("line", [b'{"type":"result"}\n', b"no json", b'{"in":{"timestamp":1}}', b'{"timestamp":true}'])
def test_a_line_without_a_timestamp_is_not_restamped(line):
    assert restamped(line, 1795158000.5) == line
