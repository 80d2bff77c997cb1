"""A client is a cursor: complete and in order from its position, or an explicit gap; nothing twice."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from agentpipe import wire
from agentpipe.event import Event, encode, peek
from agentpipe.history import EVERYTHING, Filter, Page
from agentpipe.holes import numbers
from agentpipe.hub import Delivery, Hub, Subscription
from agentpipe.memory_log import MemoryLog
from agentpipe.reading import DELIVERY_BYTES, Manner, Told, even

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
                assert message.count == message.last - message.first + 1
                assert message.reason == "evicted"
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


def test_those_who_are_behind_at_many_places_meet():
    hub = hub_of()
    hub.announce([made("a", number, 100) for number in range(1, 4001)])
    readers = [joined(hub, offset=7 * place)[0] for place in range(100)]
    deliveries = hub.tick()
    assert len(deliveries) == 100
    deliver(hub, deliveries)
    assert len(hub.tick()) <= 8  # 700 events are a few deliveries
    drain(hub)
    for place, reader in enumerate(readers):
        assert [event["sequence"] for event in reader.events] == list(range(7 * place + 1, 4001))


def test_one_who_comes_later_is_told_the_same_bytes():
    hub = hub_of()
    hub.announce([made("a", number, 100) for number in range(1, 4001)])
    told = []
    for _ in range(2):
        reader, subscription = joined(hub)
        (delivery,) = hub.tick()
        told.append(delivery.data)
        deliver(hub, [delivery])
        drain(hub)
        assert len(reader.events) == 4000
        hub.leave(subscription)
    assert told[0] is told[1]
    other = Reader(0)
    hub.join(other, 1, Filter(runs=frozenset("a")), 0)
    drain(hub)
    assert len(other.events) == 4000


def test_what_the_store_has_lost_is_not_taken_from_there_while_the_window_has_it():
    window = MemoryLog("e", max_events=2000, max_bytes=1 << 20)
    hub: Hub[Reader] = Hub(window, oldest=0)
    events = [made("a", number, 100) for number in range(1, 4001)]
    hub.announce(events)
    behind, _ = joined(hub, offset=window.oldest - 10)
    hub.tick()
    (cursor,) = hub.wanted()
    lines = [b"" if place % 3 == 0 else event.line for place, event in enumerate(events[cursor.scanned :])]
    hub.supply(cursor, Page(cursor.scanned, lines))
    late, _ = joined(hub, offset=window.oldest)
    drain(hub)
    assert [event["sequence"] for event in late.events] == list(range(4001 - len(late.events), 4001))
    assert late.position == behind.position == 4000
    assert not late.gaps
    assert behind.gaps


def test_what_was_told_is_forgotten_when_it_is_much():
    told = Told(100_000)
    manner = Manner(EVERYTHING, b"1", False, None)
    for place in range(100):
        told.keep(manner, place, place, (bytes(10_000), place + 1, place + 1))
    assert [told.find(manner, place, place) is not None for place in range(100)] == [False] * 90 + [True] * 10
    told.keep(manner, 200, 200, (bytes(1_000_000), 201, 201))
    assert told.find(manner, 200, 200) is None


def test_pages_of_the_store_end_where_others_end():
    lines = [made("a", number, 100).line for number in range(1, 3001)]
    ends = {even(Page(start, lines[start : start + 1000])).next for start in range(0, 500, 7)}
    assert ends == {512, 1024}
    assert even(Page(7, lines[7:8])).next == 8
    assert even(Page(7, ())).next == 7


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


def page_of(lines: dict[int, bytes], head: int, start: int, limit: int) -> Page:
    """What a store says that kept *lines*, by offset: a later start, or empty lines where entries are gone."""
    first = next((place for place in range(start + 1, head + 1) if place in lines), head + 1)
    last = min(head, first + limit - 1)
    return Page(first - 1, [lines.get(place, b"") for place in range(first, last + 1)])


def test_what_is_gone_in_the_middle_is_declared_in_its_place():
    """Entries 3 and 5 to 7 are gone; the reader of run b has skipped entry 4 and learns its position first."""
    window = MemoryLog("e", max_events=100, max_bytes=1 << 20, head=10)
    hub: Hub[Reader] = Hub(window, oldest=0)
    everything, _ = joined(hub)
    only_b, _ = joined(hub, Filter(runs=frozenset({"b"})))
    lines = {place: made("a" if place < 9 else "b", place).line for place in (1, 2, 4, 8, 9, 10)}
    deliver(hub, hub.tick())
    for cursor in hub.wanted():
        hub.supply(cursor, page_of(lines, 10, cursor.scanned, 100))
    drain(hub)
    assert everything.gaps == only_b.gaps == [(3, 3), (5, 7)]
    assert [event["sequence"] for event in everything.events] == [1, 2, 4, 8, 9, 10]
    assert [event["sequence"] for event in only_b.events] == [9, 10]
    assert hub.oldest == 0


def test_a_page_that_starts_later_declares_what_is_between_and_nothing_that_the_window_has():
    window = MemoryLog("e", max_events=100, max_bytes=1 << 20, head=10)
    hub: Hub[Reader] = Hub(window, oldest=0)
    reader, _ = joined(hub, offset=2)
    hub.announce([made("a", 11), made("a", 12)])
    deliver(hub, hub.tick())
    (cursor,) = hub.wanted()
    hub.supply(cursor, Page(11, [made("a", 12).line]))  # the store has dropped entry 11 too, but we have not
    drain(hub)
    assert reader.gaps == [(3, 10)]
    assert [event["sequence"] for event in reader.events] == [11, 12]
    assert hub.oldest == 0


def test_a_store_that_has_nothing_at_all_makes_one_gap_up_to_the_window():
    window = MemoryLog("e", max_events=100, max_bytes=1 << 20, head=10)
    hub: Hub[Reader] = Hub(window, oldest=0)
    reader, _ = joined(hub)
    deliver(hub, hub.tick())
    (cursor,) = hub.wanted()
    hub.supply(cursor, Page(0, []))
    drain(hub)
    assert (reader.gaps, reader.position) == ([(1, 10)], 10)


def test_a_reader_that_is_ahead_of_us_waits_there():
    """It has read on another hub of the same store, whose announcements we have not heard of yet."""
    hub = hub_of()
    reader, _ = joined(hub, offset=3)
    hub.announce([made("a", 1), made("a", 2)])
    drain(hub)
    assert (reader.position, hub.due) == (3, None)
    hub.announce([made("a", 3), made("a", 4)])
    drain(hub)
    assert [event["sequence"] for event in reader.events] == [4]


def chunk(run: str, number: int, text: str = "t", *, final: bool = False) -> Event:
    payload = {"message_id": "m", "index": 0, "text": text, "final": final}
    head = {"type": "agent_output", "run_id": run, "agent_id": run, "sequence": number}
    return peek(encode({**head, "payload": payload}))


def test_who_asks_gets_a_text_at_once_and_the_others_every_chunk():
    hub = hub_of()
    plain, _ = joined(hub)
    late = Reader(0)
    hub.join(late, 1, EVERYTHING, 0, accumulate=True)
    lines = [chunk("a", number, f"{number} ") for number in range(1, 101)]
    hub.announce(lines)
    drain(hub)
    assert len(plain.events) == 100
    (event,) = late.events
    assert event["payload"]["text"] == "".join(f"{number} " for number in range(1, 101))
    assert (event["sequence"], event["covers"], late.position) == (100, [[1, 99]], 100)


def test_over_the_rate_texts_gather_and_others_hurry():
    """At 10 events/s a chunk is followed by the next after 0.1 s; a tool call waits no longer than that."""
    hub = hub_of()
    reader = Reader(0)
    hub.join(reader, 1, EVERYTHING, 0, max_rate=2.0)
    hub.announce([chunk("a", 1)])
    deliver(hub, hub.tick(10.0))
    assert len(reader.events) == 1
    hub.announce([chunk("a", 2)])
    deliver(hub, hub.tick(10.1))
    hub.announce([chunk("a", 3)])
    deliver(hub, hub.tick(10.4))
    assert (len(reader.events), hub.due, hub.behind) == (1, 10.5, False)
    deliver(hub, hub.tick(10.5))
    assert reader.events[1]["covers"] == [[2, 2]]
    hub.announce([chunk("a", 4), made("a", 5), chunk("a", 6)])
    deliver(hub, hub.tick(10.55))
    assert (len(reader.events), hub.due) == (2, 10.6)
    deliver(hub, hub.tick(10.6))
    assert [event["sequence"] for event in reader.events] == [1, 3, 4, 5, 6]
    assert hub.due is None


def test_who_is_behind_does_not_wait_for_its_rate():
    hub = hub_of()
    reader = Reader(0)
    hub.join(reader, 1, EVERYTHING, 0, max_rate=1.0)
    hub.announce([made("a", number, 200) for number in range(1, 2001)])
    for _ in range(100):
        deliver(hub, hub.tick(5.0))
    assert reader.position == 2000


KINDS = ["x", "chunk", "chunk", "chunk", "final"]


class HubMachine(RuleBasedStateMachine):
    """Store, announce, join, leave, come back, stall, read pages, evict anything: every client sees everything it
    wants once, or a gap that says it is gone; and nothing is said to be gone that is not.
    """

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.window = MemoryLog("e", max_events=12, max_bytes=1 << 20)
        self.hub: Hub[Reader] = Hub(self.window, oldest=0)
        self.log: list[Event] = []  # all that was ever stored
        self.numbers = dict.fromkeys(RUNS, 0)
        self.kept: dict[int, bytes] = {}  # what the store still has
        self.readers: dict[Reader, tuple[Subscription[Reader], Filter, int, dict[str, Any]]] = {}
        self.slow: set[Reader] = set()
        self.now = 1.0

    @rule(
        made_of=st.lists(st.tuples(st.sampled_from(RUNS), st.sampled_from(KINDS)), min_size=1, max_size=30),
        size=st.sampled_from([0, 0, 3000]),
        announced=st.booleans(),
    )
    def publish(self, made_of: list[tuple[str, str]], size: int, announced: bool) -> None:
        for run, kind in made_of:
            self.numbers[run] += 1
            number = self.numbers[run]
            event = made(run, number, size) if kind == "x" else chunk(run, number, "t" * size, final=kind == "final")
            self.log.append(event)
            self.kept[len(self.log)] = event.line
        if announced:
            self.announce()

    @rule()
    def announce(self) -> None:
        """With a shared store the hub hears of what is stored later."""
        self.hub.announce(self.log[self.hub.head :])

    @rule(
        target=clients,
        runs=st.sets(st.sampled_from(RUNS)),
        back=st.integers(-3, 40),
        manner=st.sampled_from([{}, {}, {"accumulate": True}, {"max_rate": 50.0}]),
    )
    def join(self, runs: set[str], back: int, manner: dict[str, Any]) -> Reader:
        """Some join beyond our head: another hub was ahead of us."""
        offset = max(self.hub.oldest, self.hub.head - back)
        wanted = Filter(runs=frozenset(runs))
        reader = Reader(offset)
        self.readers[reader] = (self.hub.join(reader, 1, wanted, offset, **manner), wanted, offset, manner)
        return reader

    @rule(reader=consumes(clients))
    def leave(self, reader: Reader) -> None:
        subscription, *_ = self.readers.pop(reader)
        self.slow.discard(reader)
        self.hub.leave(subscription)

    @rule(reader=clients)
    def come_back(self, reader: Reader) -> None:
        """Resume from its own position, as on a new connection."""
        subscription, wanted, offset, manner = self.readers[reader]
        self.hub.leave(subscription)
        self.readers[reader] = (self.hub.join(reader, 1, wanted, reader.position, **manner), wanted, offset, manner)

    @rule(reader=clients)
    def stall(self, reader: Reader) -> None:
        self.slow.add(reader)

    @rule(reader=clients)
    def recover(self, reader: Reader) -> None:
        self.slow.discard(reader)
        self.hub.resume(self.readers[reader][0])

    @rule(first=st.integers(1, 200), count=st.integers(1, 20))
    def evict(self, first: int, count: int) -> None:
        """The store drops entries anywhere, but the newest."""
        for place in range(first, min(first + count, self.window.oldest + 1)):
            self.kept.pop(place, None)

    @rule()
    def tell_evicted(self) -> None:
        self.hub.evicted(min(self.kept, default=len(self.log) + 1) - 1)

    @rule(seconds=st.sampled_from([0.0, 0.03, 0.5]))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        deliver(self.hub, self.hub.tick(self.now), self.slow)

    @rule()
    def beat(self) -> None:
        deliver(self.hub, self.hub.positions(), self.slow)

    @rule(limit=st.integers(1, 20))
    def read_pages(self, limit: int) -> None:
        for cursor in self.hub.wanted():
            self.hub.supply(cursor, page_of(self.kept, len(self.log), cursor.scanned, limit))

    @invariant()
    def nobody_is_told_anything_wrong(self) -> None:
        for reader, (_, wanted, offset, manner) in self.readers.items():
            owed = self.owed(reader, wanted, offset)
            if manner:
                assert accounted(map(encode, reader.events)) == accounted([event.line for event in owed])
            else:
                seen = [(event["run_id"], event["sequence"]) for event in reader.events]
                assert seen == [(event.run_id, event.sequence) for event in owed]
            assert not [place for first, last in reader.gaps for place in range(first, last + 1) if place in self.kept]

    def owed(self, reader: Reader, wanted: Filter, offset: int) -> list[Event]:
        gone = {place for first, last in reader.gaps for place in range(first, last + 1)}
        places = [place for place in range(offset + 1, reader.position + 1) if place not in gone]
        return [self.log[place - 1] for place in places if wanted.matches(self.log[place - 1])]

    def teardown(self) -> None:
        """Left alone, every client reaches the head."""
        self.slow.clear()
        self.announce()
        for _ in range(400):
            for subscription in self.hub.blocked:
                self.hub.resume(subscription)
            self.tick(1.0)
            self.read_pages(7)
        deliver(self.hub, self.hub.positions())
        self.nobody_is_told_anything_wrong()
        for reader in self.readers:
            assert reader.position >= len(self.log)


def accounted(lines: Iterable[bytes]) -> dict[str, list[int]]:
    """The numbers of each run that *lines* stand for, in their order, what is covered before who covers it."""
    found: dict[str, list[int]] = {}
    for line in lines:
        event = peek(line)
        for first, last in numbers(event):
            found.setdefault(event.run_id, []).extend(range(first, last + 1))
    return found


HubMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHubMachine = HubMachine.TestCase


def test_large_events_are_not_kept_beside_the_window():
    """The heads of the newest events pin their lines: 500 of a megabyte would be half a gigabyte."""
    hub = hub_of(MemoryLog("e", max_events=10_000, max_bytes=1 << 20))
    for number in range(1, 41):
        hub.announce([made("r", number, 1 << 18)])
    assert sum(len(event.line) for event in hub._reading._fresh) <= 2 << 20
