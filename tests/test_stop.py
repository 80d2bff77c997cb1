"""When and how a process is brought to its end; time is an argument."""

import pytest

from agentpipe.stop import Descent, Limits, ladder, sweep


def steps(descent: Descent, until: float, every: float = 0.5) -> list[tuple[float, str]]:
    taken = []
    now = 0.0
    while now <= until:
        while (rung := descent.due(now)) is not None:
            taken.append((now, rung.signal))
        now += every
    return taken


def test_the_signal_asked_for_comes_first_then_term_then_kill() -> None:
    taken = steps(Descent(ladder("SIGINT", 5.0), 0.0), until=10.0)
    assert taken == [(0.0, "SIGINT"), (5.0, "SIGTERM"), (10.0, "SIGKILL")]


def test_term_is_not_sent_twice() -> None:
    taken = steps(Descent(ladder("SIGTERM", 5.0), 0.0), until=5.0)
    assert taken == [(0.0, "SIGTERM"), (5.0, "SIGKILL")]


def test_the_first_signal_is_for_the_group_alone_and_the_later_ones_for_everyone() -> None:
    for first in ("SIGINT", "SIGHUP", "SIGTERM"):
        rungs = ladder(first, 1.0)
        assert [rung.everyone for rung in rungs[:2]] == [False, True], first
    assert all(rung.everyone for rung in sweep(1.0))


def test_kill_is_repeated_and_given_up_after_a_while() -> None:
    descent = Descent(sweep(1.0), 0.0)
    taken = steps(descent, until=60.0)
    assert [signal for _, signal in taken].count("SIGKILL") > 10
    assert descent.spent
    assert descent.deadline is None
    assert descent.due(1000.0) is None


def test_hurrying_takes_the_next_rung_at_once() -> None:
    descent = Descent(ladder("SIGINT", 5.0), 0.0)
    assert descent.due(0.0).signal == "SIGINT"  # type: ignore[union-attr]
    assert descent.due(1.0) is None
    descent.hurry(1.0)
    assert descent.due(1.0).signal == "SIGTERM"  # type: ignore[union-attr]
    assert descent.due(1.0) is None
    assert descent.deadline == 6.0


def test_no_limit_means_no_deadline() -> None:
    limits = Limits(100.0)
    assert limits.deadline(100.0) is None
    assert limits.verdict(1e9, 100.0) is None
    assert not limits.reads


def test_timeout_counts_from_the_start_and_idle_from_the_last_output() -> None:
    limits = Limits(100.0, timeout_s=10.0, idle_s=3.0)
    assert limits.deadline(101.0) == 104.0
    assert limits.verdict(103.9, 101.0) is None
    assert limits.verdict(104.0, 101.0) == "idle_timeout"
    assert limits.verdict(110.0, 109.0) == "timeout"


def test_time_in_which_the_process_was_suspended_does_not_count() -> None:
    limits = Limits(100.0, timeout_s=10.0)
    limits.extend(50.0)
    assert limits.verdict(159.9, 100.0) is None
    assert limits.verdict(160.0, 100.0) == "timeout"


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"result","subtype":"success","result":"done"}',
        b'{"duration_ms":425,"result":"text first","type":"result"}',
        b'{"type":"turn.completed","usage":{}}',
        b'{"type":"turn.failed","error":{"message":"no"}}',
    ],
)
def test_a_result_starts_the_grace_however_its_keys_are_ordered(line: bytes) -> None:
    limits = Limits(100.0, result_grace_s=5.0)
    assert limits.reads
    limits.see([b'{"type":"system","subtype":"init"}', line])
    assert limits.deadline(107.0) == 112.0
    assert limits.verdict(112.0, 107.0) == "result"


@pytest.mark.parametrize(
    "line",
    [
        b"result",
        b'"result"',
        b'["type","result"]',
        b'{"type":"assistant","message":{"type":"result"}}',
        b'{"type":"result"',
        b'{"type":7}',
        b'{"type":"user","content":"\\"type\\":\\"result\\""}',
    ],
)
def test_nothing_else_is_taken_for_a_result(line: bytes) -> None:
    limits = Limits(100.0, result_grace_s=5.0)
    limits.see([line])
    assert limits.deadline(107.0) is None


@pytest.mark.parametrize("line", [b'{"type":"system","subtype":"init"}', b'{"type":"turn.started"}'])
def test_an_agent_that_takes_up_work_again_is_not_finished(line: bytes) -> None:
    """A run may hold several results: a background task wakes the agent again."""
    limits = Limits(100.0, result_grace_s=5.0)
    limits.see([b'{"type":"result"}', line])
    assert limits.verdict(1e6, 107.0) is None
    limits.see([b'{"type":"result"}', b'{"type":"system","subtype":"task_notification"}'])
    assert limits.verdict(1e6, 107.0) == "result"
