"""Signals as something a poll loop can wait for."""

import os
import select
import signal
import subprocess
import sys

import pytest

from agentpipe.io.signals import SignalWatch, die_of


def test_signals_are_counted_and_wake_a_poll() -> None:
    with SignalWatch() as watch:
        assert not select.select([watch.fileno()], [], [], 0)[0]
        os.kill(os.getpid(), signal.SIGINT)
        assert select.select([watch.fileno()], [], [], 20)[0]
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        watch.drain()
        assert not select.select([watch.fileno()], [], [], 0)[0]
        assert (watch.interrupts, watch.ended_by) == (1, signal.SIGTERM)


def test_everything_is_put_back_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    open_before = len(os.listdir("/proc/self/fd"))
    with SignalWatch():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with SignalWatch() as watch:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert watch.ended_by is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGPIPE])
def test_we_die_of_a_signal_as_if_we_had_never_caught_it(number: signal.Signals) -> None:
    code = f"import signal; from agentpipe.io.signals import die_of; die_of(signal.Signals({int(number)}))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -number
    assert callable(die_of)
