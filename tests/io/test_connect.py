"""Connecting: what can pass is tried again, what cannot is not, and nobody waits for it."""

import contextlib
import dataclasses
import random
import select
import socket
import threading
import time

import pytest

from agentpipe.backoff import CEILING_S, ceiling
from agentpipe.errors import AuthError, HubUnreachable, ProtocolError
from agentpipe.io.address import Address, address
from agentpipe.io.connect import CONNECT_S, Connector, LeftOut, connected
from agentpipe.io.link import Link
from tests.io.hubs import PATIENCE_S
from tests.io.raw_hub import RawHub


def at(port, **more):
    return Address(f"ws://127.0.0.1:{port}/ws", "127.0.0.1", port, **more)


def outcomes(connector, count):
    """The first *count* things that happen."""
    found = []
    limit = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert select.select([connector.fileno()], [], [], limit - time.monotonic())[0], found
        found += connector.outcomes()
    return found


@dataclasses.dataclass
class Lost:
    """What the connector asks of a connection that was lost."""

    address: Address
    since: float = 0.0
    at_once: bool = False
    stay_away_s: float = 0.0


class Answering:
    """A server that answers whatever it is asked with *answer*, and keeps what it was asked."""

    def __init__(self, answer, *, after_s=0.0):
        self._after_s = after_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.asked = []
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        client, _ = self._listener.accept()
        with client:
            self.asked.append(client.recv(65536))
            time.sleep(self._after_s)
            try:
                client.sendall(self._answer)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
            except OSError:  # ENOTCONN too, which is no ConnectionError
                return  # the client has left, with our answer unread

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self._thread.join()
        self._listener.close()


def test_a_hub_that_is_there_is_connected_to_once():
    with RawHub() as hub:
        connector = Connector([address(hub.url)])
        connector.start()
        (link,) = outcomes(connector, 1)
        assert isinstance(link, Link)
        assert "User-Agent: agentpipe/" in hub.headers[0]
        assert "Origin:" not in hub.headers[0]
        link.drop()


def test_a_refused_connection_is_tried_again_until_told_to_stop():
    connector = Connector([at(1)])
    connector.start()
    assert all(isinstance(outcome, HubUnreachable) for outcome in outcomes(connector, 3))
    connector.stop()
    connector._thread.join(timeout=PATIENCE_S)
    assert not connector._thread.is_alive()


def test_stopping_ends_the_wait_before_a_connection():
    lost = Lost(at(1), stay_away_s=50.0)
    connector = Connector([at(1)], clock=lambda: 100.0)
    connector.start(lost)
    begun = time.monotonic()
    connector.stop()
    connector._thread.join(timeout=PATIENCE_S)
    assert not connector._thread.is_alive()
    assert time.monotonic() - begun < 20


def test_a_hub_that_comes_back_is_found():
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    connector = Connector([at(port)])
    connector.start()
    outcomes(connector, 1)
    with RawHub(port=port):
        limit = time.monotonic() + PATIENCE_S
        link = None
        while link is None:
            assert time.monotonic() < limit
            link = next((found for found in outcomes(connector, 1) if isinstance(found, Link)), None)
        link.drop()


def test_of_several_hubs_the_first_that_answers_is_taken_at_once():
    with RawHub() as hub:
        begun = time.monotonic()
        connector = Connector([at(1), at(2), address(hub.url)])
        connector.start()
        first, second, link = outcomes(connector, 3)
        assert [first.url, second.url] == [str(at(1)), str(at(2))]
        assert link.address == address(hub.url)
        assert time.monotonic() - begun < 20
        link.drop()


@contextlib.contextmanager
def silent():
    """A hub that takes a connection and never answers, as one does whose process is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        yield at(place.getsockname()[1])


def test_hubs_that_say_nothing_hold_nobody_up(monkeypatch):
    monkeypatch.setattr("agentpipe.io.connect.STAGGER_S", 0.1)
    with RawHub() as hub, silent() as one, silent() as two, silent() as three, silent() as four:
        begun = time.monotonic()
        connector = Connector([one, two, three, four, address(hub.url)])
        connector.start()
        (link,) = outcomes(connector, 1)
        assert link.address == address(hub.url)
        assert time.monotonic() - begun < CONNECT_S
        link.drop()


def test_a_slow_hub_is_taken_when_the_others_fail_meanwhile(monkeypatch):
    monkeypatch.setattr("agentpipe.io.connect.STAGGER_S", 0.1)
    with Answering(b"", after_s=0.5) as slow:
        connector = Connector([at(slow.port), at(1)])
        connector.start()
        first, second = outcomes(connector, 2)
        assert [first.url, second.url] == [str(at(1)), str(at(slow.port))]
        connector.close()


def test_a_hub_that_answers_when_another_was_taken_is_hung_up(monkeypatch):
    monkeypatch.setattr("agentpipe.io.connect.STAGGER_S", 0.1)
    refused = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
    with RawHub() as hub, Answering(refused, after_s=0.5) as slow:
        connector = Connector([at(slow.port), address(hub.url)])
        connector.start()
        (link,) = outcomes(connector, 1)
        link.drop()
    assert connector.outcomes() == []
    assert len(connector._addresses) == 2


def test_names_that_take_for_ever_to_look_up_are_given_up(monkeypatch):
    for name in ("STAGGER_S", "CONNECT_S"):
        monkeypatch.setattr(f"agentpipe.io.connect.{name}", 0.1)
    known = threading.Event()

    def stuck(address, clock):
        known.wait(PATIENCE_S)
        raise HubUnreachable(str(address), "the name is not known")

    monkeypatch.setattr("agentpipe.io.connect.connected", stuck)
    connector = Connector([at(1), at(2)])
    connector.start()
    problems = {(outcome.url, outcome.problem) for outcome in outcomes(connector, 2)}
    assert problems == {(str(at(1)), "no answer"), (str(at(2)), "no answer")}
    connector.close()
    known.set()


def test_after_a_loss_the_next_hub_is_tried_first_and_without_a_wait():
    with RawHub() as one, RawHub() as two:
        connector = Connector([address(one.url), address(two.url)])
        lost = None
        for expected in (one, two, one):
            connector.start(lost)
            (link,) = outcomes(connector, 1)
            assert link.address == address(expected.url)
            link.drop()
            lost = Lost(link.address, since=time.monotonic() - 100)


def test_hubs_that_all_hang_up_at_once_are_waited_for():
    """No hot loop: one quick loss goes to the other hub at once, the second has a wait, and ever longer ones."""
    connector = Connector([at(1), at(2)], clock=lambda: 100.0)
    waits = [connector._wait_after(Lost(at(1 + n % 2), since=99.9)) for n in range(40)]
    assert waits[0] == 0.0
    assert all(waits[1:])
    assert max(waits[1:5]) < max(waits) <= CEILING_S


def test_a_hub_that_asked_us_to_stay_away_is_passed_over_while_there_is_another():
    with RawHub() as one, RawHub() as two:
        connector = Connector([address(one.url), address(two.url)])
        connector.start(Lost(address(two.url), since=time.monotonic() - 100, stay_away_s=50))
        (link,) = outcomes(connector, 1)
        assert link.address == address(one.url)
        link.drop()
        one.status = 503
        connector.start(Lost(address(one.url), since=time.monotonic() - 100))
        failed, *_ = outcomes(connector, 1)
        connector.stop()
        assert isinstance(failed, HubUnreachable)
        assert two.connections == 0


def test_a_hub_that_refuses_is_left_out_and_the_last_one_ends_the_trying():
    with RawHub(status=401) as one, RawHub(status=404) as two:
        connector = Connector([address(one.url), address(two.url)])
        connector.start()
        left_out, end = outcomes(connector, 2)
        assert isinstance(left_out, LeftOut)
        assert (left_out.address, type(left_out.error)) == (address(one.url), AuthError)
        assert isinstance(end, ProtocolError)
        assert (one.connections, two.connections) == (1, 1)


def test_a_name_that_is_not_known_may_be_known_later():
    with pytest.raises(HubUnreachable, match=r"ws: [a-z ]+$"):
        connected(Address("ws://no-such-host.invalid:1/ws", "no-such-host.invalid", 1))


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
def test_something_else_at_that_port_is_no_hub(answer):
    with Answering(answer) as server, pytest.raises(ProtocolError, match="no_hub"):
        connected(at(server.port))


def test_a_connection_that_ends_during_the_upgrade_may_work_later():
    with Answering(b"") as server, pytest.raises(HubUnreachable):
        connected(at(server.port))


def test_a_redirect_is_not_followed_so_that_the_token_goes_nowhere_else():
    with RawHub() as elsewhere:
        answer = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}/ws\r\nContent-Length: 0\r\n\r\n"
        with Answering(answer.encode()) as server, pytest.raises(ProtocolError):
            connected(at(server.port, token="s3cret"))
        assert b"Bearer s3cret" in server.asked[0]
        assert elsewhere.headers == []


def test_a_connection_that_comes_when_nobody_wants_it_any_more_is_closed():
    """`close` gives the descriptors back; the attempt that is under way ends by itself, and what it made with it."""
    with RawHub() as hub:
        connector = Connector([at(int(hub.url.rpartition(":")[2]))])
        connector.start()
        connector.close()
        connector.close()
        assert connector._thread is not None
        connector._thread.join(PATIENCE_S)
        assert connector._done.empty()


def test_the_wait_after_a_lost_connection_has_full_jitter(monkeypatch):
    """Spread evenly between nothing and a ceiling that doubles with every link that did not hold."""
    chance = random.Random(1)
    monkeypatch.setattr("agentpipe.io.connect.random.uniform", chance.uniform)
    waits: dict[int, list[float]] = {}
    for _ in range(300):
        connector = Connector([at(1)], clock=lambda: 1000.0)
        for attempt in range(1, 7):
            waits.setdefault(attempt, []).append(connector._wait_after(Lost(at(1), since=1000.0)))
        connector.close()
    for attempt, found in waits.items():
        top = ceiling(attempt)
        assert 0 <= min(found) < 0.05 * top
        assert 0.95 * top < max(found) <= top
        assert 0.45 * top < sum(found) / len(found) < 0.55 * top
