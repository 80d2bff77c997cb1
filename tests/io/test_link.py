"""A connection over a socket pair, in made-up time: probes, stalls, what an end means."""

import json
import socket

import pytest
from websocket import WebSocket

from agentpipe.errors import AuthError, HubUnreachable, ProtocolError
from agentpipe.io.address import Address
from agentpipe.io.link import GREETING_S, PING_S, PONG_S, SEND_S, Link


class Pair:
    """A link and the hub's end of its socket."""

    def __init__(self):
        self.at = 1000.0
        mine, self.hub = socket.socketpair()
        self.hub.settimeout(5)
        ws = WebSocket(enable_multithread=False, skip_utf8_validation=True)
        ws.sock = mine
        self.link = Link(ws, Address("ws://127.0.0.1:1/ws", "127.0.0.1", 1), lambda: self.at)

    def says(self, opcode, payload=b"", *, final=True):
        head = bytes(((0x80 if final else 0) | opcode,))
        size = len(payload)
        head += bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
        self.hub.sendall(head + payload)

    def tells(self, **message):
        self.says(0x1, json.dumps(message).encode())

    def heard(self):
        """One frame as the hub sees it: opcode and payload."""
        first, second = self.hub.recv(2, socket.MSG_WAITALL)
        assert second & 0x80
        size = second & 0x7F
        assert size < 126
        key = self.hub.recv(4, socket.MSG_WAITALL)
        payload = self.hub.recv(size, socket.MSG_WAITALL) if size else b""
        return first & 0xF, bytes(b ^ key[i % 4] for i, b in enumerate(payload))


@pytest.fixture
def pair():
    made = Pair()
    yield made
    made.link.drop()
    made.hub.close()


def test_messages_come_whole_however_they_are_cut(pair):
    pair.tells(type="welcome", epoch="e", head=3)
    pair.tells(type="ack", count=2)
    whole = [message.type for message in pair.link.receive()]
    assert whole == ["welcome", "ack"]
    frame = b"\x81" + bytes((15,)) + b'{"type":"pong"}'
    for byte in frame[:-1]:
        pair.hub.sendall(bytes((byte,)))
        assert pair.link.receive() == []
    pair.hub.sendall(frame[-1:])
    assert [message.type for message in pair.link.receive()] == ["pong"]


def test_a_fragmented_message_with_a_ping_inside_is_one_message(pair):
    pair.says(0x1, b'{"type":"ack",', final=False)
    pair.says(0x9, b"are you there")
    pair.says(0x0, b'"count":7}')
    assert [message.count for message in pair.link.receive()] == [7]
    assert pair.heard() == (0xA, b"are you there")


def greet(pair):
    pair.tells(type="welcome", epoch="e", head=3)
    assert len(pair.link.receive()) == 1


def test_a_hub_that_never_greets_is_gone_before_it_is_probed(pair):
    assert pair.link.deadline == pair.at + GREETING_S
    pair.at += GREETING_S - 0.1
    pair.link.check(pair.at)
    pair.at += 0.1
    with pytest.raises(HubUnreachable, match="said nothing for 5 s"):
        pair.link.check(pair.at)


def test_a_silent_link_is_probed_and_one_that_does_not_answer_is_over(pair):
    greet(pair)
    assert pair.link.deadline == pair.at + PING_S
    pair.at += PING_S
    pair.link.check(pair.at)
    assert pair.heard() == (0x9, b"")
    assert pair.link.deadline == pair.at + PONG_S
    pair.at += PONG_S - 0.1
    pair.link.check(pair.at)
    pair.at += 0.1
    with pytest.raises(HubUnreachable, match="answered nothing"):
        pair.link.check(pair.at)


def test_any_answer_keeps_a_link(pair):
    greet(pair)
    pair.at += PING_S
    pair.link.check(pair.at)
    pair.says(0xA)
    assert pair.link.receive() == []
    pair.at += PONG_S
    pair.link.check(pair.at)
    assert pair.link.deadline == pair.at - PONG_S + PING_S


def test_a_hub_that_takes_nothing_ends_the_link_and_one_that_takes_a_little_does_not(pair):
    greet(pair)
    pair.link.send(b"x" * 4_000_000)
    assert pair.link.pending > 0
    pair.at += SEND_S - 1
    assert pair.hub.recv(1 << 20)
    pair.link.flush()
    pair.at += SEND_S - 1
    pair.link.check(pair.at)
    pair.at += 1
    with pytest.raises(HubUnreachable, match="took nothing"):
        pair.link.check(pair.at)


def test_a_socket_that_just_ends_is_said_like_everything_else(pair):
    pair.hub.close()
    with pytest.raises(HubUnreachable, match=r"ws: connection to remote host was lost$"):
        pair.link.receive()


def test_every_frame_has_a_key_of_its_own(pair):
    pair.link.send(*[b"same"] * 500)
    keys = {pair.hub.recv(10, socket.MSG_WAITALL)[2:6] for _ in range(500)}
    assert len(keys) > 490


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, HubUnreachable) for code in (1000, 1001, 1011, 3000, 4100, 4299)),
        *((code, ProtocolError) for code in (1002, 1009, 4400, 4413, 4450)),
        *((code, AuthError) for code in (4401, 4403)),
    ],
)
def test_a_close_code_says_whether_to_come_back(pair, code, kind):
    pair.says(0x8, code.to_bytes(2, "big") + b"because")
    with pytest.raises(kind, match="because"):
        pair.link.receive()
    assert pair.link.at_once == (code == 4100)


def test_what_came_before_the_end_is_returned_first(pair):
    pair.tells(type="ack", count=5)
    pair.says(0x8, (4401).to_bytes(2, "big"))
    assert [message.count for message in pair.link.receive()] == [5]
    for _ in range(2):
        with pytest.raises(AuthError):
            pair.link.receive()


def test_a_bye_stands_in_for_a_close_code_that_a_proxy_swallowed_and_says_how_long_to_stay_away(pair):
    pair.tells(type="bye", code=4401, reason="your token has expired", reconnect=False, after_ms=0)
    pair.says(0x8)
    assert len(pair.link.receive()) == 1
    with pytest.raises(AuthError, match="expired"):
        pair.link.receive()


def test_how_long_to_stay_away_is_kept(pair):
    pair.tells(type="bye", code=4200, reason="overloaded", reconnect=True, after_ms=1500)
    pair.says(0x8, (4200).to_bytes(2, "big"))
    pair.link.receive()
    with pytest.raises(HubUnreachable):
        pair.link.receive()
    assert pair.link.stay_away_s == 1.5


def test_a_cut_connection_means_come_back(pair):
    pair.hub.close()
    with pytest.raises(HubUnreachable):
        pair.link.receive()


@pytest.mark.parametrize("payload", [b"no json", b'["type"]', b'{"type":7}'])
def test_what_is_no_message_is_a_protocol_error(pair, payload):
    pair.says(0x1, payload)
    with pytest.raises(ProtocolError):
        pair.link.receive()


def test_closing_says_goodbye_and_does_not_wait_for_an_answer_for_ever(pair):
    pair.link.close(0.0)
    assert pair.heard() == (0x8, b"\x03\xe8")
