"""What people hear of hubs that come and go, in made-up time."""

import pytest

from agentpipe.backoff import STABLE_S
from agentpipe.errors import AuthError, HubUnreachable
from agentpipe.io.absence import TOLD, Absence
from agentpipe.io.address import Address
from agentpipe.io.connect import LeftOut

A, B = (Address(f"ws://{name}/ws", name, 80) for name in "ab")


class Hubs:
    def __init__(self):
        self.at = 100.0
        self.told = []
        self._absence = Absence(self.told.append, lambda: self.at, "waiting")

    def go(self, address=A):
        self._absence.gone(HubUnreachable(str(address), "closed"))

    def come(self, address=A, more=""):
        self._absence.back(address, more)

    def refuse(self, address):
        self._absence.left_out(LeftOut(address, AuthError(str(address), "HTTP 401")))


@pytest.fixture
def hubs():
    return Hubs()


def test_the_first_connection_is_nothing_to_tell(hubs):
    hubs.come()
    assert hubs.told == []


def test_once_when_it_goes_and_once_when_it_comes(hubs):
    for _ in range(3):
        hubs.go()
        hubs.at += 1
    hubs.come(more=", 7 to send")
    hubs.come()
    assert hubs.told == [f"{A}: closed; waiting", f"{A}: back after 3.0 s, 7 to send"]


def test_of_several_each_is_named_and_the_one_that_is_there(hubs):
    hubs.go(A)
    hubs.at += 1
    hubs.refuse(B)
    hubs.come(B)
    assert hubs.told == [
        f"{A}: closed; waiting",
        f"{B}: HTTP 401; this hub is not asked again",
        f"{B}: there after 1.0 s",
    ]


def test_one_that_comes_and_goes_is_told_no_more_after_a_few_times_until_it_stays(hubs):
    for _ in range(50):
        hubs.go()
        hubs.at += 1
        hubs.come()
    assert len(hubs.told) == 2 * TOLD + 1
    assert hubs.told[-1] == f"{A}: closed; it comes and goes, told no more until it stays"
    hubs.at += STABLE_S
    hubs.go()
    hubs.come()
    assert len(hubs.told) == 2 * TOLD + 3
