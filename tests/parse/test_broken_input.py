"""Input that is mixed, broken or hostile, whatever the format: what is whole is told, the rest is kept."""

import base64
import json
import random
from typing import Any

import pytest

from agentpipe.event import decode
from agentpipe.intake import Intake
from tests.parse.lines import (
    NOW,
    SESSION,
    Line,
    assistant,
    call,
    encoded,
    init,
    of,
    parsed,
    parsed_bytes,
    result,
    returned,
    stage,
    system,
    text,
    types,
    wrapped,
)
from tests.parse.logs import EXAMPLES, LOGS

LINES = [init(), text("one", "m1"), call("Bash", {"command": "ls"}), returned("out"), text("two", "m2"), result()]


def told(data: bytes, **options: Any) -> list[Line]:
    return [decode(event.line) for event in parsed_bytes(data, stage(**options))]


def seen(events: list[Line]) -> list[tuple[str, Any]]:
    """What is told, without numbers and without what is kept raw."""
    return [(event["type"], event["payload"]) for event in events if event["type"] != "raw"]


def raws(events: list[Line]) -> list[str]:
    return [p["text"] for p in of(events, "raw")]


def accounted(data: bytes, lines: int) -> bool:
    parse = stage()
    parsed_bytes(data, parse)
    report = parse.report()
    return report["in"] == lines == sum(report[name] for name in ("sources", "ignored", "raw", "passed_through"))


# ---- between the lines


STDERR = """Error: something went wrong
    at Object.<anonymous> (/app/cli.js:1:1) {
  code: 'ENOENT',
  config: {"a": 1}
}

{
  "level": "warn",
  "retry": [
    1
  ]
}
Warning: {"not": "an event"}
"""


@pytest.mark.parametrize("place", range(1, len(LINES) + 1))
def test_blocks_of_stderr_between_events_leave_the_events_alone(place: int) -> None:
    data = encoded(LINES[:place]) + STDERR.encode() + encoded(LINES[place:])
    events = told(data)
    assert seen(events) == seen(parsed(*LINES))
    kept = "\n".join(p.get("text") or json.dumps(p["data"]) for p in of(events, "raw"))
    for ink in ("Error: something", "at Object.<anonymous>", "code: 'ENOENT'", '"level": "warn"', '"not": "an event"'):
        assert ink in kept
    assert accounted(data, len(LINES) + STDERR.count("\n") - 1)


def test_blank_lines_and_crlf_change_nothing() -> None:
    data = encoded(LINES).replace(b"\n", b"\r\n\r\n \t\n\n")
    assert seen(told(data)) == seen(parsed(*LINES))


def test_a_byte_order_mark_changes_nothing() -> None:
    assert told(b"\xef\xbb\xbf" + encoded(LINES)) == parsed(*LINES)


@pytest.mark.parametrize("cut", [1, 2, 10, 100])
def test_a_truncated_tail_is_kept_and_said(cut: int) -> None:
    data = encoded(LINES)[: -cut - 1]
    events = told(data)
    assert seen(events)[:-1] == seen(parsed(*LINES[:-1]))[:-1]
    assert len(raws(events)) == 1
    assert events[-1]["payload"]["incomplete"] == "no result from the agent; the last line is cut"


def test_one_line_in_a_hundred_that_is_corrupted_affects_only_itself() -> None:
    lines = [json.dumps(line) for number in range(120) for line in (text(f"t{number}", f"m{number}"), system("status"))]
    lines = [json.dumps(init()), *lines, json.dumps(result())]
    for seed in range(20):
        chance = random.Random(seed)
        bad = set(chance.sample(range(1, len(lines) - 1), 3))
        broken = [line[: chance.randrange(1, len(line) - 1)] if n in bad else line for n, line in enumerate(lines)]
        without = [line for n, line in enumerate(lines) if n not in bad]
        assert seen(parsed(*broken)) == seen(parsed(*without))
        assert len(raws(parsed(*broken))) == 3


# ---- inside the lines


def test_bytes_that_are_no_utf_8_cost_a_character_not_the_line() -> None:
    data = encoded([init(), text("h\u00e9", "m1")]).replace(b"\\u00e9", b"\xe9")
    assert of(told(data), "agent_output")[0]["text"] == "h�"


ODD = {
    "U+FFFD": "\ufffd", "NUL": "a\x00b", "high surrogate": chr(0xD83D), "low surrogate": "x" + chr(0xDC00),
    "U+2028": "\u2028\u2029", "ANSI": "\x1b[31mred", "BOM": "\ufeff", "astral": "\U0001f600",
}  # fmt: skip

#: What JSON can say without an escape.
PLAIN = ("U+FFFD", "U+2028", "BOM", "astral")


@pytest.mark.parametrize(("name", "escaped"), [*((name, True) for name in ODD), *((name, False) for name in PLAIN)])
def test_odd_characters_survive_everywhere(name: str, escaped: bool) -> None:
    odd = ODD[name]
    lines = [init(), text(odd), call("Bash", {"command": odd}), returned(odd)]
    data = b"".join(json.dumps(line, ensure_ascii=escaped).encode() + b"\n" for line in lines)
    events = told(data)
    assert of(events, "agent_output")[0]["text"] == odd
    assert of(events, "agent_tool_call")[0]["input"]["command"] == odd
    assert of(events, "agent_tool_result")[0]["content"] == odd


def test_a_nul_between_lines_and_a_file_that_begins_with_nuls() -> None:
    """What a truncated log that is still written to looks like."""
    data = b"\x00" * 4096 + encoded(LINES).replace(b"\n", b"\n\x00\n", 1)
    assert seen(told(data)) == seen(parsed(*LINES))


def test_a_line_of_three_megabytes_is_a_line() -> None:
    big = "x" * 3_000_000
    [made] = of(parsed(init(), call("Bash", {}), returned(big, tool_use_result={"stdout": big})), "agent_tool_result")
    assert (made["bytes"], made["truncated"], made["whole"][0]["bytes"]) == (3_000_000, True, 3_000_000)


def test_a_broken_line_of_two_megabytes_is_soon_given_up() -> None:
    block = '{"type":"text","text":"' + "y" * 90 + '"},'
    broken = '{"type":"assistant","message":{"content":[' + block * 18_000 + '{"type":'
    events = parsed(init(), broken, result())
    assert [broken.startswith(kept) for kept in raws(events)] == [True]
    assert "".join(part["text"] for part in of(events, "content")) == broken


def test_deeply_nested_lines_are_kept() -> None:
    broken = '{"type":' + '{"a":' * 3_000
    assert raws(parsed(init(), broken, result())) == [broken]


# ---- around the lines


MARKS = [
    "[agent] ",
    "2026-11-20T07:00:00.123Z ",
    "web-1  | ",
    "agent> ",
    "12:00:01 INFO ",
    "\x1b[?25l",
    "\x1b[32m[a]\x1b[0m ",
]


@pytest.mark.parametrize("mark", MARKS)
def test_lines_behind_a_wrapper_s_mark_are_read(mark: str) -> None:
    data = b"".join(mark.encode() + line + b"\n" for line in encoded([init(uuid="u"), *LINES[1:]]).splitlines())
    events = told(data)
    assert seen(events) == seen(parsed(*LINES))
    assert not raws(events)
    assert accounted(data, len(LINES))


def test_events_of_run_behind_a_mark_are_read() -> None:
    data = b"".join(b"job-1 | " + line + b"\n" for line in encoded(wrapped(LINES)).splitlines())
    assert told(data) == parsed(*wrapped(LINES))


def test_an_object_behind_a_mark_that_is_nobody_s_line_is_text() -> None:
    lines = ['[app] {"level":"info","message":"x"}', '[app] {"type":"result","message":"x"}']
    assert types(parsed(*lines)) == ["run_started", "agent_output", "agent_output", "run_completed"]


def test_an_object_inside_a_broken_half_is_not_taken_for_a_line() -> None:
    inner = json.dumps(text("inner", uuid="u9"))
    for half in (f'sage":{inner}', f'"message":{inner},"x":1}}', f'"a":[{inner}]', f'{{"note":{inner}'):
        events = parsed(init(), half, result())
        assert "agent_output" not in types(events) or half.startswith("{")


def test_two_lines_without_a_line_end_between_are_two() -> None:
    data = encoded(LINES).replace(b"\n", b"", 3)
    events = told(data)
    assert seen(events) == seen(parsed(*LINES))
    assert not raws(events)
    assert accounted(data, len(LINES) - 3)


def test_text_after_a_line_is_kept_beside_it() -> None:
    events = parsed(init(), json.dumps(text("one")) + "Warning: slow", result())
    assert [p["text"] for p in of(events, "agent_output")] == ["one"]
    assert raws(events) == ["Warning: slow"]


def test_what_a_terminal_adds_after_a_line_says_nothing() -> None:
    events = parsed(init(), json.dumps(text("one")) + "\x1b[?25h", result())
    assert not raws(events)


def test_an_empty_line_after_half_a_line_is_counted() -> None:
    limit = {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected"}, "session_id": SESSION}
    parse = stage()
    lines = wrapped([init(), '{"type":"assis' + json.dumps(limit), "", text("one"), result()])
    parsed_bytes(encoded(lines), parse)
    report = parse.report()
    assert report["in"] == len(lines) == sum(report[name] for name in ("sources", "ignored", "raw", "passed_through"))


def test_halves_are_not_put_together_by_guess() -> None:
    """The end of one line and that of another would make a line that nobody wrote."""
    one, other = json.dumps(text("the first text", uuid="u1")), json.dumps(text("another text", uuid="u2"))
    halves = [one[: one.index("first")], other[other.index("another") + 8 :]]
    assert raws(parsed(init(), *halves, result())) == halves


def test_a_forced_plain_text_is_left_alone() -> None:
    line = "[agent] " + json.dumps(init())
    assert of(parsed(line, format="plain"), "agent_output")[0]["text"] == line


def test_a_mark_is_read_in_the_output_of_a_process_too() -> None:
    events = parsed(*wrapped(["[agent] " + json.dumps(line) for line in [init(uuid="u"), *LINES[1:]]]))
    assert [p["text"] for p in of(events, "agent_output")] == ["one", "two"]
    assert not raws(events)


def test_broken_lines_are_the_same_however_they_are_cut() -> None:
    limit = json.dumps({"type": "rate_limit_event", "rate_limit_info": {"status": "rejected"}, "session_id": SESSION})
    line = json.dumps(text("hello", uuid="u1"))
    data = encoded([init(), "[a] " + line, line[:30] + limit + line[30:], line[:30] + limit, line[30:], "x" + STDERR])
    whole = told(data)
    for size in (1, 3, 7, 64):
        parse, intake, out = stage(), Intake("lines"), []
        for start in range(0, len(data), size):
            out += parse.feed(intake.feed(data[start : start + size], NOW), NOW)
        out += [*parse.feed(intake.finish(NOW), NOW), *parse.finish(NOW)]
        assert [decode(event.line) for event in out] == whole


# ---- images and files

PNG = base64.b64encode(random.Random(1).randbytes(3000)).decode()
NAME = "[image/png, 3000 bytes]"
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
MCP_IMAGE = {"type": "image", "mimeType": "image/png", "data": PNG}


def said(*blocks: Line) -> Line:
    return {"type": "user", "message": {"role": "user", "content": list(blocks)}, "session_id": SESSION, "uuid": "u1"}


CARRIERS: list[tuple[str, list[Line], str]] = [
    ("a text of the user", [said({"type": "text", "text": "look"}, IMAGE)], NAME),
    ("a result", [call("Read", {}), returned([IMAGE])], NAME),
    ("a result of a server", [call("mcp__a__b", {}), returned([MCP_IMAGE])], NAME),
    ("inside another block", [call("x", {}), returned([{"type": "y_result", "content": [IMAGE]}])], NAME),
    ("an input", [call("mcp__a__b", {"image": IMAGE["source"]})], NAME),
    ("an input of base64 alone", [call("mcp__a__b", {"png": PNG})], "[base64, 3000 bytes]"),
    ("an input with a data URL", [call("mcp__a__b", {"url": f"data:image/png;base64,{PNG}"})], NAME),
    ("a permission", [{"type": "control_request", "request": {"subtype": "can_use_tool", "tool_name": "x",
                      "input": {"image": IMAGE["source"]}}}], "[image/png, 3000 bytes]"),
    ("a block that is not known", [assistant({"type": "odd", "inner": IMAGE})], NAME),
    ("a line that is not known", [{"type": "odd", "session_id": SESSION, "uuid": "u", "image": IMAGE}], NAME),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "name"), [c[1:] for c in CARRIERS], ids=[c[0] for c in CARRIERS])
def test_an_image_is_named_and_its_data_stand_beside_it_alone(lines: list[Line], name: str) -> None:
    events = parsed(init(), *lines, result())
    shown = json.dumps([event for event in events if event["type"] != "content"])
    assert PNG[:64] not in shown
    assert name in shown
    if "permission_request" not in types(events):  # the call itself has the whole
        beside = "".join(part.get("text") or part.get("base64") or "" for part in of(events, "content"))
        assert PNG in beside
        assert any("whole" in event["payload"] for event in events)


@pytest.mark.parametrize("kind", ["hooks", "transcript"])
def test_an_image_is_named_by_every_teller(kind: str) -> None:
    given = {"file_path": "/w/a.png"}
    if kind == "hooks":
        base = {"session_id": SESSION, "tool_name": "Read", "tool_input": given, "tool_use_id": "t1"}
        response = {"type": "image", "file": {"base64": PNG, "type": "image/png", "originalSize": 3000}}
        lines = [{**base, "hook_event_name": "PostToolUse", "tool_response": response}]
    else:
        base = {"isSidechain": False, "parentUuid": None, "sessionId": SESSION, "version": "2"}
        file = {"base64": PNG, "type": "image/png"}
        lines = [
            {**base, **call("Read", given)},
            {**base, **returned([IMAGE]), "toolUseResult": {"type": "image", "file": file}},
            {**base, **said(IMAGE)},
        ]
    events = parsed(*lines)
    assert PNG[:64] not in json.dumps([event for event in events if event["type"] != "content"])
    assert of(events, "agent_tool_result")[0]["content"] == NAME
    assert {part["base64"] for part in of(events, "content")} == {PNG}


def test_without_contents_an_image_is_only_named() -> None:
    events = parsed(init(), call("Read", {}), returned([IMAGE]), said(IMAGE), result(), no_contents=True)
    assert "content" not in types(events)
    assert PNG[:64] not in json.dumps(events)


def test_a_long_text_without_variety_is_no_image() -> None:
    [made] = of(parsed(init(), call("x", {"line": "-" * 5000, "word": "a" * 5000})), "agent_tool_call")
    assert (made["input"]["line"], made["input"]["word"]) == ("-" * 5000, "a" * 5000)


def test_what_is_not_known_and_long_is_cut_and_stands_whole_beside() -> None:
    line = {"type": "odd", "session_id": SESSION, "uuid": "u", "text": "word " * 10_000}
    events = parsed(init(), line, result())
    [raw] = of(events, "raw")
    assert raw["data"]["text"].endswith(" bytes]")
    assert json.loads("".join(part["text"] for part in of(events, "content"))) == line


# ---- every format


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _samples() -> dict[str, list[bytes]]:
    """For each format the smallest real log of at least four objects, one a line; where there is none, the made-up."""
    found: dict[str, list[bytes]] = {}
    real = [log for log in LOGS if "synthetic" not in log.path.name]
    for log in [*sorted(real, key=lambda log: log.path.stat().st_size), *EXAMPLES]:
        lines = log.path.read_bytes().split(b"\n")[:-1]
        if log.format not in found and len(lines) >= 4 and all(map(_is_object, lines)):
            found[log.format] = lines
    return found


SAMPLES = _samples()


@pytest.fixture(params=sorted(SAMPLES))
def sample(request: pytest.FixtureRequest) -> list[bytes]:
    return SAMPLES[request.param]


def timeless(events: list[Line]) -> list[tuple[str, Any]]:
    """What is told, without what the time of reading and the numbers of other lines take part in."""
    apart = ("duration_ms", "ref", "whole")
    return [(event["type"], {k: v for k, v in event["payload"].items() if k not in apart}) for event in events]


def test_every_format_is_read_behind_a_mark(sample: list[bytes]) -> None:
    assert told(b"".join(b"[agent] " + line + b"\n" for line in sample)) == told(b"\n".join(sample) + b"\n")


def test_every_format_is_read_with_crlf_blank_lines_and_a_mark_of_byte_order(sample: list[bytes]) -> None:
    assert told(b"\xef\xbb\xbf" + b"\r\n\r\n".join(sample) + b"\r\n") == told(b"\n".join(sample) + b"\n")


def test_every_format_is_read_without_line_ends(sample: list[bytes]) -> None:
    assert timeless(told(b"".join(sample))) == timeless(told(b"\n".join(sample)))


def test_every_format_is_read_around_blocks_of_stderr(sample: list[bytes]) -> None:
    data = sample[0] + b"\n" + STDERR.encode().join(line + b"\n" for line in sample[1:])
    events, without = told(data), told(b"\n".join(sample) + b"\n")
    assert [e for e in timeless(events) if e[0] != "raw"] == [e for e in timeless(without) if e[0] != "raw"]


def test_every_format_is_read_pretty_printed(sample: list[bytes]) -> None:
    pretty = b"".join(json.dumps(json.loads(line), indent=2).encode() + b"\n" for line in sample)
    compact = b"".join(json.dumps(json.loads(line)).encode() + b"\n" for line in sample)
    assert timeless(told(pretty)) == timeless(told(compact))


def test_every_format_survives_a_line_in_the_middle_of_another(sample: list[bytes]) -> None:
    """The last but one in the middle of the last: each is told, none is taken for text."""
    *before, inner, outer = sample
    expected = timeless(told(b"\n".join([*before, inner, outer]) + b"\n"))
    places = [place for place in range(1, len(outer), max(1, len(outer) // 50)) if _is_between(outer, inner, place)]
    assert len(places) > 20
    for place in places:
        line = outer[:place] + inner + outer[place:]
        assert timeless(told(b"\n".join([*before, line]) + b"\n")) == expected


def _is_between(outer: bytes, inner: bytes, place: int) -> bool:
    """Whether a line that stands there breaks the other one: it may also become a part of it, or cut a character."""
    if _is_object(outer[:place] + inner + outer[place:]):
        return False
    return outer[place] & 0xC0 != 0x80
