"""Frames as a server sees them."""

import pytest

from agentpipe.client_frame import CLOSE, PING, TEXT, introduction, masked, publication
from agentpipe.request import Hello, Publish, parse_client_message
from agentpipe.store import Sender


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


HEADS = [
    b'{"type":"t","run_id":"r","a":1}',
    b'{"b" : 1.50, "a":12345678901234567890,"run_id":"\xc3\xa4"}',
    b'{"\\u0061":"\xc3\xa4"}',
    b'{"run_id":"r","run_id":3}',
    b'{"run_id":3,"run_id":"r"}',
    b'{"run\\u005fid":"r","id":"\\ud800"}',
    b'{"run_id":"r","id":"\\ud800"}',
    b'{"run_id":"\\ud800"}',
    b'{"run_id":""}',
    b'{"run_id":"r","events":3,"type":"publish"}',
    b'{"run_id":"r","events":[{}],"type":"publish"}',
    b'{"type":"subscribe","id":1}',
    b"{}",
]


@pytest.mark.parametrize("first", HEADS)
@pytest.mark.parametrize("rest", [[], HEADS[:1], HEADS[:3]])
def test_the_hub_reads_a_publication_as_the_lines_it_was_made_of(first, rest):
    lines = [first, *rest]
    assert parse_client_message(publication(lines)) == Publish(lines)


def test_a_line_that_nests_too_deeply_for_a_look_at_its_head_goes_out_as_it_is():
    lines = [b'{"run_id":"r","payload":' + b"[" * 3000 + b"]" * 3000 + b"}", b"{}"]
    assert publication(lines) == b'{"type":"publish","events":[' + lines[0] + b",{}]}"


def test_lines_are_published_as_they_are():
    lines = [b'{"run_id":"r","b" : 1.50}', b'{"\\u0061":"\xc3\xa4"}']
    assert publication(lines) == lines[0] + b"\n" + lines[1], "bare NDJSON where the hub knows it by the first line"
    assert publication(lines[::-1]) == b'{"type":"publish","events":[' + lines[1] + b"," + lines[0] + b"]}"
    assert publication(lines[:1]) == b'{"type":"publish","events":[' + lines[0] + b"]}"


def test_an_introduction_is_what_the_hub_understands():
    assert parse_client_message(introduction("0123456789abcdef", 7)) == Hello(Sender("0123456789abcdef", 7))
