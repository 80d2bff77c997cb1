"""Where a subscription starts, whatever a client asks for."""

from typing import Any

import pytest

from agentpipe.event import encode, peek
from agentpipe.history import EVERYTHING, Position
from agentpipe.hub import Hub
from agentpipe.io.serve.service import AHEAD, Service
from agentpipe.memory_log import MemoryLog
from agentpipe.request import Since


def service(*, shared: bool, oldest: int = 0) -> Service:
    """A hub whose log has 100 entries; what does not decide about starting points is left out."""
    window = MemoryLog("e", max_events=1000, max_bytes=1 << 20, head=100)
    a_tail: Any = object()  # there is one; nobody asks it anything
    parts: dict[str, Any] = dict.fromkeys(("feed", "intake", "runs", "guard", "clock"))
    return Service(
        hub=Hub(window, oldest=oldest), log=window, heartbeat_s=1.0, tail=a_tail if shared else None, **parts
    )


def at(offset: int, epoch: str = "e") -> Since:
    return Since("position", position=Position(epoch, offset))


@pytest.mark.parametrize("shared", [False, True])
def test_a_position_within_the_log_is_taken_up(shared: bool):
    hub = service(shared=shared, oldest=10)
    assert hub.resolve(at(10)) == (10, None)
    assert hub.resolve(at(100)) == (100, None)
    assert hub.resolve(Since("start")) == (10, None)
    assert hub.resolve(Since("live")) == (100, None)


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_evicted_and_another_epoch_are_told(shared: bool):
    hub = service(shared=shared, oldest=10)
    assert hub.resolve(at(4)) == (10, {"first": 5, "last": 10, "count": 6, "reason": "evicted"})
    assert hub.resolve(at(50, "other")) == (10, {"first": 0, "last": 10, "count": None, "reason": "epoch"})


def test_beyond_the_head_is_another_log_unless_it_is_shared():
    gap = {"first": 0, "last": 0, "count": None, "reason": "epoch"}
    assert service(shared=False).resolve(at(101)) == (0, gap)
    assert service(shared=True).resolve(at(101)) == (101, None)
    assert service(shared=True).resolve(at(100 + AHEAD)) == (100 + AHEAD, None)
    assert service(shared=True).resolve(at(101 + AHEAD)) == (0, gap)
    assert service(shared=True).resolve(at(101, "other")) == (0, gap)


def test_who_starts_beyond_the_head_gets_what_comes_after_it():
    hub = service(shared=True)
    offset, _ = hub.resolve(at(102))
    hub.hub.join(None, 1, EVERYTHING, offset)  # type: ignore[arg-type]
    hub.hub.announce([peek(encode({"type": "x", "run_id": "r", "sequence": number})) for number in (1, 2)])
    assert hub.hub.tick() == []
    hub.hub.announce([peek(encode({"type": "x", "run_id": "r", "sequence": 3}))])
    (delivery,) = hub.hub.tick()
    assert b'"prev":102,"pos":103' in delivery.data
