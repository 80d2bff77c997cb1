"""Connecting: what can pass is tried again, what cannot is not, and nobody waits for it."""

import select
import socket
import threading
import time

import pytest

from agentpipe.errors import HubUnreachable, ProtocolError
from agentpipe.io.address import Address, address
from agentpipe.io.connect import Connector, connected
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


class Answering:
    """A server that answers whatever it is asked with *answer*, and keeps what it was asked."""

    def __init__(self, answer):
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
            client.sendall(self._answer)
            try:
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
            except ConnectionError:
                return  # the client has left, with our answer unread

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self._thread.join()
        self._listener.close()


def test_a_hub_that_is_there_is_connected_to_once():
    with RawHub() as hub:
        connector = Connector(address(hub.url))
        connector.start()
        (link,) = outcomes(connector, 1)
        assert isinstance(link, Link)
        assert "User-Agent: agentpipe/" in hub.headers[0]
        assert "Origin:" not in hub.headers[0]
        link.drop()


def test_a_refused_connection_is_tried_again_until_told_to_stop():
    connector = Connector(at(1))
    connector.start()
    assert all(isinstance(outcome, HubUnreachable) for outcome in outcomes(connector, 3))
    connector.stop()
    connector._thread.join(timeout=PATIENCE_S)
    assert not connector._thread.is_alive()


def test_stopping_ends_the_wait_before_a_connection():
    lost = type("Lost", (), {"since": 0.0, "at_once": False, "stay_away_s": 50.0})()
    connector = Connector(at(1), clock=lambda: 100.0)
    connector.start(lost)
    begun = time.monotonic()
    connector.stop()
    connector._thread.join(timeout=PATIENCE_S)
    assert not connector._thread.is_alive()
    assert time.monotonic() - begun < 20


def test_a_hub_that_comes_back_is_found():
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    connector = Connector(at(port))
    connector.start()
    outcomes(connector, 1)
    with RawHub(port=port):
        limit = time.monotonic() + PATIENCE_S
        link = None
        while link is None:
            assert time.monotonic() < limit
            link = next((found for found in outcomes(connector, 1) if isinstance(found, Link)), None)
        link.drop()


def test_a_name_that_is_not_known_may_be_known_later():
    with pytest.raises(HubUnreachable):
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
