"""A client is a cursor: complete and in order from its position, or an explicit gap; nothing twice."""

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from agentpipe import wire
from agentpipe.event import Event, encode, peek
from agentpipe.history import EVERYTHING, Filter, MemoryLog, Page
from agentpipe.hub import DELIVERY_BYTES, Delivery, Hub, Subscription

RUNS = "abc"


def made(run: str, number: int, size: int = 0) -> Event:
    return peek(encode({"type": "x", "run_id": run, "agent_id": run, "sequence": number, "pad": "x" * size}))


def payloads(data: bytes) -> list[bytes]:
    """The messages in server frames."""
    found = []
    while data:
        assert data[0] == 0x81
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        found.append(data[start : start + size])
        data = data[start + size :]
    return found


class Reader:
    """A client that keeps to the protocol: it accepts only what follows its own position."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.events: list[dict[str, Any]] = []
        self.gaps: list[tuple[int, int]] = []
        self.empty = 0

    def read(self, data: bytes) -> None:
        for payload in payloads(data):
            message = wire.parse_hub_message(payload)
            if message.type == "gap":
                assert message.first == self.position + 1
                assert message.last is not None
                self.gaps.append((message.first, message.last))
                self.position = message.last
                continue
            assert message.type == "events"
            assert message.prev == self.position
            assert message.pos is not None
            assert message.pos > self.position
            assert len(message.lines) <= wire.MAX_EVENTS
            assert len(payload) <= wire.MAX_MESSAGE_BYTES or len(message.lines) == 1
            self.position = message.pos
            self.empty += not message.lines
            self.events += [json.loads(line) for line in message.lines]


def deliver(hub: "Hub[Reader]", deliveries: "list[Delivery[Reader]]", slow: "set[Reader] | None" = None) -> None:
    for delivery in deliveries:
        blocked = [sub for sub, reader in delivery.members.items() if reader in (slow or ())]
        for subscription, reader in delivery.members.items():
            if subscription not in blocked:
                reader.read(delivery.data)
        hub.settle(delivery, blocked)


def hub_of(window: MemoryLog | None = None) -> "Hub[Reader]":
    return Hub(window or MemoryLog("e", max_events=10_000, max_bytes=1 << 24))


def joined(hub: "Hub[Reader]", wanted: Filter = EVERYTHING, offset: int = 0) -> "tuple[Reader, Subscription[Reader]]":
    reader = Reader(offset)
    return reader, hub.join(reader, 1, wanted, offset)


def drain(hub: "Hub[Reader]") -> None:
    for _ in range(1000):
        deliver(hub, hub.tick())
        if not hub.behind:
            return
    pytest.fail("the hub does not come to rest")


def test_all_followers_share_the_same_bytes():
    hub = hub_of()
    readers = [joined(hub)[0] for _ in range(3)]
    hub.announce([made("a", 1), made("a", 2)])
    (delivery,) = hub.tick()
    assert list(delivery.members.values()) == readers
    deliver(hub, [delivery])
    assert [reader.position for reader in readers] == [2, 2, 2]
    assert hub.tick() == []


def test_catching_up_and_following_are_the_same_step():
    hub = hub_of()
    follower, _ = joined(hub)
    hub.announce([made("a", number) for number in range(1, 51)])
    drain(hub)
    late, _ = joined(hub)
    hub.announce([made("a", number) for number in range(51, 61)])
    drain(hub)
    assert [event["sequence"] for event in late.events] == list(range(1, 61))
    assert follower.events == late.events
    hub.announce([made("a", 61)])
    assert len(hub.tick()) == 1  # they have met and share a cursor now


def test_a_subscription_is_told_by_its_own_id():
    hub = hub_of()
    hub.join(Reader(0), 'own "id"', EVERYTHING, 0)
    hub.announce([made("a", 1)])
    (delivery,) = hub.tick()
    assert wire.parse_hub_message(payloads(delivery.data)[0]).id == 'own "id"'


def test_a_filter_skips_and_positions_still_advance():
    hub = hub_of()
    reader, _ = joined(hub, Filter(runs=frozenset({"b"})))
    hub.announce([made("a", 1), made("a", 2)])
    drain(hub)
    assert (reader.position, reader.events) == (0, [])
    deliver(hub, hub.positions())
    assert (reader.position, reader.empty) == (2, 1)
    assert hub.positions() == []
    hub.announce([made("a", 3), made("b", 1), made("a", 4)])
    drain(hub)
    assert (reader.position, [event["run_id"] for event in reader.events]) == (4, ["b"])


def test_a_late_joiner_with_a_filter_that_skipped_gets_its_own_prev():
    hub = hub_of()
    wanted = Filter(runs=frozenset({"b"}))
    early, _ = joined(hub, wanted)
    hub.announce([made("a", 1)])
    drain(hub)
    late, _ = joined(hub, wanted, 1)
    hub.announce([made("b", 1)])
    drain(hub)
    assert early.events == late.events != []


def test_a_blocked_client_keeps_its_place_and_costs_nobody_anything():
    hub = hub_of()
    slow, _ = joined(hub)
    quick, _ = joined(hub)
    hub.announce([made("a", 1)])
    deliver(hub, hub.tick(), {slow})
    hub.announce([made("a", 2)])
    drain(hub)
    assert (slow.position, quick.position) == (0, 2)
    (subscription,) = hub.blocked
    hub.resume(subscription)
    drain(hub)
    assert slow.events == quick.events


def test_a_delivery_is_bounded_however_much_there_is():
    hub = hub_of()
    reader, _ = joined(hub)
    hub.announce([made("a", number, 1000) for number in range(1, 501)])
    largest = 0
    while hub.behind:
        deliveries = hub.tick()
        largest = max([largest, *(len(delivery.data) for delivery in deliveries)])
        deliver(hub, deliveries)
    assert largest <= DELIVERY_BYTES + 2000
    assert [event["sequence"] for event in reader.events] == list(range(1, 501))


def test_one_event_larger_than_a_message_goes_alone():
    hub = hub_of()
    reader, _ = joined(hub)
    hub.announce([made("a", 1), made("a", 2, 200_000), made("a", 3)])
    drain(hub)
    assert [event["sequence"] for event in reader.events] == [1, 2, 3]


def test_a_client_that_left_gets_nothing_more():
    hub = hub_of()
    reader, subscription = joined(hub)
    other, blocked = joined(hub)
    hub.announce([made("a", 1)])
    deliver(hub, hub.tick(), {other})
    hub.leave(subscription)
    hub.leave(blocked)
    hub.leave(blocked)
    hub.announce([made("a", 2)])
    assert hub.tick() == []
    assert (hub.blocked, hub.behind, reader.position) == ((), False, 1)


def test_what_fell_out_of_a_window_without_a_store_is_a_gap():
    hub = hub_of(MemoryLog("e", max_events=8, max_bytes=1 << 20))
    reader, _ = joined(hub)
    for number in range(1, 31):
        hub.announce([made("a", number)])
    drain(hub)
    assert reader.gaps == [(1, hub.oldest)]
    assert [event["sequence"] for event in reader.events] == list(range(hub.oldest + 1, 31))


def test_pages_of_the_store_are_cut_at_what_is_announced():
    """A reader of the store sees commits that the loop has not been told of yet: they come through the window."""
    window = MemoryLog("e", max_events=100, max_bytes=1 << 20, head=2)
    hub: Hub[Reader] = Hub(window, oldest=0)
    reader, _ = joined(hub)
    deliver(hub, hub.tick())
    (cursor,) = hub.wanted()
    stored = [made("a", number) for number in (1, 2, 3)]
    hub.supply(cursor, Page(0, [event.line for event in stored]))
    drain(hub)
    assert reader.position == 2
    hub.announce(stored[2:])
    drain(hub)
    assert [event["sequence"] for event in reader.events] == [1, 2, 3]


class HubMachine(RuleBasedStateMachine):
    """Publish, join, leave, stall, read pages, evict: every client sees everything it wants once, or a gap."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.window = MemoryLog("e", max_events=12, max_bytes=1 << 20)
        self.hub: Hub[Reader] = Hub(self.window, oldest=0)
        self.log: list[Event] = []
        self.stored_from = 0  # what the store has evicted
        self.readers: dict[Reader, tuple[Subscription[Reader], Filter, int]] = {}
        self.slow: set[Reader] = set()

    @rule(runs=st.lists(st.sampled_from(RUNS), min_size=1, max_size=30), size=st.sampled_from([0, 0, 3000]))
    def publish(self, runs: list[str], size: int) -> None:
        events = [made(run, len(self.log) + index + 1, size) for index, run in enumerate(runs)]
        self.log += events
        self.hub.announce(events)

    @rule(target=clients, runs=st.sets(st.sampled_from(RUNS)), back=st.integers(0, 40))
    def join(self, runs: set[str], back: int) -> Reader:
        offset = max(self.hub.oldest, len(self.log) - back)
        wanted = Filter(runs=frozenset(runs))
        reader = Reader(offset)
        self.readers[reader] = (self.hub.join(reader, 1, wanted, offset), wanted, offset)
        return reader

    @rule(reader=consumes(clients))
    def leave(self, reader: Reader) -> None:
        subscription, _, _ = self.readers.pop(reader)
        self.slow.discard(reader)
        self.hub.leave(subscription)

    @rule(reader=clients)
    def stall(self, reader: Reader) -> None:
        self.slow.add(reader)

    @rule(reader=clients)
    def recover(self, reader: Reader) -> None:
        self.slow.discard(reader)
        self.hub.resume(self.readers[reader][0])

    @rule(count=st.integers(0, 30))
    def evict(self, count: int) -> None:
        """The store drops its oldest; the hub is told later, or finds out from a page."""
        self.stored_from = min(max(self.stored_from, count), self.window.oldest)

    @rule()
    def tell_evicted(self) -> None:
        self.hub.evicted(self.stored_from)

    @rule()
    def tick(self) -> None:
        deliver(self.hub, self.hub.tick(), self.slow)

    @rule()
    def beat(self) -> None:
        deliver(self.hub, self.hub.positions(), self.slow)

    @rule(limit=st.integers(1, 20))
    def read_pages(self, limit: int) -> None:
        for cursor in self.hub.wanted():
            start = max(cursor.scanned, self.stored_from)
            self.hub.supply(cursor, Page(start, [event.line for event in self.log[start : start + limit]]))

    @invariant()
    def nobody_is_told_anything_wrong(self) -> None:
        for reader, (_, wanted, offset) in self.readers.items():
            assert [event["sequence"] for event in reader.events] == self.owed(reader, wanted, offset)

    def owed(self, reader: Reader, wanted: Filter, offset: int) -> list[int | None]:
        gone = {place for first, last in reader.gaps for place in range(first, last + 1)}
        places = [place for place in range(offset + 1, reader.position + 1) if place not in gone]
        return [self.log[place - 1].sequence for place in places if wanted.matches(self.log[place - 1])]

    def teardown(self) -> None:
        """Left alone, every client reaches the head."""
        self.slow.clear()
        for _ in range(400):
            for subscription in self.hub.blocked:
                self.hub.resume(subscription)
            self.tick()
            self.read_pages(7)
        deliver(self.hub, self.hub.positions())
        self.nobody_is_told_anything_wrong()
        for reader in self.readers:
            assert reader.position == len(self.log)


HubMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHubMachine = HubMachine.TestCase


def test_large_events_are_not_kept_beside_the_window():
    """The heads of the newest events pin their lines: 500 of a megabyte would be half a gigabyte."""
    hub = hub_of(MemoryLog("e", max_events=10_000, max_bytes=1 << 20))
    for number in range(1, 41):
        hub.announce([made("r", number, 1 << 18)])
    assert sum(len(event.line) for event in hub._fresh) <= 2 << 20
