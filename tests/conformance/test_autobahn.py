"""The Autobahn WebSocket suite against the hub, and against the library beneath it in the same run.

What is claimed: the hub breaks no rule that aiohttp keeps. Every failure of either is named here, so that one that is
gone is noticed as well as a new one.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.conftest import Server
from tests.conformance.suite import Outcome, run

#: Everything but 9.* (limits and performance; a sample of it is below), 12.* and 13.* (compression, which the hub does
#: not offer).
PROTOCOL = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")
PROTOCOL_CASES = 247

#: Messages of text and of bytes of 64 KiB, 256 KiB and 1 MiB, the most that the hub takes; 1 MiB in chops of 2 KiB.
LARGE = ("9.1.1", "9.1.2", "9.1.3", "9.2.1", "9.2.2", "9.2.3", "9.5.6", "9.6.6")

#: What each fails. 7.9.5: a close frame with 1006, which none may carry, is answered by aiohttp as if it were a good
#: one; the hub answers it with 1002.
FAILED: dict[str, set[str]] = {"hub": set(), "library": {"7.9.5"}}

#: The run takes about 25 s; the first one installs the suite.
_TIMEOUT_S = 300

pytestmark = pytest.mark.timeout(900)

Results = dict[str, dict[str, Outcome]]


@pytest.fixture(scope="module")
def results(autobahn: Path, echo: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory) -> Results:
    urls = {which: echo(which).url.replace("http", "ws", 1) + "ws" for which in FAILED}
    return run(autobahn, tmp_path_factory.mktemp("autobahn"), urls, [*PROTOCOL, *LARGE], timeout_s=_TIMEOUT_S)


def test_every_case_was_played(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print()
        for which, outcomes in results.items():
            counted = Counter(outcome.behavior for outcome in outcomes.values())
            print(f"Autobahn, {which}: {', '.join(f'{count} {name}' for name, count in counted.most_common())}")
    assert {which: len(outcomes) for which, outcomes in results.items()} == dict.fromkeys(
        FAILED, PROTOCOL_CASES + len(LARGE)
    )


@pytest.mark.parametrize("which", FAILED)
def test_the_failures_are_those_that_are_named(results: Results, which: str) -> None:
    assert {case for case, outcome in results[which].items() if outcome.failed} == FAILED[which]


def test_the_hub_fails_nothing_that_the_library_beneath_does_not(results: Results) -> None:
    worse = [case for case, outcome in results["hub"].items() if outcome.failed and not results["library"][case].failed]
    assert worse == []


def test_the_hub_is_as_strict_as_the_library_beneath(results: Results) -> None:
    """A case that aiohttp passes as it should is not merely tolerated at the hub."""
    lax = {
        case: outcome.behavior
        for case, outcome in results["hub"].items()
        if outcome.behavior != results["library"][case].behavior == "OK"
    }
    assert lax == {}
