"""What clients say is understood strictly: a message, or a refusal that names the field."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe import request, wire
from agentpipe.client_frame import publication
from agentpipe.errors import ProtocolError
from agentpipe.history import Filter, Position

KEYS = ["type", "id", "filter", "since", "runs", "last", "epoch", "offset", "events", "run_id", "token", "max_rate"]

EVENT = b'{"type":"agent_output","run_id":"r","sequence":1,"n":12345678901234567890123,"t":"\\u00e9"}'


def parsed(value: object) -> request.ClientMessage:
    return request.parse_client_message(json.dumps(value).encode())


def refused(data: object) -> str:
    with pytest.raises(ProtocolError) as raised:
        request.parse_client_message(data if isinstance(data, bytes) else json.dumps(data).encode())
    return f"{raised.value.code} {raised.value.problem}"


def test_a_subscription_is_live_and_of_everything_unless_it_says_more():
    assert parsed({"type": "subscribe", "id": 1}) == request.Subscribe(1, Filter(), request.Since("live"))


def test_a_subscription_may_ask_for_accumulated_text():
    asked = parsed({"type": "subscribe", "id": 1, "accumulate": True, "max_rate": 50})
    assert asked == request.Subscribe(1, Filter(), request.Since("live"), max_rate=50, accumulate=True)
    assert "`accumulate` must be true or false" in refused({"type": "subscribe", "id": 1, "accumulate": 1})


def test_the_filter_lists_are_understood():
    filter_ = {"runs": ["r"], "agents": ["a", "b"], "works": [], "types": ["error"]}
    found = parsed({"type": "subscribe", "id": "x", "filter": filter_, "snapshot": True, "max_rate": 50})
    assert isinstance(found, request.Subscribe)
    assert found.filter == Filter(frozenset({"r"}), frozenset({"a", "b"}), frozenset(), frozenset({"error"}))
    assert (found.snapshot, found.max_rate) == (True, 50)


def test_the_names_of_other_specifications_are_understood():
    found = parsed({"type": "subscribe", "id": 1, "runId": "r", "workOrderId": "w", "adw_id": "a"})
    assert isinstance(found, request.Subscribe)
    assert found.filter == Filter(frozenset({"r"}), frozenset({"a"}), frozenset({"w"}))


@pytest.mark.parametrize(("preference", "types"), sorted(request.PREFERENCES.items()))
def test_a_preference_that_is_false_takes_its_types_out(preference: str, types: tuple[str, ...]):
    found = parsed({"type": "subscribe", "id": 1, preference: False})
    assert isinstance(found, request.Subscribe)
    assert found.filter.without == set(types)
    assert parsed({"type": "subscribe", "id": 1, preference: True}) == parsed({"type": "subscribe", "id": 1})


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("start", request.Since("start")),
        ("live", request.Since("live")),
        ({"last": 100}, request.Since("last", number=100)),
        ({"epoch": "e", "offset": 7}, request.Since("position", position=Position("e", 7))),
    ],
)
def test_a_subscription_starts_where_it_says(since: object, expected: request.Since):
    found = parsed({"type": "subscribe", "id": 1, "since": since})
    assert isinstance(found, request.Subscribe)
    assert found.since == expected


def test_the_small_messages():
    assert parsed({"type": "unsubscribe", "id": "x"}) == request.Unsubscribe("x")
    assert parsed({"type": "ping"}) == request.Ping()
    assert parsed({"type": "snapshot"}) == request.Snapshot(None)
    assert parsed({"type": "auth", "token": "t"}) == request.Auth("t")


def test_published_events_keep_their_bytes():
    found = request.parse_client_message(b'{"type":"publish","events":[ ' + EVENT + b" , " + EVENT + b"]}")
    assert found == request.Publish([EVENT, EVENT])


def test_a_lone_surrogate_in_an_event_does_not_spoil_its_batch():
    lines = [b'{"run_id":"r","t":"\\ud83d"}', EVENT, b"7", b'{"a":"]}"}']
    message = b'{"type":"publish","events":[ %b ,%b,%b, %b ] ,"x":1}' % tuple(lines)
    assert request.parse_client_message(message) == request.Publish(lines)
    for end in (b"", b"]", b"]}}", b",", b"}", b",1]}x", b" 1]}"):
        assert refused(b'{"type":"publish","events":[%b%b' % (lines[0], end)).startswith("bad_json")
    found = wire.parse_hub_message(wire.events_message(b"1", 0, 4, b",".join(lines)))
    assert (found.prev, found.pos, found.lines) == (0, 4, lines)


def test_an_event_written_over_several_lines_becomes_one_line():
    found = request.parse_client_message(b'{"type":"publish","events":[{"type":\n"x"}]}')
    assert found == request.Publish([b'{"type": "x"}'])


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_bare_ndjson_is_a_batch(end: bytes):
    assert request.parse_client_message(EVENT + end) == request.Publish([EVENT])
    assert request.parse_client_message(EVENT + b"\r\n\n" + EVENT + end) == request.Publish([EVENT, EVENT])


def test_a_bad_line_in_ndjson_stays_a_line_of_its_batch():
    assert request.parse_client_message(EVENT + b"\n{bad\n") == request.Publish([EVENT, b"{bad"])
    assert request.parse_client_message(b'{"run_id":"r\n' + EVENT) == request.Publish([b'{"run_id":"r', EVENT])


def test_an_event_may_be_called_like_a_message():
    line = b'{"type":"ping","run_id":"r"}'
    assert request.parse_client_message(line) == request.Publish([line])


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
def test_a_bad_message_is_refused_by_code_and_field(message: object, problem: str):
    assert refused(message).startswith(problem)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_give_a_message_or_a_protocol_error(data: bytes):
    code = None
    try:
        request.parse_client_message(data)
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
def test_any_json_gives_a_message_or_a_protocol_error(value: object):
    for message in (value, {"type": "subscribe", "id": 1, "filter": value, "since": value}):
        try:
            parsed(message)
        except ProtocolError:
            continue


@pytest.mark.parametrize("depth", [300, 500, 900, 960, 975, 980, 985, 990, 995, 1100, 3000])
@pytest.mark.parametrize("others", [[], [EVENT], [EVENT, EVENT]])
def test_an_event_that_nests_too_deeply_does_not_spoil_its_batch(depth: int, others: list[bytes]):
    """It is refused alone, by whoever takes it: a batch that is refused whole would settle nothing."""
    deep = b'{"type":"x","run_id":"r","sequence":1,"payload":%b%b}' % (b"[" * depth, b"]" * depth)
    assert request.parse_client_message(publication([*others, deep])) == request.Publish([*others, deep])
    assert request.parse_client_message(publication([deep, *others])) == request.Publish([deep, *others])
    wrapped = b'{"type":"publish","events":[%b]}' % b",".join([deep, *others])
    assert request.parse_client_message(wrapped) == request.Publish([deep, *others])
    assert request.parse_client_message(deep) == request.Publish([deep])


def test_contents_can_be_left_out():
    found = parsed({"type": "subscribe", "id": 1, "includeContent": False})
    assert isinstance(found, request.Subscribe)
    assert found.filter.without == {"content"}


@pytest.mark.parametrize(
    ("data", "own_id"),
    [
        (b'{"type":"subscribe","id":7,"since":"nowhere"}', 7),
        (b'{"type":"subscribe","id":"a","filter":5}', "a"),
        (b'{"type":"subscribe","id":true}', None),
        (b'{"type":"subscribe"', None),
        (b'{"type":"nothing"}', None),
    ],
)
def test_what_a_message_that_makes_no_sense_is_about_can_be_told(data: bytes, own_id: object):
    assert request.id_of(data) == own_id
