"""The killer: a schedule from a seed alone, and processes that are really gone and really back."""

import os
import signal
import subprocess

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


def test_it_kills_for_good_and_starts_again_what_has_a_recipe() -> None:
    running: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str) -> None:
        running[name] = subprocess.Popen(["sleep", "60"])

    def pids(name: str) -> list[int]:
        return [running[name].pid] if running[name].poll() is None else []

    for name in ("hub", "publisher"):
        start(name)
    first = dict(running)
    killer = Killer(
        {"hub": Target(lambda: pids("hub"), lambda: start("hub")), "publisher": Target(lambda: pids("publisher"))}
    )
    try:
        assert killer.strike(["hub", "publisher"]) == ["hub", "publisher"]
        assert [process.wait(30) for process in first.values()] == [-signal.SIGKILL] * 2
        assert running["publisher"] is first["publisher"]
        os.kill(running["hub"].pid, 0)  # another one, and alive
        assert running["hub"].pid != first["hub"].pid
        assert killer.strike(["publisher"]) == []  # it is gone: nothing to kill
        assert killer.kills == {"hub": 1, "publisher": 1}
    finally:
        for process in running.values():
            process.kill()
            process.wait()
