"""Frames as a server sees them."""

import pytest

from agentpipe.client_frame import CLOSE, PING, TEXT, masked, publication


def unmasked(frame: bytes) -> tuple[int, bytes]:
    """An independent reading of RFC 6455 section 5.2: opcode and payload of exactly one frame."""
    assert frame[0] & 0xF0 == 0x80, "one whole frame, no extension"
    assert frame[1] & 0x80, "a client masks"
    size, at = frame[1] & 0x7F, 2
    if size == 126:
        size, at = int.from_bytes(frame[2:4], "big"), 4
        assert size > 125, "the shortest form"
    elif size == 127:
        size, at = int.from_bytes(frame[2:10], "big"), 10
        assert size > 65535, "the shortest form"
    key, payload = frame[at : at + 4], frame[at + 4 :]
    assert len(payload) == size
    return frame[0] & 0xF, bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 125, 126, 127, 128, 255, 4999, 65535, 65536, 65537, 70003])
def test_a_frame_carries_its_payload_at_every_length(size):
    payload = (b"0123456789\x00\xff" * (size // 12 + 1))[:size]
    assert unmasked(masked(payload, b"\x01\x80\xff\x00")) == (TEXT, payload)


@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x00\x00\x00\x01", b"\x80\x00\x00\x00", b"abcd"])
def test_any_key_masks(key):
    frame = masked(b"payload of some length", key)
    assert frame[2:6] == key
    assert unmasked(frame) == (TEXT, b"payload of some length")


def test_control_frames_have_their_opcode():
    assert unmasked(masked(b"", b"abcd", PING)) == (PING, b"")
    assert unmasked(masked(b"\x03\xe8", b"abcd", CLOSE)) == (CLOSE, b"\x03\xe8")


def test_a_publication_holds_the_lines_as_they_are():
    lines = [b'{"b" : 1.50, "a":12345678901234567890}', b'{"\\u0061":"\xc3\xa4"}']
    assert publication(lines) == b'{"type":"publish","events":[' + lines[0] + b"," + lines[1] + b"]}"
