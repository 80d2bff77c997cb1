"""The queue between the agent and the reader: order, bounds, what happens at each limit."""

import os
import random
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentpipe.io.run.backlog import Backlog, Chunk


def readable(backlog: Backlog) -> bool:
    return bool(select.select([backlog.fileno()], [], [], 0)[0])


def take_all(backlog: Backlog, limit: int = 1 << 16) -> list[Chunk]:
    taken = []
    while part := backlog.take(limit):
        taken += part
    return taken


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.001)


def test_memory_alone_hands_back_what_was_put_in_order() -> None:
    backlog = Backlog(1 << 20)
    chunks = [Chunk(index % 2, float(index), b"x" * index) for index in range(100)]
    for chunk in chunks:
        assert backlog.put(chunk)
    assert take_all(backlog) == chunks
    assert backlog.take(100) == []
    assert backlog.held_bytes == 0
    backlog.release()


def test_it_polls_as_readable_exactly_while_there_is_something() -> None:
    backlog = Backlog(1 << 10, 1 << 20)
    assert not readable(backlog)
    for _ in range(10):
        backlog.put(Chunk(0, 0.0, bytes(300)))
        assert readable(backlog)
    for left in reversed(range(10)):
        backlog.take(1)
        assert readable(backlog) == bool(left)
    backlog.put(Chunk(0, 0.0, b""))  # the mark of an end is something
    assert readable(backlog)
    backlog.release()


def test_what_memory_cannot_hold_goes_to_disk_and_everything_after_it_too() -> None:
    backlog = Backlog(10_000, 1 << 20)
    chunks = [Chunk(index % 2, index / 7, os.urandom(random.Random(index).randrange(3000))) for index in range(100)]
    for chunk in chunks[:60]:
        backlog.put(chunk)
    assert backlog.on_disk_bytes > 0
    taken = backlog.take(20_000)
    for chunk in chunks[60:]:
        backlog.put(chunk)
    assert taken + take_all(backlog) == chunks
    assert backlog.on_disk_bytes == 0
    backlog.release()


def test_memory_is_used_again_once_the_disk_is_empty() -> None:
    backlog = Backlog(10_000, 1 << 20)
    for _ in range(3):
        for index in range(50):
            backlog.put(Chunk(0, float(index), bytes(500)))
        assert [chunk.at for chunk in take_all(backlog)] == [float(index) for index in range(50)]
        backlog.put(Chunk(0, 0.0, b"small"))
        assert backlog.on_disk_bytes == 0
        take_all(backlog)
    backlog.release()


def test_a_queue_that_never_runs_empty_gives_its_files_back() -> None:
    """The space on disk follows what is held, not what has ever passed."""
    backlog = Backlog(1000, 1 << 20, file_bytes=20_000)
    for index in range(200):
        backlog.put(Chunk(0, float(index), bytes(1000)))
    for index in range(200, 5000):
        backlog.put(Chunk(0, float(index), bytes(1000)))
        assert backlog.take(1)[0].at == float(index - 200)
    held = [os.fstat(file._file.fileno()).st_size for file in backlog._spill._files]
    assert sum(held) < 200 * 1100 + 2 * 21_100
    backlog.release()


def test_nothing_of_it_has_a_name_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    backlog = Backlog(100, 1 << 20)
    for _ in range(10):
        backlog.put(Chunk(0, 0.0, bytes(1000)))
    assert backlog.on_disk_bytes > 0
    assert list(tmp_path.iterdir()) == []
    backlog.release()


def test_when_everything_is_full_putting_waits_and_says_so_once_an_episode() -> None:
    said: list[str] = []
    backlog = Backlog(1000, 5000, on_full=said.append)
    count = 40

    def fill() -> None:
        for index in range(count):
            backlog.put(Chunk(0, float(index), bytes(500)))

    thread = threading.Thread(target=fill)
    thread.start()
    until(lambda: backlog.waiting)
    assert said == ["the queue is full"]
    assert backlog.held_bytes <= 6200
    assert backlog.times_full == 1
    taken = backlog.take(1)
    until(lambda: backlog.waiting)
    assert backlog.times_full == 1, "it was not half empty in between"
    while len(taken) < count:
        until(lambda: readable(backlog))
        taken += backlog.take(1 << 20)
    thread.join()
    assert [chunk.at for chunk in taken] == [float(index) for index in range(count)]
    assert len(said) == backlog.times_full
    backlog.release()


def test_a_disk_that_fails_counts_as_full_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    backlog = Backlog(1000, 1 << 20, on_full=said.append)

    def refuse(fd: int, data: bytes, place: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    thread = threading.Thread(target=lambda: [backlog.put(Chunk(0, float(i), bytes(500))) for i in range(10)])
    thread.start()
    until(lambda: backlog.waiting)
    assert said == ["No space left on device"]
    taken: list[Chunk] = []
    while len(taken) < 10:
        until(lambda: readable(backlog))
        taken += backlog.take(1)
    thread.join()
    assert [chunk.at for chunk in taken] == [float(i) for i in range(10)]
    backlog.release()


def test_a_write_that_was_cut_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up in the middle of a chunk must not leave half of it in the queue."""
    backlog = Backlog(1, 1 << 20)
    whole = os.pwrite
    left = [3]

    def short(fd: int, data: memoryview, place: int) -> int:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        return whole(fd, data[:10], place) if left[0] > 0 else whole(fd, data, place)

    backlog.put(Chunk(0, 0.0, b"in memory"))
    monkeypatch.setattr(os, "pwrite", short)
    chunk = Chunk(1, 2.5, bytes(range(256)))
    thread = threading.Thread(target=backlog.put, args=(chunk,))
    thread.start()
    until(lambda: backlog.waiting)
    assert backlog.take(1)[0].data == b"in memory"
    thread.join()
    assert backlog.take(1) == [chunk]
    backlog.release()


def test_a_chunk_over_every_limit_passes_through_an_empty_queue() -> None:
    backlog = Backlog(10)
    chunk = Chunk(0, 0.0, bytes(100_000))
    assert backlog.put(chunk)
    assert backlog.take(1) == [chunk]
    backlog.release()


def test_closing_wakes_whoever_waits_and_keeps_nothing_more() -> None:
    backlog = Backlog(10)
    backlog.put(Chunk(0, 0.0, b"first"))
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(backlog.put(Chunk(0, 0.0, b"second"))))
    thread.start()
    until(lambda: backlog.waiting)
    backlog.close()
    thread.join(30)
    assert results == [False]
    assert not backlog.put(Chunk(0, 0.0, b"third"))
    assert [chunk.data for chunk in take_all(backlog)] == [b"first"]
    backlog.release()


def test_two_threads_a_random_load_and_small_limits_keep_every_byte_in_order() -> None:
    backlog = Backlog(5_000, 20_000, file_bytes=4096)
    source = random.Random(7)
    chunks = [Chunk(source.randrange(2), float(i), source.randbytes(source.randrange(2000))) for i in range(3000)]
    thread = threading.Thread(target=lambda: [backlog.put(chunk) for chunk in chunks])
    thread.start()
    taken: list[Chunk] = []
    while len(taken) < len(chunks):
        assert select.select([backlog.fileno()], [], [], 30)[0]
        taken += backlog.take(source.randrange(1, 10_000))
        assert backlog.held_bytes <= 30_000
    thread.join()
    assert taken == chunks
    backlog.release()
