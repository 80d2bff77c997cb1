"""A client that stops reading slows nobody, costs the hub almost nothing, and finds everything when it comes back."""

from collections.abc import Callable

from tests.io.serve.hubs import Client, Hub, event

Start = Callable[..., Hub]
Connect = Callable[..., Client]


def numbers(lines: list[bytes]) -> list[int]:
    """The sequence numbers, without decoding 4 KB each."""
    return [int(line[: line.index(b',"event_id"')].rsplit(b":", 1)[1]) for line in lines]


def test_one_that_stops_reading_neither_slows_another_nor_grows_the_hub(start: Start, connect: Connect):
    """64 MB go by a subscriber that reads nothing: the hub grows by less than 1 MB, the other gets it all in order."""
    hub = start("--window", "2MiB", store="hub.db")
    writer, reader, stalled = connect(hub), connect(hub), connect(hub)
    reader.subscribe(filter={"types": ["agent_output"]})

    def pour(first: int, megabytes: int) -> int:
        """Publish, and read along; returns the next number."""
        for number in range(first, first + 256 * megabytes, 128):
            writer.publish(*[event(each, size=4096) for each in range(number, number + 128)])
            reader.read(128)
            assert numbers(reader.lines) == list(range(number, number + 128))
            reader.lines = []
        return first + 256 * megabytes

    beginning = pour(1, 48)  # the window is full, the allocator has what it wants
    stalled.subscribe()
    following = pour(beginning, 8)  # its socket buffers fill up
    before = hub.rss
    after = []
    for _ in range(4):
        following = pour(following, 16)
        after.append(hub.rss)
    # The least of them: the allocator takes and gives back a megabyte now and then, with no stalled client as well.
    assert min(after) - before < 1 << 20, [rss - before for rss in after]

    stalled.read(following - beginning)  # and now it reads on, from the store: Client checks every `prev`
    assert numbers(stalled.lines) == list(range(beginning, following))


def test_one_that_does_not_even_answer_pings_is_sent_away(start: Start, connect: Connect):
    hub = start("--heartbeat", "100ms")
    silent = connect(hub)
    said = b""
    while b"\x88" not in said:
        part = silent.socket.sock.recv(1 << 16)
        assert part, said
        said += part
    assert b'"type":"bye","code":4201' in said
    assert (4201).to_bytes(2, "big") in said[said.index(b"\x88") :]
    assert b'"heartbeat"' in said


def test_one_in_the_middle_of_a_large_event_is_not_cut_off(start: Start, connect: Connect):
    """12 MB go to a client that pauses while heartbeats are due. The event is data, not unread control messages."""
    hub = start("--heartbeat", "100ms", store="hub.db")
    large = event(1, size=12 << 20)
    assert hub.json("api/events", large)["accepted"] == 1
    slow = connect(hub)
    slow.send({"type": "subscribe", "id": 1, "since": "start"})
    watcher = connect(hub)
    for _ in range(2):  # fewer than a client may leave unanswered
        watcher.next("heartbeat")
    assert slow.read(1) == [large]


def test_one_that_takes_a_large_event_slowly_is_alive(start: Start, connect: Connect):
    """It cannot answer a ping that stands behind the event; many heartbeats pass until it is there."""
    hub = start("--heartbeat", "100ms", store="hub.db")
    large = event(1, size=12 << 20)
    assert hub.json("api/events", large)["accepted"] == 1
    slow = connect(hub)
    slow.send({"type": "subscribe", "id": 1, "since": "start"})
    watcher = connect(hub)
    got = b""
    while large[-60:] not in got[-(1 << 20) :]:
        part = slow.socket.sock.recv(1 << 18)
        assert part, f"cut off after {len(got)} bytes"
        got += part
        if len(got) % (1 << 20) < 1 << 18:
            watcher.next("heartbeat")
    assert large in got or len(got) > len(large)
