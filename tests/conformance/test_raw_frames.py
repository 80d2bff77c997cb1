"""Frames that no well-behaved client sends, at the hub itself: a documented reaction, never a hang, and nobody else
notices. The same at the echo that Autobahn talks to, which shows that it is still the hub.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentpipe import wire
from tests.conformance.conftest import Server
from tests.conformance.echo import Echo
from tests.conformance.raw_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    RawClient,
    closing,
    frame,
)
from tests.hub_process import until
from tests.io.serve.hubs import Hub, event

ASK = b'{"type":"ping"}'

#: What breaks RFC 6455 → the code that the connection is closed with.
BROKEN = {
    "a reserved bit": (frame(TEXT, ASK, reserved=4), 1002),
    "a reserved opcode": (frame(3, ASK), 1002),
    "a reserved control opcode": (frame(11), 1002),
    "a ping in two frames": (frame(PING, b"a", final=False), 1002),
    "a ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "a close frame of 126 bytes": (closing(1000, b"x" * 124), 1002),
    "a continuation of nothing": (frame(CONTINUATION, ASK), 1002),
    "a message within a message": (frame(TEXT, b"[", final=False) + frame(TEXT, b"]"), 1002),
    "bytes that are no UTF-8": (frame(TEXT, b'{"type":"\xff"}'), 1007),
    "a surrogate as UTF-8": (frame(TEXT, b'{"type":"\xed\xa0\x80"}'), 1007),
    "a character that never ends": (frame(TEXT, b'"\xe2', final=False) + frame(CONTINUATION, b'\x82"'), 1007),
    "an event that is no UTF-8": (frame(TEXT, event(1, "broken")[:-1] + b',"x":"\xff"}'), 1007),
    "a close frame of one byte": (frame(CLOSE, b"\x03"), 1002),
    "a reason that is no UTF-8": (closing(1000, b"\xff"), 1007),
    "a frame of 2 MiB": (frame(TEXT, size=2 << 20), 1009),
    "a frame of 2⁶³ bytes": (frame(TEXT, size=1 << 63), 1009),
    "fragments of 2 MiB": (frame(TEXT, bytes(1 << 20), final=False) + frame(CONTINUATION, size=1 << 20), 1009),
}

#: The code in a client's close frame → the code of the answer.
CLOSED = {
    None: 1000, 1000: 1000, 1001: 1001, 1003: 1003, 1007: 1007, 1011: 1011, 1014: 1014, 3000: 3000, 4999: 4999,
    0: 1002, 999: 1002, 1004: 1002, 1005: 1002, 1006: 1002, 1015: 1002, 1100: 1002, 2999: 1002, 5000: 1002,
    65535: 1002,
}  # fmt: skip


@pytest.fixture(params=["real", "echo"])
def server(request: pytest.FixtureRequest, real: Server, echo: Callable[[str], Server]) -> Server:
    """The hub, and the hub as an echo."""
    return real if request.param == "real" else echo("hub")


@pytest.fixture
def client(server: Server) -> Iterator[RawClient]:
    """A connection that is welcomed, and beside it one that is well before and after."""
    with _connected(server) as bystander, _connected(server) as made:
        yield made
        bystander.write(frame(TEXT, ASK))
        assert bystander.text() == ASK or server.name == "real"


def _connected(server: Server) -> RawClient:
    client = RawClient(server.url, server.token)
    if server.name == "real":
        assert b'"welcome"' in client.text()
    return client


@pytest.fixture
def hub_client(real: Server) -> Iterator[RawClient]:
    with _connected(real) as made:
        yield made


def _answer(client: RawClient, *types: str) -> dict[str, Any]:
    while (found := json.loads(client.text()))["type"] not in types:
        continue
    return dict(found)


def _ending(client: RawClient) -> Frame:
    """The last frame of the connection, which is its only close frame."""
    frames = client.rest()
    assert [found.opcode for found in frames].count(CLOSE) == 1
    assert frames[-1].opcode == CLOSE
    return frames[-1]


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_rules_of_frames_is_closed_with_the_right_code(client: RawClient, name: str) -> None:
    data, code = BROKEN[name]
    client.write(data)
    assert client.rest()[-1].code == code


@pytest.mark.parametrize("code", CLOSED)
def test_a_close_frame_is_answered_with_a_code_that_may_be_sent(client: RawClient, code: int | None) -> None:
    client.write(closing(code, b"" if code is None else "going é".encode()))
    assert _ending(client).code == CLOSED[code]


def test_a_ping_is_answered_with_its_bytes_between_the_fragments_of_a_message(
    client: RawClient, server: Server
) -> None:
    parts = [b'{"type":"subscribe",', b'"id":"caf\xc3', b"\xa9", b"", b'"}']
    client.write(frame(TEXT, parts[0], final=False), frame(PING, b"\x00\xff" * 62), frame(CONTINUATION, final=False))
    assert client.read() == Frame(PONG, b"\x00\xff" * 62)
    for part in parts[1:-1]:
        client.write(frame(CONTINUATION, part, final=False), frame(PING), frame(PONG, b"nobody asked"))
        assert client.read() == Frame(PONG, b"")
    client.write(frame(CONTINUATION, parts[-1]))
    answer = json.loads(client.text())
    assert answer["id"] == "café"
    assert answer["type"] == ("subscription_confirmed" if server.name == "real" else "subscribe")


def test_a_message_may_come_byte_by_byte(client: RawClient, server: Server) -> None:
    for byte in frame(TEXT, ASK):
        client.write(bytes([byte]))
    assert json.loads(client.text())["type"] == ("pong" if server.name == "real" else "ping")


def test_a_frame_without_a_mask_is_understood(client: RawClient, server: Server) -> None:
    """The library beneath does not insist on it. The mask protects proxies from hostile pages, and no page can leave it
    out; who connects without a browser harms nobody by that.
    """
    client.write(frame(TEXT, ASK, masked=False))
    assert json.loads(client.text())["type"] == ("pong" if server.name == "real" else "ping")


def test_a_message_over_the_limit_is_answered_before_the_connection_ends(client: RawClient) -> None:
    client.write(frame(TEXT, b" " * (wire.MAX_PUBLISH_BYTES + 1)))
    assert _answer(client, "error")["code"] == "too_large"
    assert _answer(client, "bye")["code"] == 4413
    client.write(closing(4413))
    assert _ending(client).code == 4413


def test_the_upgrade_takes_our_protocol_and_no_extension(client: RawClient) -> None:
    status, *lines = client.head.split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert status.startswith("HTTP/1.1 101 ")
    assert headers["sec-websocket-protocol"] == wire.PROTOCOL
    assert "sec-websocket-extensions" not in headers


def test_the_echo_replaces_nothing_but_what_a_message_means() -> None:
    replaced = {name for name in vars(Echo) if hasattr(Echo.__base__, name) and not name.startswith("__")}
    assert replaced == {"_welcome", "_publish"}


def test_what_follows_a_close_frame_is_not_taken(real: Server, hub_client: RawClient) -> None:
    hub_client.write(closing(1000), frame(TEXT, event(1, "after")), frame(PING, b"?"))
    assert [found.code for found in hub_client.rest()] == [1000]
    with _connected(real) as other:
        other.write(frame(TEXT, b'{"type":"snapshot","id":1}'))
        runs = _answer(other, "snapshot")["runs"]
    assert "after" not in [run["run_id"] for run in runs]


def test_what_precedes_a_broken_frame_is_taken_and_acknowledged(hub_client: RawClient) -> None:
    hub_client.write(frame(TEXT, event(1, "before")))
    assert _answer(hub_client, "ack")["run_id"] == "before"
    hub_client.write(frame(PING, b"still"), frame(TEXT, b"\xff"))
    frames = hub_client.rest()
    assert [found.opcode for found in frames] == [PONG, CLOSE]
    assert frames[-1] == Frame(CLOSE, (1007).to_bytes(2, "big") + b"text is not UTF-8")


def test_one_refused_message_leaves_the_connection_open(hub_client: RawClient) -> None:
    for text in (b"", b"\x00", b"{", b"[]", b'{"type":7}', b'{"type":"nothing"}', b"\xef\xbb\xbf{}"):
        hub_client.write(frame(TEXT, text))
        assert _answer(hub_client, "error")["code"] in ("bad_json", "bad_message", "unknown_type")
    hub_client.write(frame(TEXT, ASK))
    assert _answer(hub_client, "pong")


def test_a_binary_message_is_refused_with_a_goodbye(hub_client: RawClient) -> None:
    hub_client.write(frame(BINARY, ASK))
    assert _answer(hub_client, "error")["code"] == "bad_message"
    assert _answer(hub_client, "bye")["code"] == 4403
    hub_client.write(closing(4403))
    assert _ending(hub_client).code == 4403


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(11), 1002),
        (frame(TEXT, size=2 << 20), 1009),
        (frame(TEXT, b"\xff"), 4401),
        (frame(PING), 4401),
        (closing(1000), 4401),
    ],
)
def test_who_has_not_said_who_it_is_gets_no_further_with_it(real: Server, data: bytes, code: int) -> None:
    """Before the token has come, whatever is not the token ends the connection; broken frames do so as ever."""
    with RawClient(real.url) as client:
        client.write(data)
        frames = client.rest()
        assert frames[-1].code == code
        told = [json.loads(found.payload)["type"] for found in frames[:-1]]
        assert told == (["error", "bye"] if code == 4401 else [])


#: What a client may have sent when it goes no further.
HALVES = (b"\x81", frame(TEXT, b"half", final=False), frame(TEXT, b"x" * 50, size=1000)[:60])


def test_who_leaves_in_the_middle_is_forgotten(short: Server) -> None:
    for start in (b"", *HALVES):
        with _connected(short) as client:
            client.write(start)
            client.end_input()
            client.rest()
    _alone(short)


def test_who_stops_in_the_middle_is_closed_as_one_who_is_silent(short: Server) -> None:
    with _connected(short) as first, _connected(short) as second, _connected(short) as third:
        clients = (first, second, third)
        for client, start in zip(clients, HALVES, strict=True):
            client.write(start)
        for client in clients:
            assert client.rest(silent=True)[-1].code == 4201
    _alone(short)


def _alone(server: Server) -> None:
    """Wait until a heartbeat says that no connection is left but the one that asks."""
    with _connected(server) as client:

        def beat() -> bool:
            client.write(frame(PONG))
            return bool(_answer(client, "heartbeat")["connections"] == 1)

        until(beat, "the end of the other connections")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A hub whose patience is short: three heartbeats are 0.6 s."""
    hub = Hub(tmp_path_factory.mktemp("short"), "--heartbeat", "200ms")
    yield Server("real", hub.url, hub.token)
    hub.stop()
    assert "Traceback" not in hub.stderr
