"""Lines of a command as events: the same bytes, every line, numbered without a hole."""

import json
import random
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe.event import peek
from agentpipe.payload import event_schema
from agentpipe.process_event import ProcessEvents

AT = 1_790_000_000.25


def events_of(data: bytes, *, cuts: int = 0, seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    """The events of *data* as stdout, fed in *cuts* + 1 pieces, each decoded; checks what holds for every stream."""
    made = ProcessEvents(run_id="r", agent_id="a", **more)
    places = sorted(random.Random(seed).randrange(len(data) + 1) for _ in range(cuts))
    out = b""
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        out += made.output("stdout", data[start:end], AT)
    out += made.ended("stdout", AT)
    lines = out.split(b"\n")
    assert lines.pop() == b""
    events = [json.loads(line) for line in lines]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert made.last_sequence == len(events)
    for line in lines:
        assert peek(line).run_id == "r"
    return events


def payloads(data: bytes, **more: Any) -> list[dict[str, Any]]:
    return [event["payload"] for event in events_of(data, **more)]


def test_the_envelope_is_whole_and_valid() -> None:
    schema = event_schema()
    made = ProcessEvents(run_id='r"\\ü', agent_id="claude", work_id="w%d")
    out = made.started(["claude", "-p", "%s"], "/home", 7, AT)
    out += made.output("stdout", b'{"a":1}\nplain\n\xff\n', AT)
    out += made.output("stderr", b"oh\n", AT)
    out += made.warning("slow", "queue_full", AT)
    out += made.exited(exit_code=None, signal="SIGTERM", duration_ms=5, reason="signal", at=AT)
    events = [json.loads(line) for line in out.splitlines()]
    for event in events:
        jsonschema.validate(event, schema)
    assert [event["type"] for event in events] == [
        "process_started", "process_output", "process_output", "process_output", "process_output", "error",
        "process_exited",
    ]  # fmt: skip
    assert [event["sequence"] for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert {event["event_id"] for event in events} == {f'r"\\ü:{number}' for number in range(1, 8)}
    assert {(event["run_id"], event["agent_id"], event["work_id"]) for event in events} == {('r"\\ü', "claude", "w%d")}
    assert {event["timestamp"] for event in events} == {"2026-09-21T14:13:20.250Z"}
    assert list(events[0]) == list(events[1]), "the keys come in the same order however a line was made"


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":1}',
        b"{}",
        b"[]",
        b'[1, 2 ,{"b":null}]',
        b'  {"indented":true}  ',
        b'{"z":1,"a":2,"z":3}',
        b'{"big":123456789012345678901234567890,"f":1e5,"g":1.50}',
        b'{"esc":"\\u00e9\\/\\u2028","raw":"\xe2\x80\xa8\xf0\x9f\x98\x80"}',
        b'{"type":"process_output","run_id":"x","sequence":99}',
        b'{"percent":"%d %s %%"}',
    ],
)
def test_a_json_object_or_array_is_spliced_in_as_the_same_bytes(line: bytes) -> None:
    for lines in ([line], [line] * 3, [line, b"text"], [b"", line]):
        made = ProcessEvents(run_id="r", agent_id="a")
        out = made.output("stdout", b"\n".join(lines) + b"\n", AT)
        assert out.count(b'"data":' + line + b"}}\n") == lines.count(line)


@pytest.mark.parametrize(
    "line",
    [
        b"word", b"1", b'"string"', b"null", b"true", b"-", b"", b" ", b"\t",
        b"{", b"}", b"{]", b'{"a":1', b'{"a":01}', b'{"a":1.}', b"{'a':1}", b'{"a":1,}', b'{"a":NaN}', b'{"a":tru}',
        b'{"a":1} trailing', b'{"a":1}{"b":2}', b"[1 2]", b'{"a":"tab\there"}', b'{"a":"\\x"}', b'{"a":"\x01"}',
        b'{"lone":"\\ud800"}', b"[" * 100_000, b'quote " backslash \\ %d %s', b"\x00\x1b[31m\x7f",
        "Grüße, 日本 😀 \u2028 \u2029".encode(), b'{"cr":\r1}', b"progress 10%\rprogress 20%",
    ],
)  # fmt: skip
def test_anything_else_is_text_without_loss(line: bytes) -> None:
    for lines in ([line], [line, b"plain"], [line, b'{"a":1}'], [b"x"] * 5 + [line]):
        index = lines.index(line)
        payload = payloads(b"\n".join(lines) + b"\n")[index]
        assert payload == {"stream": "stdout", "text": line.decode()}


def test_two_values_on_one_line_and_a_value_over_two_lines_are_not_mistaken_for_two_good_lines() -> None:
    assert [set(payload) for payload in payloads(b'[1,\n[2]]{"x":1}\n')] == [{"stream", "text"}] * 2
    assert [set(payload) for payload in payloads(b'{"a":1}{"b":2}\n{"c":\n3}\n')] == [{"stream", "text"}] * 3


def test_bytes_that_are_no_utf_8_are_replaced_visibly_and_flagged() -> None:
    found = payloads(b'caf\xe9\n{"a":"\xff"}\ngood\n')
    assert found == [
        {"stream": "stdout", "text": "caf\ufffd", "invalid_utf8": True},
        {"stream": "stdout", "text": '{"a":"\ufffd"}', "invalid_utf8": True},
        {"stream": "stdout", "text": "good"},
    ]


def test_blank_lines_are_lines() -> None:
    assert [p["text"] for p in payloads(b"\n\na\n\n\nb\n\n")] == ["", "", "a", "", "", "b", ""]
    assert [p.get("text", p.get("data")) for p in payloads(b'{"a":1}\n\n{"b":2}\n')] == [{"a": 1}, "", {"b": 2}]


def test_a_line_ends_at_lf_or_crlf() -> None:
    assert payloads(b'a\r\n{"b":1}\r\n\r\nc\rd\n') == [
        {"stream": "stdout", "text": "a"},
        {"stream": "stdout", "data": {"b": 1}},
        {"stream": "stdout", "text": ""},
        {"stream": "stdout", "text": "c\rd"},
    ]


@pytest.mark.parametrize(
    ("tail", "rest"),
    [
        (b"half", {"text": "half"}),
        (b'{"whole":1}', {"data": {"whole": 1}}),
        (b'{"cut":"o', {"text": '{"cut":"o'}),
        (b"cut \xe2\x82", {"text": "cut \ufffd", "invalid_utf8": True}),
    ],
)
def test_a_last_line_without_its_end_is_torn(tail: bytes, rest: dict[str, Any]) -> None:
    assert payloads(b"first\n" + tail) == [
        {"stream": "stdout", "text": "first"},
        {"stream": "stdout", **rest, "torn": True},
    ]


def test_nothing_printed_gives_no_event() -> None:
    assert events_of(b"") == []


def test_the_two_streams_share_the_numbers_and_not_the_lines() -> None:
    made = ProcessEvents(run_id="r", agent_id="a")
    out = made.output("stdout", b"one\nhal", AT) + made.output("stderr", b"two\nx", AT)
    out += made.output("stdout", b"f\n", AT) + made.ended("stderr", AT) + made.ended("stdout", AT)
    events = [json.loads(line) for line in out.splitlines()]
    assert [(e["sequence"], e["payload"]["stream"], e["payload"]["text"]) for e in events] == [
        (1, "stdout", "one"), (2, "stderr", "two"), (3, "stdout", "half"), (4, "stderr", "x"),
    ]  # fmt: skip


@pytest.mark.parametrize("cuts", [0, 50])
@pytest.mark.parametrize(
    ("line", "fits"),
    [
        (b"x" * 1700, True),
        (b"x" * 2000, False),  # the line is within the limit, its event is not
        (b"x" * 100_000, False),
        (b'"' * 800, True),
        (b'"' * 1000, False),  # escaped, it is twice as long
        (b"\x01" * 250, True),
        (b"\x01" * 400, False),  # and this six times
        (b'["' + b"x" * 1700 + b'"]', True),
        (b'["' + b"x" * 2000 + b'"]', False),
    ],
)
def test_a_line_whose_event_is_over_the_limit_is_a_declared_gap_and_its_neighbours_are_unharmed(
    line: bytes, fits: bool, cuts: int
) -> None:
    before, found, after = events_of(b"before\n" + line + b'\n{"after":1}\n', cuts=cuts, max_line=2048)
    assert (before["payload"]["text"], after["payload"]["data"]) == ("before", {"after": 1})
    assert found["sequence"] == 2
    if fits:
        assert found["payload"].get("text", found["payload"].get("data")) in (line.decode(), [line[2:-2].decode()])
    else:
        assert (found["type"], found["event_id"]) == ("gap", "r:gap:2-2")
        assert found["payload"] == {"ranges": [[2, 2]], "count": 1, "reason": "oversize"}


def test_no_event_is_longer_than_the_limit_and_those_over_it_are_counted() -> None:
    made = ProcessEvents(run_id="r", agent_id="a", max_line=2048)
    out = b"".join(made.output("stdout", b"x" * size + b"\n", AT) for size in range(1, 4000, 7))
    lines = out.splitlines()
    assert 2000 < max(map(len, lines)) <= 2048
    assert made.oversize == sum(b'"type":"gap"' in line for line in lines) > 100


def test_every_line_of_stdout_is_shown_to_the_watch() -> None:
    seen: list[bytes] = []
    made = ProcessEvents(run_id="r", agent_id="a", watch=seen.extend)
    made.output("stderr", b"not this\n", AT)
    made.output("stdout", b'a\n{"b":1}\nc', AT)
    made.ended("stdout", AT)
    assert seen == [b"a", b'{"b":1}', b"c"]


def told(line: bytes) -> dict[str, Any]:
    """What a line has to become, said the slow way."""
    if line.strip(b" \t")[:1] in (b"{", b"[") and b"\r" not in line:
        try:
            return {"data": orjson.loads(line)}
        except orjson.JSONDecodeError:
            pass
    try:
        return {"text": line.decode()}
    except UnicodeDecodeError:
        return {"text": line.decode(errors="replace"), "invalid_utf8": True}


LINE = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"", b"\r", b"{}", b"[1]", b" {}", b'{"a":"b"}', b"{", b"plain", b'q"', b"\xff", "é".encode()]),
    st.recursive(st.none() | st.integers(-9, 9) | st.text(max_size=3), st.lists, max_leaves=4).map(orjson.dumps),
)


@given(lines=st.lists(LINE, max_size=30), cuts=st.integers(0, 8), seed=st.integers(0, 99), ends=st.booleans())
def test_any_bytes_cut_anywhere_give_the_events_that_the_slow_way_gives(
    lines: list[bytes], cuts: int, seed: int, *, ends: bool
) -> None:
    data = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    expected = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    last = expected.pop()
    wanted = [{"stream": "stdout", **told(line.removesuffix(b"\r"))} for line in expected]
    if last:
        wanted.append({"stream": "stdout", **told(last.removesuffix(b"\r")), "torn": True})
    assert payloads(data, cuts=cuts, seed=seed) == wanted
