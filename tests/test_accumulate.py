"""Accumulated text: fewer events, the same text, every number accounted for."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentpipe.accumulate import accumulated, portion
from agentpipe.event import Event, encode, peek
from agentpipe.holes import numbers, tidied

LIMIT = 48 * 1024


def chunk(run: str, number: int, text: str, *, final: bool = False, message: str = "m", **more: Any) -> Event:
    payload = {"message_id": message, "index": 0, "text": text, "final": final}
    head = {"type": "agent_output", "run_id": run, "agent_id": run, "sequence": number, "event_id": f"{run}:{number}"}
    return peek(encode({**head, **more, "payload": payload}))


def other(run: str, number: int, type_: str = "agent_tool_call") -> Event:
    return peek(encode({"type": type_, "run_id": run, "sequence": number, "payload": {"n": number}}))


def shown(lines: list[bytes]) -> list[tuple[int, str | None, list[list[int]] | None]]:
    found = [json.loads(line) for line in lines]
    return [(each["sequence"], each["payload"].get("text"), each.get("covers")) for each in found]


def test_neighbours_become_one_chunk_that_lists_them():
    events = [chunk("r", 1, "a"), chunk("r", 2, "b"), chunk("r", 3, "c"), other("r", 4), chunk("r", 5, "d")]
    found = accumulated(events, limit_bytes=LIMIT)
    assert shown(found.lines) == [(3, "abc", [[1, 2]]), (4, None, None), (5, "d", None)]
    assert found.ends == [2, 3, 4]
    assert found.lines[1:] == [events[3].line, events[4].line]


def test_the_final_text_stands_for_its_chunks():
    events = [chunk("r", 1, "a"), chunk("r", 2, "b"), chunk("r", 3, "whole", final=True), other("r", 4)]
    found = accumulated(events, limit_bytes=LIMIT)
    assert shown(found.lines) == [(3, "whole", [[1, 2]]), (4, None, None)]
    assert found.ends == [2, 3]


def test_a_final_that_is_no_neighbour_leaves_the_chunks_alone():
    """Number 3 is one that the filter left out, or another message's."""
    for final in (chunk("r", 4, "ab", final=True), chunk("r", 3, "ab", final=True, message="n")):
        events = [chunk("r", 1, "a"), chunk("r", 2, "b"), final]
        assert shown(accumulated(events, limit_bytes=LIMIT).lines)[0] == (2, "ab", [[1, 1]])
        assert accumulated(events, limit_bytes=LIMIT).lines[1] == final.line


def test_runs_that_stand_between_are_no_hindrance_and_ends_say_where_each_stops():
    events = [chunk("a", 1, "x"), chunk("b", 1, "1"), chunk("a", 2, "y"), other("c", 1), chunk("b", 2, "2")]
    found = accumulated(events, limit_bytes=LIMIT)
    assert shown(found.lines) == [(2, "xy", [[1, 1]]), (1, None, None), (2, "12", [[1, 1]])]
    assert found.ends == [2, 3, 4]


def test_what_was_merged_before_is_merged_on():
    events = [chunk("r", 3, "abc", covers=[[1, 2]]), chunk("r", 6, "def", covers=[[4, 5]]), chunk("r", 9, "x")]
    assert shown(accumulated(events, limit_bytes=LIMIT).lines) == [(6, "abcdef", [[1, 5]]), (9, "x", None)]


def test_a_message_holds_so_many_lines_and_bytes_and_at_least_one():
    events = [other("r", number) for number in range(1, 31)]
    assert portion(events, 5, limit_events=20, limit_bytes=LIMIT)[1:] == (list(range(5, 25)), 25)
    large = [chunk("r", 1, "x" * 3000), chunk("r", 2, "y" * 900), chunk("r", 3, "z" * 900)]
    assert portion(large, 0, limit_events=20, limit_bytes=2000).next == 1
    assert portion(large, 1, limit_events=20, limit_bytes=2500).ends == [2]
    assert portion(large, 1, limit_events=20, limit_bytes=1500).ends == [1]


def test_a_text_whose_joined_form_is_longer_is_joined_in_smaller_parts():
    """A lone surrogate makes everything beside it be written as escapes: three times as many bytes."""
    events = [chunk("r", number, "é" * 500) for number in range(1, 11)]
    events[4] = peek(events[4].line.replace("é".encode(), b"\\udc80", 1))
    found = portion(events, 0, limit_events=20, limit_bytes=13_000)
    assert 1 < found.next < 10
    assert sum(map(len, found.lines)) <= 13_000


def test_a_number_that_no_reader_can_hold_passes_untouched():
    digits = b"9" * 5000
    hostile = peek(chunk("r", 2, "b").line.replace(b'"index":0', b'"index":' + digits))
    events = [chunk("r", 1, "a"), hostile, chunk("r", 3, "c")]
    assert accumulated(events, limit_bytes=LIMIT).lines == [event.line for event in events]


texts = st.text(alphabet='aé"\\\n😀', max_size=8)


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """The runs' events in any order between runs: texts in chunks, most with a final; other events; holes."""
    events: list[Event] = []
    lasts = {"a": 0, "b": 0}
    messages = dict.fromkeys(lasts, 0)
    for _ in range(draw(st.integers(0, 40))):
        run = draw(st.sampled_from("ab"))
        lasts[run] += draw(st.sampled_from([1, 1, 1, 1, 2]))
        kind = draw(st.sampled_from(["chunk", "chunk", "chunk", "final", "other"]))
        name = f"m{messages[run]}"
        if kind == "other":
            events.append(other(run, lasts[run]))
            continue
        events.append(chunk(run, lasts[run], draw(texts), final=kind == "final", message=name))
        messages[run] += kind == "final"
    return events


@given(logs(), st.integers(1, 8), st.integers(200, 1200))
@settings(max_examples=300, deadline=None)
def test_nothing_but_the_number_of_events_changes(events: list[Event], limit_events: int, limit_bytes: int):
    seen: list[bytes] = []
    start = 0
    while start < len(events):
        found = portion(events, start, limit_events=limit_events, limit_bytes=limit_bytes)
        assert found.next > start
        assert found.ends == sorted(found.ends)
        assert found.ends[-1] == found.next - 1
        assert len(found.lines) <= limit_events
        assert sum(map(len, found.lines)) + len(found.lines) <= limit_bytes or len(found.lines) == 1
        # a position after the message is true: just these numbers are in it
        assert accounted(found.lines) == accounted([event.line for event in events[start : found.next]])
        seen += found.lines
        start = found.next
    assert texts_of(seen) == texts_of([event.line for event in events])
    untouched = {event.line for event in events}
    assert all(line in untouched or b'"covers"' in line for line in seen)


def accounted(lines: list[bytes]) -> dict[str, list[tuple[int, int]]]:
    """The numbers of each run that *lines* stand for."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for line in lines:
        event = peek(line)
        spans.setdefault(event.run_id, []).extend(numbers(event))
    assert all(len(found) == len(set(found)) for found in spans.values())
    return {run: tidied(found) for run, found in spans.items()}


def texts_of(lines: list[bytes]) -> dict[tuple[str, str], str]:
    """What a reader ends up with: chunks added up, replaced by the final one."""
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        event = json.loads(line)
        if event["type"] != "agent_output":
            continue
        key, payload = (event["run_id"], event["payload"]["message_id"]), event["payload"]
        found[key] = payload["text"] if payload["final"] else found.get(key, "") + payload["text"]
    return found
