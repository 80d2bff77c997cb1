"""What was acknowledged is there: across SIGKILL, restarts, eviction and a disk that is full."""

import fcntl
import json
import os
import resource
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agentpipe.io.sqlite.reader import SqliteReader
from agentpipe.runs import MAX_RUNS
from tests.io.serve.hubs import Client, Hub, event, sequences, until

Start = Callable[..., Hub]
Connect = Callable[..., Client]


def publish_until_cut(hub: Hub, first: int, acked: list[int]) -> None:
    """Publish run `k` in small batches, noting what was acknowledged, until the hub is gone."""
    client = Client(hub)
    client.next("welcome")
    try:
        for number in range(first, first + 100_000, 7):
            client.publish(*[event(each, "k", size=50) for each in range(number, number + 7)], wait=False)
            while client.settled < number - first - 700:
                acked.append(client.next("ack").sequence or 0)
    except (OSError, AssertionError, ValueError, EOFError):
        pass  # cut, as intended
    except Exception as error:
        if "WebSocket" not in type(error).__name__:
            raise
    finally:
        client.close()


def test_sigkill_in_mid_stream_loses_nothing_that_was_acknowledged(start: Start, connect: Connect):
    """Publisher and subscriber go on after each kill: the store and the subscriber have every event once, in order."""
    hub = start(store="hub.db")
    seen: list[bytes] = []
    position: object = "start"
    acked = [0]
    for _ in range(3):
        reader = connect(hub)
        assert reader.subscribe(since=position).recovered is True
        first = int(hub.json("api/runs/k")["events"]) + 1 if seen else 1
        assert first > acked[-1]
        publisher = threading.Thread(target=publish_until_cut, args=(hub, first, acked))
        publisher.start()
        before = len(reader.lines)
        reader.read(before + 700)
        hub.kill()
        publisher.join(30)
        try:
            while True:
                reader.note(reader.receive())
        except Exception:  # noqa: BLE001 - whatever a cut connection raises
            seen += reader.lines
        position = {"epoch": reader.epoch, "offset": reader.position}
        hub.start()
    reader = connect(hub)
    assert reader.subscribe(since=position).recovered is True
    head = hub.json("api/runs")["position"]["offset"]
    seen += reader.read(head - len(seen))
    assert head >= max(acked)
    assert sequences(seen) == list(range(1, head + 1))
    assert hub.json("api/runs/k")["events"] == head


def test_numbers_and_ids_are_known_after_a_restart(start: Start, connect: Connect):
    hub = start(store="hub.db")
    gap = event(None, "r", type_="gap", event_id="r:gap:5-6")
    own = event(None, "r", type_="hook", event_id="hook-1")
    connect(hub).publish(event(1), event(4), gap, own)
    hub.kill()
    hub.start()
    client = connect(hub)
    client.publish(event(1), event(4), gap, own, event(6))
    found = hub.json("api/runs/r/events")
    assert [(each["sequence"], each["event_id"]) for each in found["events"]] == [
        (1, "r:1"),
        (4, "r:4"),
        (5, "r:gap:5-6"),
        (6, "hook-1"),
    ]
    client.publish(event(7))
    assert hub.json("api/runs/r")["events"] == 5


def test_a_memory_hub_that_restarted_has_another_epoch(start: Start, connect: Connect):
    hub = start()
    writer = connect(hub)
    writer.publish(event(1))
    reader = connect(hub)
    reader.subscribe(since="start")
    reader.read(1)
    position = {"epoch": reader.epoch, "offset": reader.position}
    hub.kill()
    hub.start()
    again = connect(hub)
    assert again.subscribe(since=position).recovered is False
    assert again.epoch != reader.epoch
    again.next("snapshot")
    assert again.gaps == [(0, 0, "epoch")]


def test_what_was_evicted_is_declared(start: Start, connect: Connect):
    hub = start("--window", "64KiB")
    writer = connect(hub)
    writer.publish(event(1))
    reader = connect(hub)
    reader.subscribe(since="start")
    reader.read(1)
    for number in range(2, 402, 20):
        writer.publish(*[event(each, size=500) for each in range(number, number + 20)])
    late = connect(hub)
    assert late.subscribe(since={"epoch": reader.epoch, "offset": 1}).recovered is False
    late.next("snapshot")
    ((first, last, reason),) = late.gaps
    assert (first, reason) == (2, "evicted")
    assert last is not None
    assert sequences(late.read(401 - last)) == list(range(last + 1, 402))
    assert sequences(reader.read(401)) == list(range(1, 402))


def test_a_store_reaches_back_behind_the_window(start: Start, connect: Connect):
    hub = start("--window", "64KiB", store="hub.db")
    writer = connect(hub)
    for number in range(1, 2001, 40):
        writer.publish(*[event((each + 1) // 2, "ab"[each % 2], size=300) for each in range(number, number + 40)])
    reader = connect(hub)
    reader.subscribe(since="start")
    assert len(reader.read(2000)) == 2000
    only = connect(hub)
    only.subscribe(since={"last": 700}, filter={"runs": ["a"]})
    assert sequences(only.read(700)) == list(range(301, 1001))
    writer.publish(event(1001, "b"), event(1001, "a"))
    assert sequences(only.read(701))[-1] == 1001
    assert sequences(reader.read(2002))[-2:] == [1001, 1001]


def test_a_disk_that_is_full_is_told_and_nothing_is_acknowledged(start: Start, connect: Connect, tmp_path: Path):
    """The store's file may not grow: RLIMIT_FSIZE is the disk that is full."""
    hub = start(store="hub.db")
    writer = connect(hub)
    writer.publish(event(1))
    _, hard = resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE)
    size = (tmp_path / "hub.db-wal").stat().st_size
    resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (size, hard))
    writer.send(b'{"type":"publish","events":[%b]}' % event(2, size=500_000))
    assert writer.closed_with() == 4200
    assert [message.code for message in writer.others[-2:]] == ["unavailable", 4200]
    assert writer.settled == 1
    assert hub.request("readyz")[0] == 503
    assert hub.request("api/events", event(3, size=500_000))[0] == 503
    resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    again = connect(hub)
    again.publish(event(2, size=500_000), event(3))
    assert hub.json("readyz") == {"status": "ok"}
    assert [each["sequence"] for each in hub.json("api/runs/r/events")["events"]] == [1, 2, 3]


def test_an_orderly_end_stores_tells_and_says_goodbye(start: Start, connect: Connect):
    hub = start(store="hub.db")
    reader, writer = connect(hub), connect(hub)
    reader.subscribe()
    writer.publish(*[event(number) for number in range(1, 300)], wait=False)
    until(lambda: hub.json("api/runs")["position"]["offset"])
    assert hub.stop() == -15
    assert reader.closed_with() == 1001
    bye = reader.others[-1]
    assert (bye.type, bye.code, bye.reconnect) == ("bye", 1001, True)
    assert bye.after_ms is not None
    stored = len(reader.lines)
    writer.closed_with()
    assert writer.settled == stored
    hub.start()
    assert hub.json("api/runs/r")["events"] == stored


@pytest.mark.parametrize("number", [2, 15, 1])
def test_a_signal_ends_it_as_the_shell_expects(start: Start, number: int):
    assert start().stop(number) == -number


def test_a_store_that_grew_while_others_read_keeps_its_limits(start: Start, connect: Connect, tmp_path: Path):
    hub = start("--retain", "100ev", store="hub.db")
    writer = connect(hub)
    for number in range(1, 301, 10):
        writer.publish(*[event(each) for each in range(number, number + 10)])
    hub.stop()
    hub.options = ("--retain", "100ev")
    hub.start()
    reader = connect(hub)
    reader.subscribe(since="start")
    lines = reader.read(88)  # seven eighths of it
    assert json.loads(lines[0])["payload"] == {"ranges": [[1, 213]], "count": 213, "reason": "evicted"}
    assert sequences(lines) == list(range(213, 301))
    assert hub.json("api/runs/r")["events"] == 300  # the state counts what was, not what is kept


def test_the_events_of_a_run_are_there_though_its_state_is_forgotten(start: Start, connect: Connect):
    """The states are of the newest runs alone; the log is of all."""
    hub = start(store="hub.db")
    client = connect(hub)
    first = event(1, "first", "run_completed")
    client.publish(first)
    for block in range(0, MAX_RUNS, 1000):
        client.publish(*[event(1, f"run-{number}", "run_completed") for number in range(block, block + 1000)])
    assert hub.request("api/runs/first")[0] == 404
    assert hub.json("api/runs/first/events")["events"] == [json.loads(first)]
    assert hub.json("api/runs/first/events?after=5")["events"] == []
    assert hub.request("api/runs/never/events")[0] == 404


def test_what_was_read_from_stdin_is_stored_when_the_hub_is_told_to_end(start: Start):
    """In the middle of a stream: what the hub has taken from the pipe is in the store, to the line."""
    hub = start(store="hub.db", stdin=subprocess.PIPE)
    assert hub.process.stdin is not None
    pipe = hub.process.stdin.fileno()

    def line(number: int) -> bytes:
        return b'{"type":"x","run_id":"in","agent_id":"a","sequence":%d,"n":"%07d"}\n' % (number + 1_000_000, number)

    size, written, number = len(line(1)), 0, 0
    block = b""
    try:
        while True:
            if not block:
                block = b"".join([line(each) for each in range(number, number + 500)])
                number += 500
            count = os.write(pipe, block)
            block, written = block[count:], written + count
            if number == 20_000:
                hub.process.send_signal(signal.SIGTERM)
    except BrokenPipeError:
        unread = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]
    hub.process.stdin.close()
    hub.stop()
    reader = SqliteReader(hub.store)
    try:
        assert reader.head == (written - unread) // size
    finally:
        reader.close()
    assert "Traceback" not in hub.stderr
