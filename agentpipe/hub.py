"""Who listens, and how far each has read. No sockets, no clock, no queues.

The rule this module keeps: **a client is a cursor into the log.** Catching up and following are the same step: take
what lies after the cursor, as one run of bytes, and move on. Subscriptions with the same filter, id and cursor share
those bytes; those with the same filter share its evaluation. A client that cannot take bytes now keeps its cursor and
nothing else.

`tick` says which bytes go to whom; the shell writes them and reports with `settle` who could not take them. What lies
before the window is asked for with `wanted` and handed in with `supply`.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from agentpipe import wire
from agentpipe.event import Event, decode, encode, peek_lines
from agentpipe.history import EVERYTHING, Filter, MemoryLog, Page

__all__ = ["Cursor", "Delivery", "Hub", "Subscription"]

#: One delivery is at most about this much, so that a client that stalls just then costs no more than that.
DELIVERY_BYTES = 48 * 1024

#: What one step reads on: as many small events as a delivery can hold.
STEP_EVENTS = 500

#: Heads that are kept beside the window pin their lines: few large events are as much as many small ones.
FRESH_BYTES = 1 << 20

Peer = TypeVar("Peer")


class Subscription(Generic[Peer]):
    """One subscription of one client; *peer* is the shell's own handle and is not looked at here."""

    __slots__ = ("cursor", "filter", "id", "peer", "position", "scanned")

    def __init__(self, peer: Peer, own_id: wire.SubscriptionId, wanted: Filter) -> None:
        # given
        self.peer = peer
        self.id = own_id
        self.filter = wanted
        # changing
        self.cursor: Cursor[Peer] | None = None  # None while blocked
        self.position = 0
        self.scanned = 0


@dataclasses.dataclass(slots=True, eq=False)
class Cursor(Generic[Peer]):
    """A place in the log shared by subscriptions of one family: ``position`` is what they were told, ``scanned`` how
    far the filter has looked beyond it (they differ while it skips entries).
    """

    family: "_Family[Peer]"
    position: int
    scanned: int
    members: dict[Subscription[Peer], Peer]
    page: Page | None = None  # read from the store, not yet consumed
    asked: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class _Family(Generic[Peer]):
    """Subscriptions that differ only in how far they have read."""

    filter: Filter
    id_json: bytes
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


@dataclasses.dataclass(slots=True)
class _Step:
    """What one filter finds after one offset, shared by the families of a tick."""

    packs: list[wire.Pack]
    scanned: int
    rest: Page | None


class Hub(Generic[Peer]):
    """The cursors of all subscriptions over one window. *oldest* is the offset before the first entry of the store
    behind it; None when there is no store.
    """

    def __init__(self, window: MemoryLog, *, oldest: int | None = None) -> None:
        # given
        self._window = window
        self._stored = oldest is not None
        # changing
        self._families: dict[tuple[Filter, bytes], _Family[Peer]] = {}
        self._blocked: set[Subscription[Peer]] = set()
        self._wanted: list[Cursor[Peer]] = []
        self._fresh: list[Event] = []  # the heads of the newest entries, so that following peeks nothing again
        self._fresh_start = window.head
        self._fresh_since = window.bytes_appended
        self._oldest = oldest or 0

    # --- who listens

    def join(self, peer: Peer, own_id: wire.SubscriptionId, wanted: Filter, offset: int) -> Subscription[Peer]:
        """Start a subscription after *offset*."""
        subscription = Subscription(peer, own_id, wanted)
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
            self._drop(cursor)

    @property
    def blocked(self) -> Iterable[Subscription[Peer]]:
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
        window = self._window
        many = len(self._fresh) > STEP_EVENTS or window.bytes_appended - self._fresh_since > FRESH_BYTES
        if many or self._fresh_start + len(self._fresh) != window.head:
            self._fresh, self._fresh_start, self._fresh_since = [], window.head, window.bytes_appended
        self._fresh += events
        window.append_events(events)

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

    def tick(self) -> list[Delivery[Peer]]:
        """One step of every cursor that is behind: what goes to whom. Each delivery is to be settled."""
        head = self._window.head
        steps: dict[tuple[Filter, int], _Step] = {}
        deliveries: list[Delivery[Peer]] = []
        for family in tuple(self._families.values()):
            for cursor in tuple(family.cursors.values()):
                if cursor.scanned < head and not cursor.asked:
                    self._advance(cursor, steps, deliveries)
        return deliveries

    @property
    def behind(self) -> bool:
        """Whether another `tick` now would move some cursor."""
        head = self._window.head
        return any(
            cursor.scanned < head and not cursor.asked
            for family in self._families.values()
            for cursor in family.cursors.values()
        )

    def settle(self, delivery: Delivery[Peer], blocked: Sequence[Subscription[Peer]] = ()) -> None:
        """The delivery was written to all its members but *blocked*, who keep their place."""
        cursor = delivery.cursor
        for subscription in blocked:
            self._block(subscription, cursor)
        self._drop(cursor)
        if cursor.members:
            cursor.page = delivery.rest
            self._move(cursor, delivery.position, delivery.scanned)

    def positions(self) -> list[Delivery[Peer]]:
        """Empty ``events`` for cursors whose filter skipped everything for a while, so that positions advance."""
        deliveries = []
        for family in self._families.values():
            for cursor in family.cursors.values():
                if cursor.position < cursor.scanned:
                    message = wire.events_message(family.id_json, cursor.position, cursor.scanned, b"")
                    deliveries.append(
                        Delivery(cursor, wire.frame(message), cursor.scanned, cursor.scanned, cursor.page)
                    )
        return deliveries

    # --- what lies before the window

    def wanted(self) -> list[Cursor[Peer]]:
        """Cursors whose next entries are only in the store: read ``since(cursor.scanned)`` and `supply` them."""
        found, self._wanted = self._wanted, []
        return found

    def supply(self, cursor: Cursor[Peer], page: Page) -> None:
        """What the store had for *cursor*; a page that starts later than asked means the rest was evicted."""
        cursor.asked = False
        told = self._window.head - page.start  # what is committed but not announced yet comes through the window
        cursor.page = page if len(page.lines) <= told else Page(page.start, page.lines[: max(0, told)])
        if page.start > cursor.scanned:
            self.evicted(page.start)

    # --- inside

    def _advance(
        self, cursor: Cursor[Peer], steps: dict[tuple[Filter, int], _Step], deliveries: list[Delivery[Peer]]
    ) -> None:
        if cursor.scanned < self.oldest:
            deliveries.append(self._gap(cursor))
            return
        family = cursor.family
        page = cursor.page
        inside = cursor.scanned >= self._window.oldest
        if not inside and (page is None or not page.start <= cursor.scanned < page.next):
            cursor.asked = True
            cursor.page = None
            self._wanted.append(cursor)
            return
        key = (family.filter, cursor.scanned)
        step = steps.get(key)
        if step is None:
            step = steps[key] = self._step(family.filter, cursor.scanned, None if inside else page)
        if step.packs:
            deliveries.append(_delivery(cursor, step))
        else:
            self._drop(cursor)
            cursor.page = step.rest
            self._move(cursor, cursor.position, step.scanned)

    def _step(self, wanted: Filter, start: int, page: Page | None) -> _Step:
        """What the filter finds after *start*, up to about one delivery."""
        found = self._read(start, page)
        picked = None if wanted is EVERYTHING or wanted.everything else wanted.pick(self._heads(found))
        packs = wire.pack(found, picked, limit_bytes=DELIVERY_BYTES)
        size = 0
        for index, item in enumerate(packs):
            size += len(item.body)
            if index and size > DELIVERY_BYTES:
                return _Step(packs[:index], packs[index - 1].pos, page)
        return _Step(packs, found.next, page)

    def _read(self, start: int, page: Page | None) -> Page:
        if page is None:
            return self._window.since(start, STEP_EVENTS, 4 * DELIVERY_BYTES)
        skipped = start - page.start
        return Page(start, page.lines[skipped : skipped + STEP_EVENTS])

    def _heads(self, page: Page) -> Sequence[Event]:
        first = page.start - self._fresh_start
        if first >= 0 and page.next <= self._fresh_start + len(self._fresh):
            return self._fresh[first : first + len(page.lines)]
        return peek_lines(page.lines)[0]

    def _gap(self, cursor: Cursor[Peer]) -> Delivery[Peer]:
        """The entries between what the members know and the oldest kept are gone, and are said to be."""
        message = wire.control(
            "gap",
            id=decode(cursor.family.id_json),
            first=cursor.position + 1,
            last=self.oldest,
            count=self.oldest - cursor.position,
            reason="evicted",
        )
        return Delivery(cursor, wire.frame(message), self.oldest, self.oldest, None)

    def _place(self, subscription: Subscription[Peer], position: int, scanned: int) -> None:
        key = (subscription.filter, encode(subscription.id))
        family = self._families.get(key)
        if family is None:
            family = self._families[key] = _Family(*key, {})
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
        """Put *cursor* at its new place; it joins those who are there already."""
        cursor.position, cursor.scanned = position, scanned
        if cursor.page is not None and not cursor.page.start <= scanned < cursor.page.next:
            cursor.page = None
        family = cursor.family
        self._families.setdefault((family.filter, family.id_json), family)
        there = family.cursors.setdefault((position, scanned), cursor)
        if there is cursor:
            return
        there.members.update(cursor.members)
        for subscription in cursor.members:
            subscription.cursor = there

    def _drop(self, cursor: Cursor[Peer]) -> None:
        family = cursor.family
        key = (cursor.position, cursor.scanned)
        if family.cursors.get(key) is cursor:
            del family.cursors[key]
        if not family.cursors:
            self._families.pop((family.filter, family.id_json), None)


def _delivery(cursor: Cursor[Peer], step: _Step) -> Delivery[Peer]:
    """The step as frames for one family: the first message starts where its members are."""
    frames = []
    position = cursor.position
    for item in step.packs:
        frames.append(wire.frame(wire.events_message(cursor.family.id_json, position, item.pos, item.body)))
        position = item.pos
    return Delivery(cursor, b"".join(frames), position, step.scanned, step.rest)
