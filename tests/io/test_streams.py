"""Descriptors: reading what is there, writing without waiting, changing nobody's flags."""

import fcntl
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentpipe.errors import OutputError, ReaderGone
from agentpipe.io.streams import READ_BYTES, Outlet, is_terminal, read_some, widen
from tests.io.conftest import read_all


def pipe() -> tuple[int, int]:
    return os.pipe()


def stream() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


BLOCK = b"".join(b"%07d\n" % n for n in range(100_000))  # more than any kernel buffer here


@pytest.mark.parametrize("kind", [pipe, stream])
def test_an_outlet_never_waits_and_keeps_what_does_not_go(kind: Callable[[], tuple[int, int]]) -> None:
    read_end, write_end = kind()
    outlet = Outlet(write_end)
    outlet.write(BLOCK)
    outlet.write(b"last\n")
    assert 0 < outlet.pending < len(BLOCK) + 5
    assert not outlet.flush()
    assert not fcntl.fcntl(write_end, fcntl.F_GETFL) & os.O_NONBLOCK
    got = b""
    while outlet.pending:
        got += os.read(read_end, 1 << 16)
        if select.select([], [outlet.fileno()], [], 0)[1]:
            outlet.flush()
    if outlet.fileno() != write_end:
        os.close(outlet.fileno()) if kind is pipe else outlet._socket.close()
    os.close(write_end)
    assert got + read_all(read_end) == BLOCK + b"last\n"
    assert outlet.bytes_written == len(BLOCK) + 5
    os.close(read_end)


@pytest.mark.parametrize("kind", [pipe, stream])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_reader_that_has_closed_is_gone(kind: Callable[[], tuple[int, int]], when: str) -> None:
    read_end, write_end = kind()

    def use() -> None:
        if when == "before":
            os.close(read_end)
        outlet = Outlet(write_end)
        if when == "after":
            os.close(read_end)
        try:
            outlet.write(b"x")
        finally:
            if kind is stream:
                outlet._socket.close()
            elif outlet.fileno() != write_end:
                os.close(outlet.fileno())

    with pytest.raises(ReaderGone):
        use()
    os.close(write_end)


def test_a_file_takes_everything_at_once(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        outlet = Outlet(file.fileno())
        outlet.write(BLOCK)
        assert outlet.pending == 0
    assert (tmp_path / "out").read_bytes() == BLOCK


def test_a_full_device_and_a_closed_descriptor_are_output_errors() -> None:
    with open("/dev/full", "wb") as full, pytest.raises(OutputError, match="stdout: No space left on device"):
        Outlet(full.fileno()).write(b"x")
    read_end, write_end = os.pipe()
    os.close(read_end)
    os.close(write_end)
    with pytest.raises(OutputError, match="other: Bad file descriptor"):
        Outlet(write_end, "other")


def test_reading_tells_bytes_from_nothing_yet_and_from_the_end() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    assert read_some(read_end) is None
    os.write(write_end, b"abc")
    assert read_some(read_end) == b"abc"
    os.close(write_end)
    assert read_some(read_end) == b""
    os.close(read_end)
    with pytest.raises(OutputError, match="Bad file descriptor"):
        read_some(read_end)


def test_a_terminal_that_was_hung_up_is_the_end_of_the_input() -> None:
    leader, follower = os.openpty()
    assert is_terminal(follower)
    os.close(leader)
    assert read_some(follower) == b""
    os.close(follower)
    assert not is_terminal(follower)


@pytest.fixture
def fresh_pipe() -> Iterator[tuple[int, int]]:
    """A pipe of the default size on a system that lets us widen it."""
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        pytest.skip("only Linux can change the size of a pipe")
    ends = pipe()
    try:
        before = fcntl.fcntl(ends[0], fcntl.F_GETPIPE_SZ)
        try:
            fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, 2 * READ_BYTES)
        except OSError as error:
            pytest.skip(f"this account may not: {error}")
        fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, 65536)
        assert before == 65536
        yield ends
    finally:
        os.close(ends[0])
        os.close(ends[1])


def test_a_pipe_of_the_default_size_is_widened(fresh_pipe: tuple[int, int]) -> None:
    widen(fresh_pipe[0])
    assert fcntl.fcntl(fresh_pipe[1], fcntl.F_GETPIPE_SZ) == 2 * READ_BYTES


@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_a_pipe_whose_size_somebody_chose_keeps_it(fresh_pipe: tuple[int, int], size: int) -> None:
    fcntl.fcntl(fresh_pipe[0], fcntl.F_SETPIPE_SZ, size)
    widen(fresh_pipe[1])
    assert fcntl.fcntl(fresh_pipe[0], fcntl.F_GETPIPE_SZ) == size


def test_what_is_no_pipe_is_not_widened(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        widen(file.fileno())
