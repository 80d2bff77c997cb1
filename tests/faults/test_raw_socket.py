"""The laboratory's own client reads the hub's bytes under every split."""

import json

import pytest

from tests.faults.lab.raw_socket import Decoder, masked, read_message

GREETING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """A server's frame."""
    size = len(payload)
    if size < 126:
        return bytes([0x80 | opcode, size]) + payload
    if size < 65536:
        return bytes([0x80 | opcode, 126]) + size.to_bytes(2, "big") + payload
    return bytes([0x80 | opcode, 127]) + size.to_bytes(8, "big") + payload


@pytest.mark.parametrize("step", [1, 2, 3, 1000, 1 << 20])
def test_frames_of_every_size_are_read_whatever_a_read_brings(step: int) -> None:
    texts = [b"a" * 5, b"b" * 125, b"c" * 126, b"d" * 65535, b"e" * 65536]
    data = GREETING + b"".join(map(frame, texts)) + frame(b"are you there", 9) + frame(b"f")
    decoder = Decoder()
    found = [text for place in range(0, len(data), step) for text in decoder.feed(data[place : place + step])]
    assert found == [*texts, b"f"]
    assert decoder.replies == [masked(b"are you there", 10)]


def test_a_close_is_the_end() -> None:
    decoder = Decoder()
    with pytest.raises(EOFError, match="4201"):
        decoder.feed(GREETING + frame((4201).to_bytes(2, "big"), 8))


def test_a_refused_upgrade_says_what_the_hub_said() -> None:
    with pytest.raises(ConnectionRefusedError, match="403"):
        Decoder().feed(b"HTTP/1.1 403 Forbidden\r\n\r\n")


def test_events_keep_their_bytes() -> None:
    lines = [b'{"type": "t", "n":1.0}', b'{"b":[1, 2]}']
    text = b'{"type":"events","id":1,"prev":4,"pos":6,"events":[%s]}' % b",".join(lines)
    message = read_message(text)
    assert (message.prev, message.pos) == (4, 6)
    assert [bytes(event) for event in message.events] == lines
    assert read_message(json.dumps({"type": "snapshot", "position": "whatever"}).encode()).type == "snapshot"
