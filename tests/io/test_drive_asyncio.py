"""The asyncio driver over real asyncio streams: it gives what `filter_fds` gives, and every way to fail."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentpipe.errors import ReaderGone
from agentpipe.event import Event
from agentpipe.intake import Intake
from agentpipe.io.drive import drive
from agentpipe.ndjson import join
from agentpipe.stage import BaseStage, Chain, Demand, Stage
from tests.doubles import Batch, Delay, Echo, Elastic, First, Ticker, numbered, play, sequences
from tests.io.conftest import PATIENCE_S, Start, lines, numbers


class Pipe:
    """A source and a sink over real asyncio streams: a socket pair each."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.intake = Intake()
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[Sequence[Event]]:
        while data := await self.reader.read(1 << 16):
            yield self.intake.feed(data, 0.0)
        yield self.intake.finish(0.0)

    async def write(self, events: Sequence[Event]) -> None:
        self.writer.write(join([event.line for event in events]))
        await self.writer.drain()

    async def close(self) -> None:
        self.closed += 1
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def streams() -> tuple[Pipe, socket.socket, socket.socket]:
    their_in, our_in = socket.socketpair()
    their_out, our_out = socket.socketpair()
    reader, idle = await asyncio.open_connection(sock=our_in)
    _, writer = await asyncio.open_connection(sock=our_out)
    pipe = Pipe(reader, writer)
    pipe.idle = idle  # type: ignore[attr-defined] # kept, or its end would close the socket
    return pipe, their_in, their_out


async def through(stage: Stage, batches: list[bytes]) -> bytes:
    pipe, source, sink = await streams()
    loop = asyncio.get_running_loop()
    source.setblocking(False)
    sink.setblocking(False)

    async def write() -> None:
        for batch in batches:
            await loop.sock_sendall(source, batch)
            await asyncio.sleep(0)
        source.close()

    async def read() -> bytes:
        got = b""
        while piece := await loop.sock_recv(sink, 1 << 16):
            got += piece
        return got

    with sink:
        out, _, _ = await asyncio.wait_for(asyncio.gather(read(), write(), drive(pipe, stage, pipe)), PATIENCE_S)
    pipe.idle.close()  # type: ignore[attr-defined]
    assert pipe.closed == 1
    return out


STAGES = {
    "pass": BaseStage,
    "delay": lambda: Delay(0.001),
    "holding": lambda: Delay(0.001, most=2),
    "elastic": lambda: Elastic(2),
    "batch": lambda: Batch(3),
    "first": lambda: First(3),
    "echo": Echo,
    "ticker": Ticker,
    "chain": lambda: Chain(Elastic(1, most=3), BaseStage(), Delay(0.001, most=2)),
}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(STAGES)), st.lists(st.integers(1, 40), max_size=5))
def test_the_asyncio_driver_gives_what_the_contract_gives(name: str, sizes: list[int]) -> None:
    edges = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
    batches = [lines(start + 1, end) for start, end in itertools.pairwise(edges)]
    out = asyncio.run(through(STAGES[name](), batches))
    expected = play(STAGES[name](), [(0.0, [numbered(n) for n in range(1, edges[-1] + 1)])] if sizes else [])
    assert numbers(out) == sequences(expected)


@pytest.mark.parametrize("name", ["pass", "echo", "elastic", "batch", "first", "delay"])
def test_both_drivers_give_the_same_bytes(start: Start, name: str) -> None:
    block = lines(1, 500)
    stage = {"elastic": lambda: Elastic(3), "delay": lambda: Delay(0.0)}.get(name, STAGES[name])()
    process = start(name)
    out, _ = process.communicate(block, PATIENCE_S)
    assert asyncio.run(through(stage, [block])) == out
    assert out


class Given:
    """A source of made batches; then it ends, fails or waits for ever."""

    def __init__(self, batches: list[list[Event]], then: BaseException | None = None, *, forever: bool = False) -> None:
        self.batches, self.then, self.forever = batches, then, forever
        self.given, self.closed = 0, False

    async def __aiter__(self) -> AsyncIterator[Sequence[Event]]:
        try:
            for batch in self.batches:
                self.given += 1
                yield batch
            if self.then is not None:
                raise self.then
            if self.forever:
                await asyncio.Event().wait()
        finally:
            self.closed = True


class Taken:
    """A sink that is as slow as its gate and fails when told to."""

    def __init__(self, fail: BaseException | None = None) -> None:
        self.fail, self.gate = fail, asyncio.Event()
        self.writes: list[int] = []
        self.closed = 0
        self.gate.set()

    async def write(self, events: Sequence[Event]) -> None:
        self.writes.append(len(events))
        await self.gate.wait()
        if self.fail is not None:
            raise self.fail

    async def close(self) -> None:
        self.closed += 1


def singles(count: int) -> list[list[Event]]:
    return [[numbered(n)] for n in range(1, count + 1)]


@pytest.mark.parametrize("failure", [ReaderGone(), OSError("broken")])
def test_a_sink_that_fails_ends_the_drive_and_is_closed(failure: Exception) -> None:
    async def run() -> None:
        source, sink = Given(singles(3), forever=True), Taken(failure)
        with pytest.raises(type(failure)):
            await asyncio.wait_for(drive(source, BaseStage(), sink), PATIENCE_S)
        assert (sink.closed, source.closed) == (1, True)

    asyncio.run(run())


def test_a_source_that_fails_ends_the_drive_after_what_it_gave() -> None:
    async def run() -> None:
        source, sink = Given(singles(2), ValueError("torn")), Taken()
        with pytest.raises(ValueError, match="torn"):
            await asyncio.wait_for(drive(source, BaseStage(), sink), PATIENCE_S)
        assert sum(sink.writes) == 2
        assert sink.closed == 1

    asyncio.run(run())


def test_a_drive_that_is_cancelled_closes_source_and_sink() -> None:
    async def run() -> None:
        source, sink = Given(singles(2), forever=True), Taken()
        task = asyncio.ensure_future(drive(source, BaseStage(), sink))
        while sum(sink.writes) < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (sink.closed, source.closed) == (1, True)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("stage", "read"), [(BaseStage, range(1, 4)), (lambda: Elastic(1), range(50, 51))], ids=["plain", "elastic"]
)
def test_a_slow_sink_holds_up_the_source_unless_the_stage_is_elastic(stage: Any, read: range) -> None:
    async def run() -> None:
        source, sink = Given(singles(50)), Taken()
        sink.gate.clear()
        task = asyncio.ensure_future(drive(source, stage(), sink))
        while not sink.writes or source.given < read[0]:
            await asyncio.sleep(0.001)
        for _ in range(100):
            await asyncio.sleep(0)
        assert source.given in read
        sink.gate.set()
        await asyncio.wait_for(task, PATIENCE_S)
        assert sum(sink.writes) == 50

    asyncio.run(run())


def test_a_stage_that_holds_for_ever_is_an_error_and_no_busy_loop() -> None:
    class Stuck(BaseStage):
        @property
        def demand(self) -> Demand:
            return Demand.HOLD

    async def run() -> None:
        with pytest.raises(RuntimeError, match="deadline"):
            await asyncio.wait_for(drive(Given(singles(1)), Stuck(), Taken()), PATIENCE_S)

    asyncio.run(run())


def test_a_stage_is_finished_once_also_by_the_asyncio_driver() -> None:
    async def run() -> None:
        ticker, sink = Ticker(), Taken()
        await asyncio.wait_for(drive(Given(singles(3)), ticker, sink), PATIENCE_S)
        assert (ticker.finished, sink.closed, sum(sink.writes)) == (1, 1, 3)

    asyncio.run(run())
