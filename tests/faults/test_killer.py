"""The killer: a schedule from a seed alone, and processes that are really gone and really back."""

import functools
import signal
import subprocess
from contextlib import closing

import pytest

from tests.faults.lab.killer import SEED_VARIABLE, Killer, Strike, Target, chosen_seed, schedule

TARGETS = ("publisher", "buffer", "hub")
LINE = Strike(0.0, "line", "cut")


def test_a_seed_gives_the_same_strikes_of_a_round_whatever_was_played_before() -> None:
    played = [schedule(7, number, TARGETS, 1.0, faults=[LINE]) for number in range(50)]
    assert [schedule(7, number, TARGETS, 1.0, faults=[LINE]) for number in (49, 3)] == [played[49], played[3]]
    assert played != [schedule(8, number, TARGETS, 1.0, faults=[LINE]) for number in range(50)]


def test_a_schedule_strikes_everybody_at_all_moments_sometimes_two_at_once() -> None:
    rounds = [schedule(7, number, TARGETS, 1.0, most=3, faults=[LINE]) for number in range(200)]
    strikes = [strike for found in rounds for strike in found]
    assert {strike.target for strike in strikes} == {*TARGETS, "line"}
    assert all(0 <= strike.at_s < 1 for strike in strikes)
    assert min(strike.at_s for strike in strikes) < 0.05
    assert max(strike.at_s for strike in strikes) > 0.95
    assert all(1 <= sum(strike.how == "kill" for strike in found) <= 6 for found in rounds)
    assert 0.1 < sum(strike.again_s is not None for strike in strikes) / len(strikes) < 0.4
    assert any(len({strike.at_s for strike in found}) < len(found) for found in rounds)
    assert all(found == sorted(found, key=lambda strike: strike.at_s) for found in rounds)


def test_the_seed_is_printed_and_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(SEED_VARIABLE, raising=False)
    seed = chosen_seed()
    assert capsys.readouterr().out == f"{SEED_VARIABLE}={seed}\n"
    monkeypatch.setenv(SEED_VARIABLE, str(seed))
    assert chosen_seed() == seed


class Sleepers:
    """Processes by name; every one that was ever started is in ``all``."""

    def __init__(self, *names: str) -> None:
        self.all: list[subprocess.Popen[bytes]] = []
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        for name in names:
            self.start(name)

    def start(self, name: str) -> None:
        self.running[name] = subprocess.Popen(["sleep", "60"])
        self.all.append(self.running[name])

    def pids(self, name: str) -> list[int]:
        return [self.running[name].pid] if self.running[name].poll() is None else []

    def close(self) -> None:
        for process in self.all:
            process.kill()
            process.wait()


def test_it_kills_for_good_and_starts_again_what_has_a_recipe() -> None:
    with closing(Sleepers("hub", "publisher")) as sleepers:
        hub = Target(lambda: sleepers.pids("hub"), lambda: sleepers.start("hub"))
        killer = Killer({"hub": hub, "publisher": Target(lambda: sleepers.pids("publisher"))})
        assert killer.strike([Strike(0, "publisher"), Strike(0, "hub"), Strike(0.1, "hub")]) == ["publisher", "hub"]
        assert [process.wait(30) for process in sleepers.all[:2]] == [-signal.SIGKILL] * 2
        assert len(sleepers.all) == 3
        assert sleepers.pids("hub") == [sleepers.all[2].pid]
        assert killer.strike([Strike(0, "publisher")]) == []  # it is gone: nothing to kill
        assert killer.kills == {"hub": 1, "publisher": 1}


def test_it_kills_again_what_is_just_starting() -> None:
    with closing(Sleepers("hub")) as sleepers:
        again = functools.partial(sleepers.start, "hub")
        killer = Killer({"hub": Target(lambda: sleepers.pids("hub"), again, again)})
        killer.strike([Strike(0, "hub", again_s=0.01)])
        assert [process.wait(30) for process in sleepers.all[:2]] == [-signal.SIGKILL] * 2
        assert sleepers.pids("hub") == [sleepers.all[2].pid]
        assert killer.kills == {"hub": 2}
