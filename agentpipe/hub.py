"""Who listens, and how far each has read. No sockets, no clock, no queues.

The rule this module keeps: **a client is a cursor into the log.** Catching up and following are the same step: take
what lies after the cursor, as one run of bytes, and move on. Subscriptions with the same filter, id and cursor share
those bytes; those with the same filter share its evaluation. Those who are behind end their steps at the same places,
and come to bytes that others were told before them. A client that cannot take bytes now keeps its cursor and nothing
else.

`tick` says which bytes go to whom; the shell writes them and reports with `settle` who could not take them. What lies
before the window is asked for with `wanted` and handed in with `supply`. What is gone there is said to be gone in its
place between the events.
"""

import dataclasses
from collections.abc import Sequence
from typing import Generic, TypeVar

from agentpipe import wire
from agentpipe.event import Event, encode
from agentpipe.history import Filter, Page
from agentpipe.memory_log import MemoryLog
from agentpipe.merge import TEXT_TYPES
from agentpipe.reading import Manner, Reading, Step, Told, even

__all__ = ["Cursor", "Delivery", "Hub", "Subscription"]

#: A subscription that takes its time for texts (`max_rate`) gets everything else within this.
HURRY_S = 0.1

Peer = TypeVar("Peer")


class Subscription(Generic[Peer]):
    """One subscription of one client; *peer* is the shell's own handle and is not looked at here."""

    __slots__ = ("cursor", "family", "peer", "position", "scanned")

    def __init__(self, peer: Peer, family: "_Family[Peer]") -> None:
        # given
        self.peer = peer
        # changing
        self.family = family  # replaced by one of the same manner
        self.cursor: Cursor[Peer] | None = None  # None while blocked
        self.position = 0
        self.scanned = 0


@dataclasses.dataclass(slots=True, eq=False)
class Cursor(Generic[Peer]):
    """A place in the log shared by subscriptions of one family: ``position`` is what they were told, ``scanned`` how
    far the filter has looked beyond it (they differ while it skips entries).

    One that is over its rate has its next turn when it is ``due``; at ``latest`` if not only texts wait.
    """

    family: "_Family[Peer]"
    position: int
    scanned: int
    members: dict[Subscription[Peer], Peer]
    page: Page | None = None  # read from the store, not yet consumed
    asked: bool = False
    due: float = 0.0
    latest: float = 0.0


@dataclasses.dataclass(slots=True, eq=False)
class _Family(Generic[Peer]):
    """Subscriptions that differ only in how far they have read."""

    manner: Manner
    cursors: dict[tuple[int, int], Cursor[Peer]]


@dataclasses.dataclass(slots=True, eq=False)
class Delivery(Generic[Peer]):
    """``data`` is for every one of ``members``; afterwards they have read to ``position``."""

    cursor: Cursor[Peer]
    data: bytes
    position: int
    scanned: int
    rest: Page | None

    @property
    def members(self) -> dict[Subscription[Peer], Peer]:
        """Who gets it. Not to be changed while it is iterated: tell `Hub.settle` afterwards."""
        return self.cursor.members


class Hub(Generic[Peer]):
    """The cursors of all subscriptions over one window. *oldest* is the offset before the first entry of the store
    behind it; None when there is no store.
    """

    def __init__(self, window: MemoryLog, *, oldest: int | None = None) -> None:
        # given
        self._window = window
        self._stored = oldest is not None
        # changing
        self._families: dict[Manner, _Family[Peer]] = {}
        self._blocked: set[Subscription[Peer]] = set()
        self._wanted: list[Cursor[Peer]] = []
        self._reading = Reading(window)
        self._told = Told(window.max_bytes // 4)
        self._oldest = oldest or 0
        self._paced = False  # whether anybody had a rate so far
        self._hurried = 0  # the offset of the newest entry that is no text: those over their rate wait less for it
        self._now = 0.0  # at the last tick

    # --- who listens

    def join(
        self,
        peer: Peer,
        own_id: wire.SubscriptionId,
        wanted: Filter,
        offset: int,
        *,
        accumulate: bool = False,
        max_rate: float | None = None,
    ) -> Subscription[Peer]:
        """Start a subscription after *offset*, which may lie beyond the head: it waits there. *accumulate* joins what
        one step finds of a text; *max_rate* (events/s) lets texts wait for more of them to join while there are more.
        """
        manner = Manner(wanted, encode(own_id), accumulate or max_rate is not None, max_rate)
        self._paced = self._paced or max_rate is not None
        subscription = Subscription(peer, self._families.get(manner) or _Family(manner, {}))
        self._place(subscription, offset, offset)
        return subscription

    def leave(self, subscription: Subscription[Peer]) -> None:
        """End a subscription; nothing more goes to it."""
        self._blocked.discard(subscription)
        cursor = subscription.cursor
        if cursor is None:
            return
        subscription.cursor = None
        cursor.members.pop(subscription, None)
        if not cursor.members:
            self._lift(cursor)
            self._end(cursor.family)

    @property
    def blocked(self) -> Sequence[Subscription[Peer]]:
        """Those who could not take bytes and wait for `resume`."""
        return tuple(self._blocked)

    def resume(self, subscription: Subscription[Peer]) -> None:
        """The peer can take bytes again."""
        if subscription in self._blocked:
            self._blocked.discard(subscription)
            self._place(subscription, subscription.position, subscription.scanned)

    # --- what happens

    def announce(self, events: Sequence[Event]) -> None:
        """Append *events* to the window: they are stored, now they may be told."""
        self._reading.announce(events)
        if self._paced:
            self._hurry(events)

    def _hurry(self, events: Sequence[Event]) -> None:
        for back, event in enumerate(reversed(events)):
            if event.type not in TEXT_TYPES:
                self._hurried = self._window.head - back
                return

    def evicted(self, oldest: int) -> None:
        """The store has dropped its entries up to the offset *oldest*."""
        self._oldest = max(self._oldest, oldest)

    @property
    def oldest(self) -> int:
        """The offset before the first entry that can still be read."""
        return self._oldest if self._stored else self._window.oldest

    @property
    def head(self) -> int:
        """The offset of the newest entry."""
        return self._window.head

    def tick(self, now: float = 0.0) -> list[Delivery[Peer]]:
        """One step of every cursor that is behind: what goes to whom. Each delivery is to be settled."""
        self._now = now
        head = self._window.head
        shared: dict[tuple[Filter, bool], dict[int, Step]] = {}
        deliveries: list[Delivery[Peer]] = []
        for family in tuple(self._families.values()):
            steps: dict[int, Step] | None = None
            for cursor in tuple(family.cursors.values()):
                if cursor.scanned < head and not cursor.asked and (not cursor.due or self._turn(cursor) <= now):
                    if steps is None:
                        steps = shared.setdefault((family.manner.filter, family.manner.accumulate), {})
                    self._advance(cursor, steps, deliveries)
        return deliveries

    @property
    def due(self) -> float | None:
        """When a tick would move some cursor, if nothing is announced before: in the past for at once, None for
        never.
        """
        head = self._window.head
        due: float | None = None
        for family in self._families.values():
            for cursor in family.cursors.values():
                if cursor.scanned < head and not cursor.asked:
                    turn = self._turn(cursor)
                    if due is None or turn < due:
                        due = turn
        return due

    @property
    def behind(self) -> bool:
        """Whether another `tick` at the time of the last one would move some cursor."""
        due = self.due
        return due is not None and due <= self._now

    def settle(self, delivery: Delivery[Peer], blocked: Sequence[Subscription[Peer]] = ()) -> None:
        """The delivery was written to all its members but *blocked*, who keep their place."""
        cursor = delivery.cursor
        for subscription in blocked:
            self._block(subscription, cursor)
        cursor.page = delivery.rest
        self._move(cursor, delivery.position, delivery.scanned)

    def positions(self) -> list[Delivery[Peer]]:
        """Empty ``events`` for cursors whose filter skipped everything for a while, so that positions advance."""
        deliveries = []
        for family in self._families.values():
            for cursor in family.cursors.values():
                if cursor.position < cursor.scanned:
                    data = _passed_over(family.manner.id_json, cursor.position, cursor.scanned)
                    deliveries.append(Delivery(cursor, data, cursor.scanned, cursor.scanned, cursor.page))
        return deliveries

    # --- what lies before the window

    def wanted(self) -> list[Cursor[Peer]]:
        """Cursors whose next entries are only in the store: read ``since(cursor.scanned)`` and `supply` them."""
        found, self._wanted = self._wanted, []
        return found

    def supply(self, cursor: Cursor[Peer], page: Page) -> None:
        """What the store had for *cursor*; a page that starts later than asked means that the entries between are gone.
        So are those up to the window when it has none and does not move on.
        """
        cursor.asked = False
        if page.next <= cursor.scanned:
            page = Page(self._window.oldest, ())
        if page.next < self._window.oldest:
            page = even(page)
        told = self._window.head - page.start  # what is committed but not announced yet comes through the window
        cursor.page = page if len(page.lines) <= told else Page(page.start, page.lines[: max(0, told)])

    # --- inside

    def _turn(self, cursor: Cursor[Peer]) -> float:
        """When *cursor* moves on."""
        return cursor.due if cursor.scanned >= self._hurried else cursor.latest

    def _advance(self, cursor: Cursor[Peer], steps: dict[int, Step], deliveries: list[Delivery[Peer]]) -> None:
        start = cursor.scanned
        page = cursor.page
        if start < self.oldest:
            deliveries.append(_gone(cursor, self.oldest, None))
            return
        manner = cursor.family.manner
        told = self._told.find(manner, cursor.position, start)
        if told is not None:
            deliveries.append(Delivery(cursor, *told, page))
            return
        inside = start >= self._window.oldest
        if not inside and page is not None and page.start > start:
            deliveries.append(_gone(cursor, min(page.start, self._window.oldest), page))
            return
        if not inside and (page is None or page.next <= start):
            cursor.asked = True
            cursor.page = None
            self._wanted.append(cursor)
            return
        step = steps.get(start)
        if step is None:
            step = steps[start] = self._reading.step(manner, start, None if inside else page)
        if step.packs:
            delivery = _delivery(cursor, step)
            deliveries.append(delivery)
            if manner.max_rate is not None:
                self._pace(cursor, manner.max_rate, step)
            elif step.scanned < self._window.head and all(item.events for item in step.packs):  # nothing is gone
                self._told.keep(manner, cursor.position, start, (delivery.data, delivery.position, delivery.scanned))
        else:
            cursor.page = step.rest
            self._move(cursor, cursor.position, step.scanned)

    def _pace(self, cursor: Cursor[Peer], rate: float, step: Step) -> None:
        """Let what comes next gather for as long as *step* was worth; who is still behind does not wait."""
        count = sum(item.events for item in step.packs)
        wait = count / rate if step.scanned >= self._window.head else 0.0
        cursor.due, cursor.latest = self._now + wait, self._now + min(wait, HURRY_S)

    def _place(self, subscription: Subscription[Peer], position: int, scanned: int) -> None:
        family = subscription.family
        if not family.cursors:  # it had ended, and there may be another one
            family = subscription.family = self._families.setdefault(family.manner, family)
        cursor = family.cursors.get((position, scanned))
        if cursor is None:
            cursor = family.cursors[position, scanned] = Cursor(family, position, scanned, {})
        cursor.members[subscription] = subscription.peer
        subscription.cursor = cursor

    def _block(self, subscription: Subscription[Peer], cursor: Cursor[Peer]) -> None:
        if cursor.members.pop(subscription, None) is not None:
            subscription.cursor = None
            subscription.position, subscription.scanned = cursor.position, cursor.scanned
            self._blocked.add(subscription)

    def _move(self, cursor: Cursor[Peer], position: int, scanned: int) -> None:
        """Put *cursor* at its new place; it joins those who are there already. One without members ends."""
        self._lift(cursor)
        if not cursor.members:
            self._end(cursor.family)
            return
        cursor.position, cursor.scanned = position, scanned
        if cursor.page is not None and not cursor.page.start <= scanned < cursor.page.next:
            cursor.page = None
        there = cursor.family.cursors.setdefault((position, scanned), cursor)
        if there is cursor:
            return
        there.members.update(cursor.members)
        for subscription in cursor.members:
            subscription.cursor = there

    def _lift(self, cursor: Cursor[Peer]) -> None:
        """Take *cursor* from its place."""
        key = (cursor.position, cursor.scanned)
        if cursor.family.cursors.get(key) is cursor:
            del cursor.family.cursors[key]

    def _end(self, family: _Family[Peer]) -> None:
        if not family.cursors and self._families.get(family.manner) is family:
            del self._families[family.manner]


def _delivery(cursor: Cursor[Peer], step: Step) -> Delivery[Peer]:
    """The step as frames for one family: the first message starts where its members are."""
    id_json = cursor.family.manner.id_json
    frames = []
    position = cursor.position
    for item in step.packs:
        if isinstance(item, wire.Gone):
            frames.append(_passed_over(id_json, position, item.first - 1) + wire.frame(item.message(id_json)))
        else:
            frames.append(wire.frame(wire.events_message(id_json, position, item.pos, item.body)))
        position = item.pos
    return Delivery(cursor, b"".join(frames), position, step.scanned, step.rest)


def _gone(cursor: Cursor[Peer], last: int, rest: Page | None) -> Delivery[Peer]:
    """The entries between what was looked at and the offset *last* are gone, and are said to be."""
    id_json = cursor.family.manner.id_json
    gone = wire.Gone(cursor.scanned + 1, last)
    data = _passed_over(id_json, cursor.position, cursor.scanned) + wire.frame(gone.message(id_json))
    return Delivery(cursor, data, last, last, rest)


def _passed_over(id_json: bytes, position: int, scanned: int) -> bytes:
    """A message without events, which moves the members on past what the filter left out; nothing if that is none."""
    return wire.frame(wire.events_message(id_json, position, scanned, b"")) if position < scanned else b""
