"""An event is its line: peeking reads the head alone, and nothing that nobody changed is ever encoded again."""

import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentpipe import event as module
from agentpipe.event import (
    MAX_SEQUENCE,
    Event,
    Maker,
    decode,
    encode,
    gap,
    make,
    peek,
    peek_lines,
    seconds,
    timestamp,
)

HEAD = b'"type":"t","run_id":"r","agent_id":"a","sequence":7'

#: Valid JSON that careless re-encoding would change (research "JSON corner cases"): it passes, byte for byte.
VALID = {
    "2**64": b'{%s,"payload":{"n":18446744073709551616}}',
    "2**53+1": b'{%s,"payload":{"n":9007199254740993}}',
    "1e400": b'{%s,"payload":{"n":1e400}}',
    "lone surrogate": b'{%s,"payload":{"s":"\\ud800"}}',
    "lone low surrogate": b'{%s,"payload":{"s":"\\udc00x"}}',
    "escapes": b'{%s,"payload":{"s":"\\u0041\\/\\u00e9\\ud83d\\ude00"}}',
    "duplicate keys": b'{"sequence":1,%s,"payload":{"a":1,"a":2}}',
    "nesting 500": b'{%s,"payload":' + b"[" * 500 + b"]" * 500 + b"}",
    "5000 digits": b'{%s,"payload":{"n":' + b"9" * 5000 + b"}}",
    "-0, 1.0, 1e2": b'{%s,"payload":[-0,1.0,1e2,1E+2]}',
    "white space": b' { %s , "payload" : { } }\t',
    "key order and unknown keys": b'{"zz":1,%s,"aa":{}}',
    "U+2028": b'{%s,"payload":{"s":"\xe2\x80\xa8\xc2\x85"}}',
    "escaped NUL": b'{%s,"payload":{"s":"\\u0000"}}',
}
#: What is no JSON object, and must be said to be none.
INVALID = {
    "NaN": b'{%s,"payload":{"n":NaN}}',
    "Infinity": b'{%s,"payload":{"n":-Infinity}}',
    "invalid UTF-8 in a value": b'{%s,"payload":{"s":"\xff"}}',
    "invalid UTF-8 in the head": b'{"work_id":"\xff",%s}',
    "encoded surrogate": b'{%s,"payload":{"s":"\xed\xa0\x80"}}',
    "BOM": b"\xef\xbb\xbf{%s}",
    "trailing NUL": b"{%s}\x00",
    "nesting 100000": b'{%s,"payload":' + b"[" * 100000 + b"]" * 100000 + b"}",
    "two values": b"{%s}{%s}",
    "cut": b'{%s,"payload":{"s":"',
    "control character": b'{%s,"payload":{"s":"\x01"}}',
    "UTF-16": "{}".encode("utf-16-le"),
    "array": b"[{%s}]",
    "number": b"17",
    "text": b"hello",
    "nothing": b"",
    "spaces": b"   ",
}


def filled(row: bytes) -> bytes:
    return row.replace(b"%s", HEAD)


@pytest.mark.parametrize("row", VALID.values(), ids=VALID.keys())
def test_valid_corner_cases_keep_their_bytes_and_their_head(row: bytes) -> None:
    line = filled(row)
    for event in (peek(line), *peek_lines([line])[0], *peek_lines([line, b'{"a":1}', b'{"a":"\\ud800"}'])[0][:1]):
        assert event.line == line
        assert (event.type, event.run_id, event.agent_id, event.sequence) == ("t", "r", "a", 7)
        assert isinstance(event.payload, dict)
        assert event.timestamp is None


@pytest.mark.parametrize("row", INVALID.values(), ids=INVALID.keys())
def test_invalid_corner_cases_are_refused_and_their_neighbours_are_not(row: bytes) -> None:
    line = filled(row)
    with pytest.raises(ValueError):
        peek(line)
    good = b"{" + HEAD + b"}"
    events, bad = peek_lines([good, line, good])
    assert [event.line for event in events] == [good, good]
    assert [(index, text) for index, text, _ in bad] == [(1, line)]


@pytest.mark.parametrize(
    "lines",
    [
        [b'{"a":1}{"b":2}', b"  "],
        [b'{"a":1', b',"b":2}', b"{}{}"],
        [b'{"a":{}', b"}", b"{}{}"],
        [b"{}{}", b'{"a":1', b',"b":{}}'],
    ],
)
def test_values_that_span_lines_never_shift_what_belongs_to_which_line(lines: list[bytes]) -> None:
    events, bad = peek_lines(lines)
    assert events == []
    assert [line for _, line, _ in bad] == lines


ODD = st.sampled_from(
    [b"{}", b'{"a":1', b"}", b",", b'"b":2}', b"{}{}", b" ", b'{"run_id":3}', b'{"run_id":"x"}', b"[]", b"\xff"]
)


@given(st.lists(st.lists(ODD, max_size=3).map(b"".join), max_size=6))
def test_many_lines_are_peeked_as_each_alone_would_be(lines: list[bytes]) -> None:
    events, bad = peek_lines(lines)
    alone: list[Event] = []
    refused = []
    for index, line in enumerate(lines):
        try:
            alone.append(peek(line))
        except ValueError:
            refused.append(index)
    assert events == alone
    assert [event.line for event in events] == [event.line for event in alone]
    assert [index for index, _, _ in bad] == refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", b"3"), ("type", b"null"), ("run_id", b"[]"), ("agent_id", b"{}"), ("work_id", b"1.5"),
        ("event_id", b"true"), ("sequence", b'"7"'), ("sequence", b"true"), ("sequence", b"1.5"), ("sequence", b"0"),
        ("sequence", b"-1"), ("sequence", b"9007199254740992"), ("sequence", b"18446744073709551616"),
        ("run_id", b'"\\ud800"'), ("work_id", b'"\\ud800"'),
    ],
)  # fmt: skip
def test_a_head_field_of_the_wrong_kind_counts_as_absent(field: str, value: bytes) -> None:
    line = b'{"type":"t","run_id":"r","agent_id":"a","work_id":"w","event_id":"e","sequence":7,"%s":%s}'
    line %= (field.encode(), value)
    given_head = {"type": "t", "run_id": "r", "agent_id": "a", "work_id": "w", "event_id": "e", "sequence": 7}
    absent = {"type": "", "run_id": "", "agent_id": "", "work_id": None, "event_id": None, "sequence": None}
    event = peek(line)
    assert {name: getattr(event, name) for name in given_head} == {**given_head, field: absent[field]}
    assert event.line == line
    assert peek_lines([line])[0] == [event]


def test_the_last_of_duplicate_keys_counts_and_the_largest_exact_number_passes() -> None:
    assert peek(b'{"run_id":"a","run_id":"b"}').run_id == "b"
    assert peek(b'{"sequence":%d}' % MAX_SEQUENCE).sequence == MAX_SEQUENCE
    assert peek(b'{"\xef\xbf\xbdline":"eA=="}').line == b'{"\xef\xbf\xbdline":"eA=="}'


def test_a_payload_that_cannot_be_decoded_reads_as_empty_and_the_envelope_says_why() -> None:
    event = peek(b'{"payload":{"n":' + b"9" * 5000 + b"}}")
    assert event.payload == {}
    assert event.timestamp is None
    with pytest.raises(ValueError):
        event.envelope  # noqa: B018 - reading it is what raises


TEXT = st.text(st.characters(codec=None))  # lone surrogates too
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal kinds: 1 is not 1.0 and not True, 0.0 is not -0.0."""
    return type(one) is type(other) and repr(one) == repr(other)


@given(VALUES)
@example("\ud800")
@example([2**64, -(2**63) - 1, -0.0])
@example({"a": {"\udfff": 10**40}})
def test_what_is_encoded_decodes_to_the_same(value: Any) -> None:
    line = encode(value)
    assert b"\n" not in line
    line.decode()
    assert same(decode(line), value)
    assert same(json.loads(line), value)


def test_what_is_encoded_takes_no_more_memory_than_its_bytes() -> None:
    """orjson's own result keeps all that was reserved for it: 8 KB for a string of 1,000 characters."""
    tracemalloc.start()
    try:
        kept = [module.encode({"text": "x" * 1000}) for _ in range(100)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 100 * 1200, [size, len(kept)]


def test_deep_values_are_encoded_too() -> None:
    value: Any = 1
    for _ in range(400):
        value = [value]
    assert decode(encode(value)) == value


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("beside", ["\ud800", "Infinity and NaN", 2**70, "\ud800 NaN"])
def test_a_number_without_json_is_null_whatever_stands_beside_it(number: float, beside: Any) -> None:
    assert decode(encode([beside, number, {"a": number}, 1.5])) == [beside, None, {"a": None}, 1.5]
    assert decode(encode(decode(b'[1e999,"\\ud800"]'))) == [1.7976931348623157e308, "\ud800"]


@pytest.mark.parametrize(
    "text", [b"NaN", b"[Infinity]", b"\xef\xbb\xbf1", b"1\x00", b"[" * 100000, b"9" * 5000, b"", b"\xff"]
)
def test_decode_refuses_with_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode(text)


def test_a_number_beyond_doubles_becomes_the_largest_and_stays_a_number() -> None:
    assert decode(b"[1e400,-1e400]") == [1.7976931348623157e308, -1.7976931348623157e308]
    assert math.isfinite(decode(encode(decode(b"1e400"))))


IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(
    IDS, IDS, IDS, st.none() | IDS, st.none() | st.integers(1, MAX_SEQUENCE), st.dictionaries(TEXT, VALUES, max_size=3)
)
def test_what_is_made_is_what_is_peeked(
    type_: str, run: str, agent: str, work: str | None, sequence: int | None, payload: dict[str, Any]
) -> None:
    made = make(
        type_, payload, run_id=run, agent_id=agent, sequence=sequence, at="2026-11-20T07:00:00.000Z", work_id=work
    )
    assert peek(made.line) == made
    assert same(made.payload, payload)
    assert made.timestamp == "2026-11-20T07:00:00.000Z"
    assert made.identity == f"{run}:{sequence}"
    assert list(made.envelope)[:3] == ["type", "run_id", "agent_id"]


@given(
    IDS,
    IDS,
    st.none() | IDS,
    st.lists(st.tuples(IDS, st.dictionaries(TEXT, VALUES, max_size=3), st.none() | st.just("") | IDS), max_size=5),
)
@example("r", "a", "w", [("t", {"a": "\ud800"}, "p"), ("t", {"b": 2**70}, None)])
def test_a_maker_makes_what_make_makes(
    run: str, agent: str, work: str | None, rows: list[tuple[str, dict[str, Any], str | None]]
) -> None:
    maker = Maker(run_id=run, agent_id=agent, work_id=work)
    for number, (type_, payload, parent) in enumerate(rows, 1):
        at = f"2026-11-20T07:00:00.{number:03}Z"
        expected = make(
            type_, payload, run_id=run, agent_id=agent, sequence=number, at=at, work_id=work, parent_id=parent
        )
        assert maker.make(type_, payload, at, parent) == expected


def test_optional_fields_are_left_out_or_written_where_given() -> None:
    plain = make("t", {}, run_id="r", agent_id="a", sequence=None, at="T")
    assert plain.envelope == {"type": "t", "run_id": "r", "agent_id": "a", "timestamp": "T", "payload": {}}
    full = make("t", {}, run_id="r", agent_id="a", sequence=3, at="T", parent_id="p", covers=[(1, 2)], event_id="own")
    assert full.envelope["covers"] == [[1, 2]]
    assert full.envelope["parent_id"] == "p"
    assert full.identity == full.envelope["event_id"] == "own"


def test_a_gap_is_known_by_its_ranges() -> None:
    hole = gap([(2, 4), (7, 7)], "throttle", run_id="r", agent_id="a", at="T", types={"agent_output": 4})
    assert hole.payload == {"ranges": [[2, 4], [7, 7]], "count": 4, "reason": "throttle", "types": {"agent_output": 4}}
    assert (hole.sequence, hole.event_id) == (7, "r:gap:2-7")
    unplaced = gap([], "oversize", run_id="r", agent_id="a", at="T", count=3)
    assert (unplaced.sequence, unplaced.event_id, unplaced.payload["count"]) == (None, None, 3)


@given(st.floats(0, 4e9))
def test_timestamps_are_milliseconds_in_utc_and_sort_as_text(now: float) -> None:
    text = timestamp(now)
    assert 0 <= now - seconds(text) < 0.0011
    assert len(text) == len("2026-11-20T07:00:00.123Z")
    assert text <= timestamp(now + 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:00", 0.0),
        ("1970-01-01T01:00:00.5+01:00", 0.5),
        ("1970-01-01T00:00:01.123456789Z", 1.123456),
    ],
)
def test_seconds_reads_what_agents_write(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected, abs=1e-6)


def test_seconds_refuses_what_is_no_timestamp() -> None:
    with pytest.raises(ValueError):
        seconds("yesterday")


def test_exempt_types_hold_all_that_ends_a_run() -> None:
    assert module.TERMINAL_TYPES < module.EXEMPT_TYPES
    assert {"error", "gap", "run_started"} <= module.EXEMPT_TYPES


def accepted(line: bytes) -> dict[str, Any] | None:
    """What the standard library, told to be strict, makes of *line*; None when it is no JSON object."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        found = json.loads(line.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


TOKENS = st.sampled_from(
    [b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b'"type"', b'"run_id"', b'"sequence"', b'"payload"', b'"x"', b"1",
     b"-0", b"1.5", b"1e9", b"01", b"true", b"null", b"nul", b"NaN", b'"\\ud800"', b'"\\u00e9"', b'"\xc3\xa9"', b"\xff",
     b'"\\x"', b"\x00", b'"', b"\\", b'{"type":"t"}', b'"a":{}', b'"sequence":7']
)  # fmt: skip


@given(st.lists(TOKENS, max_size=9).map(b"".join))
@example(b'{"a":"\\ud800","type":"t"}')
@example(b'{"type":"\\ud83d\\ude00"}')
def test_peeking_accepts_what_is_a_json_object_and_nothing_else(line: bytes) -> None:
    found = accepted(line)
    try:
        event = peek(line)
    except ValueError:
        assert found is None
        return
    assert found is not None
    assert event.line == line
    kind = found.get("type")
    assert event.type == (kind if isinstance(kind, str) and kind.isprintable() else "")
    assert event.sequence == (
        found["sequence"] if type(found.get("sequence")) is int and found["sequence"] > 0 else None
    )


@given(st.dictionaries(st.sampled_from(["type", "run_id", "work_id", "sequence", "payload", "timestamp", "x"]), VALUES))
def test_the_head_is_what_the_whole_line_says(envelope: dict[str, Any]) -> None:
    line = json.dumps(envelope).encode()
    event = peek(line)
    assert event.envelope == json.loads(line)
    assert event.payload == (envelope["payload"] if isinstance(envelope.get("payload"), dict) else {})
    run = envelope.get("run_id")
    told = isinstance(run, str) and not any("\ud800" <= letter <= "\udfff" for letter in run)
    assert event.run_id == (run if told else "")
