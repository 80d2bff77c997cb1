"""What hub and clients say: strict on the way in, the stored bytes on the way out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe import wire
from agentpipe.errors import ProtocolError
from agentpipe.event import encode
from agentpipe.history import Filter, Page, Position

KEYS = ["type", "id", "filter", "since", "runs", "last", "epoch", "offset", "events", "run_id", "token", "max_rate"]

EVENT = b'{"type":"agent_output","run_id":"r","sequence":1,"n":12345678901234567890123,"t":"\\u00e9"}'


def parsed(value: object) -> wire.ClientMessage:
    return wire.parse_client_message(json.dumps(value).encode())


def refused(data: object) -> str:
    with pytest.raises(ProtocolError) as raised:
        wire.parse_client_message(data if isinstance(data, bytes) else json.dumps(data).encode())
    return f"{raised.value.code} {raised.value.problem}"


class TestClientMessages:
    def test_a_subscription_is_live_and_of_everything_unless_it_says_more(self):
        assert parsed({"type": "subscribe", "id": 1}) == wire.Subscribe(1, Filter(), wire.Since("live"))

    def test_the_filter_lists_are_understood(self):
        filter_ = {"runs": ["r"], "agents": ["a", "b"], "works": [], "types": ["error"]}
        found = parsed({"type": "subscribe", "id": "x", "filter": filter_, "snapshot": True, "max_rate": 50})
        assert isinstance(found, wire.Subscribe)
        assert found.filter == Filter(frozenset({"r"}), frozenset({"a", "b"}), frozenset(), frozenset({"error"}))
        assert (found.snapshot, found.max_rate) == (True, 50)

    def test_the_names_of_other_specifications_are_understood(self):
        found = parsed({"type": "subscribe", "id": 1, "runId": "r", "workOrderId": "w", "adw_id": "a"})
        assert isinstance(found, wire.Subscribe)
        assert found.filter == Filter(frozenset({"r"}), frozenset({"a"}), frozenset({"w"}))

    @pytest.mark.parametrize(("preference", "types"), sorted(wire.PREFERENCES.items()))
    def test_a_preference_that_is_false_takes_its_types_out(self, preference: str, types: tuple[str, ...]):
        found = parsed({"type": "subscribe", "id": 1, preference: False})
        assert isinstance(found, wire.Subscribe)
        assert found.filter.without == set(types)
        assert parsed({"type": "subscribe", "id": 1, preference: True}) == parsed({"type": "subscribe", "id": 1})

    @pytest.mark.parametrize(
        ("since", "expected"),
        [
            ("start", wire.Since("start")),
            ("live", wire.Since("live")),
            ({"last": 100}, wire.Since("last", number=100)),
            ({"epoch": "e", "offset": 7}, wire.Since("position", position=Position("e", 7))),
        ],
    )
    def test_a_subscription_starts_where_it_says(self, since: object, expected: wire.Since):
        found = parsed({"type": "subscribe", "id": 1, "since": since})
        assert isinstance(found, wire.Subscribe)
        assert found.since == expected

    def test_the_small_messages(self):
        assert parsed({"type": "unsubscribe", "id": "x"}) == wire.Unsubscribe("x")
        assert parsed({"type": "ping"}) == wire.Ping()
        assert parsed({"type": "snapshot"}) == wire.Snapshot(None)
        assert parsed({"type": "auth", "token": "t"}) == wire.Auth("t")

    def test_published_events_keep_their_bytes(self):
        found = wire.parse_client_message(b'{"type":"publish","events":[ ' + EVENT + b" , " + EVENT + b"]}")
        assert found == wire.Publish([EVENT, EVENT])

    def test_a_lone_surrogate_in_an_event_does_not_spoil_its_batch(self):
        lines = [b'{"run_id":"r","t":"\\ud83d"}', EVENT, b"7", b'{"a":"]}"}']
        message = b'{"type":"publish","events":[ %b ,%b,%b, %b ] ,"x":1}' % tuple(lines)
        assert wire.parse_client_message(message) == wire.Publish(lines)
        for end in (b"", b"]", b"]}}", b",", b"}", b",1]}x", b" 1]}"):
            assert refused(b'{"type":"publish","events":[%b%b' % (lines[0], end)).startswith("bad_json")
        found = wire.parse_hub_message(wire.events_message(b"1", 0, 4, b",".join(lines)))
        assert (found.prev, found.pos, found.lines) == (0, 4, lines)

    def test_an_event_written_over_several_lines_becomes_one_line(self):
        found = wire.parse_client_message(b'{"type":"publish","events":[{"type":\n"x"}]}')
        assert found == wire.Publish([b'{"type": "x"}'])

    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
    def test_bare_ndjson_is_a_batch(self, end: bytes):
        assert wire.parse_client_message(EVENT + end) == wire.Publish([EVENT])
        assert wire.parse_client_message(EVENT + b"\r\n\n" + EVENT + end) == wire.Publish([EVENT, EVENT])

    def test_a_bad_line_in_ndjson_stays_a_line_of_its_batch(self):
        assert wire.parse_client_message(EVENT + b"\n{bad\n") == wire.Publish([EVENT, b"{bad"])
        assert wire.parse_client_message(b'{"run_id":"r\n' + EVENT) == wire.Publish([b'{"run_id":"r', EVENT])

    def test_an_event_may_be_called_like_a_message(self):
        line = b'{"type":"ping","run_id":"r"}'
        assert wire.parse_client_message(line) == wire.Publish([line])

    @pytest.mark.parametrize(
        ("message", "problem"),
        [
            (b"{bad", "bad_json"),
            (b"", "bad_json"),
            (b'{"type":"ping"', "bad_json"),
            (b"\xff", "bad_json"),
            (b'{"type":"subscribe","id":1,"filter":' + b"[" * 50_000, "bad_json"),
            (b'{"type":"subscribe","id":1,"x":"\\ud800","filter":[]}', "bad_json"),
            (b"[]", "bad_message"),
            (b"1", "bad_message"),
            ({}, "bad_message `type`"),
            ({"type": 1}, "bad_message `type`"),
            ({"type": "nonsense"}, "unknown_type there is no message type 'nonsense'"),
            ({"type": "publish"}, "bad_message publish: `events`"),
            ({"type": "publish", "events": {}}, "bad_message"),
            ({"type": "auth"}, "bad_message auth: `token`"),
            ({"type": "subscribe"}, "bad_message `id`"),
            ({"type": "subscribe", "id": True}, "bad_message `id`"),
            ({"type": "subscribe", "id": "x" * 201}, "bad_message `id`"),
            ({"type": "subscribe", "id": 1, "filter": []}, "bad_message subscribe: `filter`"),
            ({"type": "subscribe", "id": 1, "filter": {"run": ["r"]}}, "bad_message subscribe: `filter.run`"),
            ({"type": "subscribe", "id": 1, "filter": {"runs": "r"}}, "bad_message subscribe: `filter.runs`"),
            ({"type": "subscribe", "id": 1, "filter": {"runs": [1]}}, "bad_message subscribe: `filter.runs`"),
            ({"type": "subscribe", "id": 1, "filter": {"runs": ["r"] * 1001}}, "bad_message subscribe: `filter.runs`"),
            ({"type": "subscribe", "id": 1, "runId": 7}, "bad_message subscribe: `runId`"),
            ({"type": "subscribe", "id": 1, "includeOutput": 0}, "bad_message subscribe: `includeOutput`"),
            ({"type": "subscribe", "id": 1, "since": "now"}, "bad_message subscribe: `since`"),
            ({"type": "subscribe", "id": 1, "since": {"last": -1}}, "bad_message subscribe: `since`"),
            ({"type": "subscribe", "id": 1, "since": {"epoch": "e", "offset": True}}, "bad_message subscribe: `since`"),
            ({"type": "subscribe", "id": 1, "since": {"epoch": "e", "offset": 1.5}}, "bad_message subscribe: `since`"),
            ({"type": "subscribe", "id": 1, "snapshot": 1}, "bad_message subscribe: `snapshot`"),
            ({"type": "subscribe", "id": 1, "max_rate": 0}, "bad_message subscribe: `max_rate`"),
            ({"type": "subscribe", "id": 1, "junk": "x" * wire.MAX_MESSAGE_BYTES}, "too_large"),
        ],
    )
    def test_a_bad_message_is_refused_by_code_and_field(self, message: object, problem: str):
        assert refused(message).startswith(problem)

    @given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
    def test_any_bytes_give_a_message_or_a_protocol_error(self, data: bytes):
        code = None
        try:
            wire.parse_client_message(data)
        except ProtocolError as error:
            code = error.code
        assert code in {None, "bad_json", "bad_message", "unknown_type"}

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
            max_leaves=12,
        )
    )
    def test_any_json_gives_a_message_or_a_protocol_error(self, value: object):
        for message in (value, {"type": "subscribe", "id": 1, "filter": value, "since": value}):
            try:
                parsed(message)
            except ProtocolError:
                continue


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
        packs = wire.pack(Page(start, lines), picked, limit_bytes=limit)
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
