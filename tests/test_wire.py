"""What the hub says: the stored bytes on the way out, and what a client understands of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe import wire
from agentpipe.errors import ProtocolError
from agentpipe.event import encode
from agentpipe.history import Filter, Page, Position

EVENT = b'{"type":"agent_output","run_id":"r","sequence":1,"n":12345678901234567890123,"t":"\\u00e9"}'


class TestEventsMessages:
    def test_lines_are_joined_as_they_are(self):
        (item,) = wire.pack(Page(4, [EVENT, EVENT]))
        message = wire.events_message(b"1", 4, item.pos, item.body)
        assert message == b'{"type":"events","id":1,"prev":4,"pos":6,"events":[%b,%b]}' % (EVENT, EVENT)

    @given(
        st.lists(st.integers(2, 4000), min_size=1, max_size=80),
        st.integers(0, 10**12),
        st.integers(300, 20_000),
        st.data(),
    )
    def test_every_message_keeps_its_limits_and_nothing_is_lost(
        self, sizes: list[int], start: int, limit: int, data: st.DataObject
    ):
        lines = [b'"%b"' % (b"x" * (size - 2)) for size in sizes]
        picked = data.draw(st.none() | st.sets(st.integers(0, len(lines) - 1)).map(sorted))
        packs = list(wire.pack(Page(start, lines), picked, limit_bytes=limit))
        chosen = range(len(lines)) if picked is None else picked
        together = [json.loads(b"[%b]" % item.body) for item in packs]
        assert [text for body in together for text in body] == [json.loads(lines[index]) for index in chosen]
        for item, body in zip(packs, together, strict=True):
            assert 1 <= len(body) <= wire.MAX_EVENTS
            message = wire.events_message(b'"subscription"', start, item.pos, item.body)
            assert len(message) <= limit or len(body) == 1
        ends = [len(body) for body in together]
        assert [item.pos for item in packs] == [start + chosen[sum(ends[: i + 1]) - 1] + 1 for i in range(len(ends))]


class TestFrames:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
    def test_the_length_is_written_as_rfc_6455_has_it(self, size: int):
        frame = wire.frame(b"x" * size)
        assert frame[0] == 0x81
        if size < 126:
            assert frame[1:] == bytes([size]) + b"x" * size
        elif size < 65536:
            assert frame[1:] == b"\x7e" + size.to_bytes(2, "big") + b"x" * size
        else:
            assert frame[1:] == b"\x7f" + size.to_bytes(8, "big") + b"x" * size

    def test_a_close_frame_holds_its_code_and_a_reason_that_fits(self):
        assert wire.close_frame(4201, "slow") == b"\x88\x06\x10\x69slow"
        long = wire.close_frame(1001, "ü" * 100)
        assert len(long) <= 127
        long[4:].decode()

    def test_control_frames(self):
        assert wire.ping_frame(b"ab") == b"\x89\x02ab"
        assert wire.pong_frame(b"ab") == b"\x8a\x02ab"


class TestCloseCodes:
    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            (None, "BACKOFF"), (1000, "BACKOFF"), (1001, "BACKOFF"), (1006, "BACKOFF"),
            (4100, "AT_ONCE"), (4199, "AT_ONCE"), (4200, "BACKOFF"), (4299, "BACKOFF"),
            (4400, "STOP"), (4401, "STOP"), (4499, "STOP"), (4500, "BACKOFF"),
        ],
    )  # fmt: skip
    def test_the_range_is_the_verdict(self, code: int | None, expected: str):
        assert wire.verdict(code) is wire.Verdict[expected]


class TestHubMessages:
    def test_events_come_out_as_their_bytes(self):
        found = wire.parse_hub_message(b'{"type":"events","id":1,"prev":0,"pos":1,"events":[%b]}' % EVENT)
        assert (found.type, found.id, found.prev, found.pos, found.lines) == ("events", 1, 0, 1, [EVENT])

    def test_a_gap_has_from_and_to(self):
        found = wire.parse_hub_message(wire.control("gap", id="x", first=3, last=9, count=7, reason="evicted"))
        assert (found.first, found.last, found.count, found.reason) == (3, 9, 7, "evicted")

    def test_code_is_text_in_an_error_and_a_number_in_a_bye(self):
        assert wire.parse_hub_message(wire.control("error", code="bad_json", message="m")).code == "bad_json"
        bye = wire.parse_hub_message(wire.control("bye", code=4201, reason="r", reconnect=True, after_ms=5))
        assert (bye.code, bye.reconnect, bye.after_ms) == (4201, True, 5)

    def test_a_position_is_an_object_on_the_wire(self):
        message = wire.control("subscription_confirmed", id=1, position=Position("e", 5), recovered=True, filter={})
        assert json.loads(message)["position"] == {"epoch": "e", "offset": 5}
        assert wire.parse_hub_message(message).position == Position("e", 5)

    def test_fields_of_a_newer_hub_are_ignored(self):
        assert wire.parse_hub_message('{"type":"new","shape":[1,2]}').type == "new"

    @pytest.mark.parametrize(
        ("data", "code"), [(b"{", "bad_json"), (b'{"id":1}', "bad_message"), (b"[]", "bad_message")]
    )
    def test_what_is_no_message_is_refused(self, data: bytes, code: str):
        with pytest.raises(ProtocolError) as raised:
            wire.parse_hub_message(data)
        assert raised.value.code == code


def test_a_filter_is_shown_by_what_it_restricts():
    assert wire.filter_json(Filter()) == {}
    assert wire.filter_json(Filter(runs=frozenset({"b", "a"}))) == {"runs": ["a", "b"]}
    assert encode(wire.limits()) == (
        b'{"max_events":20,"max_message_bytes":65536,"max_publish_bytes":1048576,"max_subscriptions":32}'
    )


class TestSnapshots:
    def test_a_small_one_is_one_message(self):
        (told,) = wire.snapshots(Position("e", 7), [{"run_id": "r"}], [{"agent_id": "a"}])
        assert json.loads(told) == {
            "type": "snapshot", "position": {"epoch": "e", "offset": 7},
            "runs": [{"run_id": "r"}], "agents": [{"agent_id": "a"}],
        }  # fmt: skip
        (empty,) = wire.snapshots(Position("e", 0), [], [])
        assert json.loads(empty)["runs"] == []

    @given(st.lists(st.integers(0, 9000), max_size=60), st.lists(st.integers(0, 9000), max_size=60))
    def test_a_large_one_comes_in_parts_of_whole_states(self, runs: list[int], agents: list[int]):
        states = [[{"id": f"{number}", "text": "x" * size} for number, size in enumerate(sizes)]
                  for sizes in (runs, agents)]  # fmt: skip
        told = wire.snapshots(Position("9f3a", 1 << 60), *states)
        assert all(len(each) <= wire.MAX_MESSAGE_BYTES for each in told)
        messages = [wire.parse_hub_message(each) for each in told]
        assert [state for message in messages for state in message.runs or []] == states[0]
        assert [state for message in messages for state in message.agents or []] == states[1]
        assert {message.position for message in messages} == {Position("9f3a", 1 << 60)}
        numbered = [(number, len(told)) for number in range(1, len(told) + 1)] if len(told) > 1 else [(None, None)]
        assert [(message.part, message.parts) for message in messages] == numbered

    def test_one_state_larger_than_a_message_goes_alone(self):
        told = wire.snapshots(Position("e", 1), [{"a": 1}, {"b": "x" * 100_000}, {"c": 1}], [])
        assert [len(wire.parse_hub_message(each).runs or []) for each in told] == [1, 1, 1]


def test_a_page_is_divided_where_entries_are_gone():
    found = list(wire.divided(Page(10, [b"a", b"", b"", b"b", b"c", b""])))
    assert found == [Page(10, [b"a"]), wire.Gone(12, 13), Page(13, [b"b", b"c"]), wire.Gone(16, 16)]
    assert wire.parse_hub_message(found[1].message(b'"x"')).count == 2  # type: ignore[union-attr]
