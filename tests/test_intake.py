"""From bytes to events: a bad line never stops the stream and never vanishes uncounted."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe.errors import InputError
from agentpipe.event import Event
from agentpipe.intake import WARNINGS, Intake


def event_line(sequence: int, fill: str = "") -> bytes:
    return b'{"type":"t","run_id":"r","agent_id":"a","sequence":%d,"payload":{"s":"%s"}}' % (sequence, fill.encode())


def fed(intake: Intake, pieces: list[bytes]) -> list[Event]:
    return [event for piece in pieces for event in intake.feed(piece, 0.0)] + intake.finish(0.0)


LINES = st.lists(
    st.sampled_from(
        [event_line(1), event_line(2), b"", b"bad", b"[]", b'{"s":"\\ud800"}', event_line(3, "x" * 3000), b'{"cut":']
    )
)


@given(LINES, st.lists(st.integers(0, 9000), max_size=6), st.booleans())
def test_every_split_gives_the_same_events_and_counts(lines: list[bytes], places: list[int], ended: bool) -> None:
    stream = b"\n".join(lines) + (b"\n" if ended else b"")
    edges = [0, *sorted(place for place in places if place <= len(stream)), len(stream)]
    whole, split = Intake(max_line=1024), Intake(max_line=1024)
    expected = fed(whole, [stream])
    assert fed(split, [stream[start:end] for start, end in itertools.pairwise(edges)]) == expected
    assert split.report() == whole.report()
    read = [line for line in lines if line]
    assert whole.malformed == sum(line in (b"bad", b"[]", b'{"cut":') for line in read)
    assert whole.oversize == sum(len(line) > 1024 for line in read)
    assert len(expected) == len(read) - whole.malformed
    assert whole.report()["bytes_in"] == len(stream)


def test_the_first_bad_lines_are_shown_with_their_true_number_and_the_rest_is_only_counted() -> None:
    said: list[str] = []
    intake = Intake(warn=said.append)
    assert fed(intake, [b"\n\n", b"{}\r\n\nbad \x1b[31m line\n", b"\n{}\nworse", b"\n" * 3 + b"bad\n" * 20]) != []
    assert said[0].startswith("stdin:5: skipped a malformed line")
    assert "\x1b" not in said[0]
    assert said[1].startswith("stdin:8: ")
    assert said[2].startswith("stdin:11: ")
    assert len(said) == WARNINGS + 1
    assert intake.malformed == 22


@pytest.mark.parametrize(
    ("stream", "place"),
    [
        (b"bad", (1, 1)),
        (b'{}\n\n{}\n{"a":nan}\n', (4, 7)),
        (b'{"a":"\xff"}\n', (1, 7)),
        (b'{"a":1}{}\n', (1, 8)),
        (b'{"a":\n', (1, 6)),
        (b"3\n", (1, 1)),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_strict_names_line_and_column_after_what_came_before_was_handed_out(
    stream: bytes, place: tuple[int, int], size: int
) -> None:
    intake = Intake(strict=True)
    events: list[Event] = []

    def feed() -> None:
        for start in range(0, len(stream), size):
            events.extend(intake.feed(stream[start : start + size], 0.0))
        events.extend(intake.finish(0.0))

    with pytest.raises(InputError) as caught:
        feed()
    assert (caught.value.line, caught.value.column) == place
    assert str(caught.value).startswith(f"stdin:{place[0]}:{place[1]}: ")
    assert len(events) == stream[: stream.index(b"nan") if b"nan" in stream else 0].count(b"{}")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_strict_lines_carry_their_numbers_in_the_input(size: int) -> None:
    stream = b"a\n\n\nb\n" + b"z" * 2000 + b"\n\nc\nd"
    intake = Intake("lines", strict=True, max_line=1024)
    events = fed(intake, [stream[start : start + size] for start in range(0, len(stream), size)])
    assert [(event.line, event.sequence) for event in events if not event.type] == [
        (b"a", 1), (b"b", 4), (b"c", 7), (b"d", 8)
    ]  # fmt: skip


def test_numbers_are_cheap_however_many_lines_are_blank() -> None:
    lines = fed(Intake("lines", strict=True), [b"x\n\n" * 200_000])
    assert lines[-1].sequence == 399_999


def test_failure_is_there_at_once_for_a_driver_that_asks() -> None:
    intake = Intake(strict=True, source="log")
    assert len(intake.feed(b"{}\n{}\nbad\n{}\n", 0.0)) == 2
    assert isinstance(intake.failure, InputError)
    assert intake.failure.line == 3
    with pytest.raises(InputError):
        intake.finish(0.0)


@pytest.mark.parametrize("separator", [b":", b" : "])
def test_an_oversize_event_becomes_a_gap_in_its_run(separator: bytes) -> None:
    said: list[str] = []
    intake = Intake(max_line=1024, warn=said.append)
    long = b'{"type"S"t","run_id"S"r\\u00e9\\"","agent_id"S"a","work_id"S"w","sequence"S12,"payload"S{"s"S"'.replace(
        b"S", separator
    )
    events = fed(intake, [event_line(11) + b"\n" + long + b"x" * 5000 + b'"}}\n' + event_line(13) + b"\n"])
    assert [event.sequence for event in events] == [11, 12, 13]
    hole = events[1]
    assert (hole.type, hole.run_id, hole.agent_id, hole.work_id) == ("gap", 'ré"', "a", "w")
    assert hole.payload == {"ranges": [[12, 12]], "count": 1, "reason": "oversize"}
    assert intake.oversize == 1
    assert "over the limit" in said[0]


def test_an_oversize_line_without_a_readable_head_is_counted() -> None:
    intake = Intake(max_line=1024)
    assert fed(intake, [b"y" * 9000 + b"\n" + event_line(1)])[0].sequence == 1
    assert (intake.oversize, intake.malformed) == (1, 0)


def test_reading_lines_takes_any_text_and_declares_the_oversize_ones() -> None:
    intake = Intake("lines", max_line=1024)
    events = fed(intake, [b"hello\n\xff\n" + b"z" * 2000 + b"\nlast"])
    assert [event.line for event in events if not event.type] == [b"hello", b"\xff", b"last"]
    assert events[2].type == "gap"
    payload: dict[str, Any] = events[2].payload
    assert (payload["reason"], payload["bytes"], payload["head"]) == ("oversize", 2000, "z" * 2000)
    assert intake.torn
