"""The whole out of its parts: all of it, or what is missing is known before the first byte."""

import base64
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe.content import pieces, split_ref, survey
from agentpipe.event import JSON, Event, gap, make
from agentpipe.history import Log
from agentpipe.io.sqlite.log import SqliteLog
from agentpipe.memory_log import MemoryLog
from agentpipe.parse.adapter import Whole
from agentpipe.parse.vocabulary.whole import content_payloads
from tests.commits import append

AT = "2026-11-20T07:00:00.000Z"
Store = Callable[[Sequence[Sequence[Event]]], Log]


def event(number: int, run: str = "r", type_: str = "agent_output", **payload: JSON) -> Event:
    return make(type_, payload, run_id=run, agent_id="a", sequence=number, at=AT)


def parts_of(whole: Whole, first: int, run: str = "r") -> list[Event]:
    """As `parse` writes them."""
    payloads = content_payloads(whole, f"{run}:{first}")
    return [event(first + index, run, "content", **payload) for index, payload in enumerate(payloads)]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A log of either kind that holds batches of events."""
    opened: list[SqliteLog] = []

    def hold(batches: Sequence[Sequence[Event]]) -> Log:
        if request.param == "memory":
            log = MemoryLog("e", max_events=100_000, max_bytes=1 << 26, indexed=True)
            for batch in batches:
                log.append_events(batch)
            return log
        opened.append(SqliteLog(str(tmp_path / f"{len(opened)}.db")))
        for batch in batches:
            append(opened[-1], batch)
        return opened[-1]

    yield hold
    for each in opened:
        each.close()


def joined(log: Log, ref: str) -> bytes:
    found = survey(log, ref)
    assert found is not None
    assert found.missing == ()
    data = b"".join(pieces(log, found))
    assert len(data) == found.size_bytes
    return data


def test_a_text_of_three_megabytes_between_the_events_of_others(store: Store):
    text = "".join(random.Random(7).choices('aß水🐍\n"\\\x1b', k=1_000_000))
    lines = [event(1), *parts_of(Whole("text/plain", text), 2)]
    batches = [[one, event(number, "other")] for number, one in enumerate(lines, 1)]
    log = store(batches)
    found = survey(log, "r:2")
    assert found is not None
    assert (found.media_type, found.parts) == ("text/plain", len(lines) - 1)
    assert joined(log, "r:2").decode() == text


def test_an_image_and_a_text_one_behind_the_other(store: Store):
    image = random.Random(8).randbytes(200_001)
    first = parts_of(Whole("image/png", base64.b64encode(image).decode(), base64=True), 1)
    second = parts_of(Whole("text/plain", "short"), 1 + len(first))
    log = store([[*first, *second, event(20)]])
    assert joined(log, "r:1") == image
    assert joined(log, f"r:{1 + len(first)}") == b"short"


@given(data=st.binary(max_size=300), cut=st.integers(1, 90), width=st.integers(0, 20), urlsafe=st.booleans())
def test_base64_of_any_make_is_read(data: bytes, cut: int, width: int, urlsafe: bool):
    text = (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode()
    if width:
        text = "\r\n".join(text[start : start + width] for start in range(0, len(text), width))
    chunks = [text[start : start + cut] for start in range(0, max(1, len(text)), cut)]
    log = MemoryLog("e", max_events=1000, max_bytes=1 << 20, indexed=True)
    given_part = {"ref": "r:1", "media_type": "x/y", "bytes": len(data), "parts": len(chunks)}
    log.append_events([
        event(number, "r", "content", **given_part, part=number, base64=chunk) for number, chunk in enumerate(chunks, 1)
    ])  # fmt: skip
    assert joined(log, "r:1") == data


def test_missing_parts_are_named(store: Store):
    parts = parts_of(Whole("text/plain", "x" * 400_000), 5)
    declared = gap([(6, 7)], "buffer", run_id="r", agent_id="a", at=AT)
    log = store([[event(4), parts[0]], [*parts[3:6], declared], [event(20)]])
    found = survey(log, "r:5")
    assert found is not None
    assert (found.parts, found.missing) == (7, ((2, 3), (7, 7)))


def test_without_its_first_part_the_others_still_tell_how_many_there_were(store: Store):
    parts = parts_of(Whole("text/plain", "x" * 200_000), 5)
    found = survey(store([[event(1), *parts[2:]]]), "r:5")
    assert found is not None
    assert (found.parts, found.missing) == (4, ((1, 2),))
    nothing = survey(store([[event(1), event(30)]]), "r:5")
    assert nothing is not None
    assert nothing.parts == 0


def test_what_is_no_first_part_has_no_whole(store: Store):
    parts = parts_of(Whole("text/plain", "x" * 100_000), 2)
    log = store([[event(1, ref="r:1", parts=1, part=1), *parts, event(9, "r", "content", ref="r:9", part=1, parts=0)]])
    for ref in ("r:1", "r:3", "r:9", "r", ":1", "r:", "r:x", "r:٣", "r:" + "9" * 30):
        assert survey(log, ref) is None, ref
    unknown = survey(log, "nobody:1")
    assert unknown is not None
    assert unknown.parts == 0


def test_an_event_of_another_whole_in_between_ends_it(store: Store):
    parts = parts_of(Whole("text/plain", "x" * 200_000), 1)
    other = event(2, "r", "content", ref="r:2", media_type="text/plain", bytes=1, part=1, parts=1, text="y")
    found = survey(store([[parts[0], other, *parts[2:]]]), "r:1")
    assert found is not None
    assert found.missing == ((2, 4),)


def test_a_part_that_leaves_meanwhile_is_noticed():
    parts = parts_of(Whole("text/plain", "x" * 200_000), 1)
    log = MemoryLog("e", max_events=8, max_bytes=1 << 20, indexed=True)
    log.append_events(parts)
    found = survey(log, "r:1")
    assert found is not None
    log.append_events([event(number) for number in range(10, 18)])
    with pytest.raises(LookupError):
        list(pieces(log, found))


def test_a_name_is_a_run_and_a_number():
    assert split_ref("a:b/c:17") == ("a:b/c", 17)
    assert split_ref("17") is None
    assert split_ref("a:0") is None  # numbers begin at 1


@pytest.mark.parametrize("size", [1, 2, 3, 57, 58, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_the_size_that_is_told_is_that_of_the_bytes_also_in_lines(size: int, end: str):
    lines = base64.encodebytes(b"x" * size).decode().replace("\n", end)
    assert {part["bytes"] for part in content_payloads(Whole("image/png", lines, base64=True), "r:1")} == {size}
