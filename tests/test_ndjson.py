"""Bytes to lines: whatever the split, the same lines; whatever comes in, bounded memory."""

import itertools
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentpipe.ndjson import HEAD_BYTES, Line, Oversize, Splitter, join

LIMIT = 8
BOM = b"\xef\xbb\xbf"

# Few letters, so that line ends, torn marks and lines about as long as the limit come up all the time.
STREAMS = st.lists(
    st.sampled_from(
        [b"a", b"bc", b"\n", b"\r", b"\r\n", BOM, b"\xef", b"\xbb", b"\x00", b" ", b"\xe2\x80\xa8", b"x" * 7]
    ),
    max_size=30,
).map(b"".join)


def reference(stream: bytes, limit: int = LIMIT) -> list[Line]:
    """The rules once more, over a stream that is known whole."""
    lines: list[Line] = []
    for line in stream.removeprefix(BOM).split(b"\n"):
        bare = line.removesuffix(b"\r")
        if len(bare) > limit:
            lines.append(Oversize(bare[:HEAD_BYTES], len(bare)))
        elif bare:
            lines.append(bare)
    return lines


def fed(pieces: list[bytes], limit: int = LIMIT) -> list[Line]:
    splitter = Splitter(limit)
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return lines + splitter.finish()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place for place in places if place <= len(stream)), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


@given(STREAMS, st.lists(st.integers(0, 60), max_size=8))
@example(b"x" * LIMIT + b"\r\n" + b"ok\n", [3])
@example(b"y\r\r\nz\n", [1])
@example(BOM + b"a\n", [1, 2])
@example(BOM, [1])
@example(b"\xef\xbba\n", [1])
def test_the_same_lines_come_out_of_every_split(stream: bytes, places: list[int]) -> None:
    expected = reference(stream)
    assert fed([stream]) == expected
    assert fed([bytes([byte]) for byte in stream]) == expected
    assert fed(cut(stream, places)) == expected


@pytest.mark.parametrize(
    ("stream", "lines"),
    [
        (b"", []),
        (b"\n\r\n\n", []),
        (b"a\r\nb\n", [b"a", b"b"]),
        (b"a\rb\n", [b"a\rb"]),
        (BOM + b"a\n" + BOM + b"b\n", [b"a", BOM + b"b"]),
        (b"a\xe2\x80\xa8b\x0bc\x0c\x1c\x85\n", [b"a\xe2\x80\xa8b\x0bc\x0c\x1c\x85"]),
        (b"a\x00b\n", [b"a\x00b"]),
        (b"a\nlast", [b"a", b"last"]),
    ],
    ids=["nothing", "blank", "crlf", "cr-is-text", "bom-only-at-the-start", "only-lf-ends-a-line", "nul", "torn"],
)
def test_lines(stream: bytes, lines: list[bytes]) -> None:
    assert fed([stream], limit=100) == lines


@pytest.mark.parametrize(("stream", "torn"), [(b"a\n", False), (b"a", True), (b"", False), (b"a\nb", True)])
def test_torn_tells_whether_the_last_line_had_its_end(stream: bytes, torn: bool) -> None:
    splitter = Splitter()
    splitter.feed(stream)
    splitter.finish()
    assert splitter.torn is torn


@given(st.integers(LIMIT + 1, 40), st.lists(st.integers(0, 60), max_size=8))
def test_a_line_over_the_limit_is_counted_and_its_neighbours_are_unharmed(size: int, places: list[int]) -> None:
    stream = b"before\n" + b"z" * size + b"\nafter\n"
    assert fed(cut(stream, places)) == [b"before", Oversize(b"z" * size, size), b"after"]


@given(STREAMS, st.lists(st.integers(0, 60), max_size=8))
def test_blanks_let_the_caller_number_lines_truly(stream: bytes, places: list[int]) -> None:
    splitter = Splitter(1000)
    numbered: list[tuple[int, Line]] = []
    before = 0
    for piece in [*cut(stream, places), None]:
        lines = splitter.finish() if piece is None else splitter.feed(piece)
        for index, line in enumerate(lines):
            numbered.append((before + index + 1 + sum(blank <= index for blank in splitter.blanks), line))
        before += len(lines) + len(splitter.blanks)
    bare = [line.removesuffix(b"\r") for line in stream.removeprefix(BOM).split(b"\n")]
    assert numbered == [(number, line) for number, line in enumerate(bare, 1) if line]


@pytest.mark.parametrize("size", [1, 10, 8192])
def test_an_endless_line_keeps_no_more_than_its_limit(size: int) -> None:
    limit = 32 * 1024
    splitter = Splitter(limit)
    piece = b"x" * size
    tracemalloc.start()
    try:
        for _ in range(4 * limit // size):
            assert splitter.feed(piece) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(splitter._kept) <= HEAD_BYTES + size
    assert peak < 3 * limit
    assert splitter.feed(b"\nnext\n") == [Oversize(b"x" * HEAD_BYTES, 4 * limit // size * size), b"next"]


@given(st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line and not line.endswith(b"\r"))))
def test_join_is_undone_by_the_splitter(lines: list[bytes]) -> None:
    block = join(lines)
    assert block.count(b"\n") == len(lines)
    if not block.startswith(BOM[:1]):
        assert fed([block], limit=1 << 20) == lines
