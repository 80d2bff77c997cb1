"""A reader of the hub's log: where it stands, what it takes, when it asks again.

The rule this module keeps: **nothing twice, no hole unseen.** Events are taken only if they start where we stand, and
what the hub has declared as gone is the only thing that may be missing; in every other case the reader asks again from
its own position. No sockets, no clock: messages in, batches, gaps and requests out. The client in TypeScript
(``dashboard/src/connection/subscription.ts``) keeps the same rules, and both are held to ``tests/clients/cases.json``.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

from agentpipe.backoff import ceiling
from agentpipe.errors import AuthError, PeerError, ProtocolError
from agentpipe.event import JSON, encode, peek_lines
from agentpipe.history import Filter, Position
from agentpipe.wire import HubMessage

__all__ = ["Batch", "Following", "Found", "Gap", "since"]

#: Codes of `error` that no second attempt with the same token gets past.
_REFUSALS = frozenset({"forbidden", "auth_required", "auth_failed"})

#: Heartbeats that arrive closer together than this part of their interval prove nothing: we were not listening.
_INTERVAL = 0.5

_HEARTBEAT_S = 20.0  # before a hub has said how often it beats


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """A declared hole: the log's entries ``first`` … ``last`` (offsets, inclusive) will not come.

    ``count`` is how many entries are gone (under a filter the reader had perhaps not wanted all of them), None when the
    hub cannot know; ``reason`` is ``evicted`` (the hub keeps no more) or ``epoch`` (it is another log than before).
    """

    type: ClassVar[str] = "gap"
    first: int
    last: int
    count: int | None
    reason: str

    def __str__(self) -> str:
        if self.count is None:
            return (
                f"the log is another one than before ({self.reason}): what was between is unknown, "
                f"what it holds after offset {self.last} comes now"
            )
        return f"{self.count} events are missing (offsets {self.first} to {self.last}): {self.reason}"


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """What one message brought: the events' ``lines``, the offset ``prev`` before the first and the ``position``
    behind the last one.
    """

    lines: Sequence[bytes]
    prev: int
    position: Position

    def behind(self, index: int) -> Position:
        """A position behind line *index* from which no later line is missed: the true one where every offset has its
        line, and where a filter or merging left some out, the one before the batch, until its last line.
        """
        if index + 1 >= len(self.lines):
            return self.position
        exact = self.position.offset - self.prev == len(self.lines)
        return Position(self.position.epoch, self.prev + index + 1 if exact else self.prev)


#: What a message brings for whoever reads.
Found: TypeAlias = Batch | Gap


def since(text: str) -> JSON:
    """Where to start, as people write it (``start``, ``live``, ``last:100``, ``EPOCH:OFFSET``), as the protocol has it.

    Raises ValueError when *text* is none of these.
    """
    if text in ("start", "live"):
        return text
    name, _, number = text.rpartition(":")
    if not name or not number.isdecimal():
        raise ValueError(f"{text!r} is not start, live, last:N or EPOCH:OFFSET")
    return {"last": int(number)} if name == "last" else {"epoch": name, "offset": int(number)}


class Following:
    """One subscription over any number of connections, to one hub or to several of the same log.

    *start* is the protocol's ``since``; *wanted* says which events; without *endless* it is ``done`` once it has read
    up to what the log's head was when the hub was first reached; *accumulate* asks for neighbouring pieces of one text
    as one. *chance* gives numbers in [0, 1): delays have full jitter.

    Every message goes to `hear` with the time, and `wake` is called at ``deadline``; ``requests`` collects what is to
    be sent and ``notes`` what people should know, both taken and cleared by the owner, who also says in ``url`` whose
    messages these are.

    The filter is the hub's work, but positions move past what it skipped only with the next heartbeat; so a reader
    that wants to end at the head takes everything and filters here.
    """

    def __init__(
        self, start: JSON, wanted: Filter, *, endless: bool, chance: Callable[[], float], accumulate: bool = False
    ) -> None:
        # given
        self._start = start
        self._wanted = wanted
        self._endless = endless
        self._chance = chance
        self._accumulate = accumulate
        self._filters_here = not endless and not wanted.everything
        # changing
        self._last_id = 0
        self._id: int | None = None  # of the request that the hub has from us now
        self._confirmed = False
        self._owed: Gap | None = None  # a hole that the confirmation left, until the hub says more of it
        self._behind: tuple[int, float] | None = None  # the offset where we stood before the head, and since when
        self._misses = 0  # requests in a row that brought nothing
        self._heartbeat_s = _HEARTBEAT_S
        self._target: Position | None = None
        self.url = ""
        self.position = Position(**start) if isinstance(start, dict) and "epoch" in start else None
        self.deadline: float | None = None
        self.done = False
        self.requests: list[bytes] = []
        self.notes: list[str] = []
        self.events = 0
        self.missed = 0
        self.gaps = 0
        self.resubscribed = 0

    def hear(self, message: HubMessage, at: float) -> list[Found]:
        """Understand one message; what it brings, in order.

        Raises AuthError or ProtocolError when the hub refuses the subscription.
        """
        ours = message.id is not None and message.id == self._id
        match message.type:
            case "welcome":
                self._welcomed(message)
            case "subscription_confirmed" if ours:
                self._placed(message)
            case "events" if ours and self._confirmed:
                return self._taken(message, at)
            case "gap" if ours and self._confirmed:
                return self._declared(message, at)
            case "heartbeat" if self._confirmed:
                return self._compared(message.head or 0, at)
            case "error":
                self._complained(message, at)
        return []

    @property
    def owes(self) -> bool:
        """Whether ``position`` is behind a hole that was not told yet."""
        return self._owed is not None

    def lost(self) -> None:
        """The connection is gone: nothing of it comes any more, and the next `welcome` makes us ask anew."""
        self._forget_request()
        self.requests.clear()

    def wake(self, at: float) -> None:
        """The time has come to ask again, if `deadline` has passed."""
        if self.deadline is not None and at >= self.deadline:
            self._ask()

    def report(self) -> dict[str, JSON]:
        """The counts as ``--stats`` prints them: ``missed`` events in ``gaps``."""
        at = f"{self.position.epoch}:{self.position.offset}" if self.position is not None else None
        return {
            "out": self.events,
            "missed": self.missed,
            "gaps": self.gaps,
            "resubscribed": self.resubscribed,
            "position": at,
        }

    # --- asking

    def _welcomed(self, message: HubMessage) -> None:
        epoch, head = message.epoch or "", message.head or 0
        self._heartbeat_s = message.heartbeat_s or _HEARTBEAT_S
        if not self._endless and (self._target is None or self._target.epoch != epoch):
            self._target = Position(epoch, head)
        self._ask()

    def _ask(self) -> None:
        """Subscribe, under a new id, so that what is still on its way for the old one is not taken."""
        self._forget_request()
        self._last_id += 1
        self._id = self._last_id
        start = self._start if self.position is None else dataclasses.asdict(self.position)
        request: dict[str, JSON] = {"type": "subscribe", "id": self._id, "since": start}
        # The last N that match can only be found by the hub; once we stand there, we ask again without a filter.
        if not self._filters_here or self._looks_back:
            named = {name: getattr(self._wanted, name) for name in ("runs", "agents", "works", "types")}
            request["filter"] = {name: sorted(values) for name, values in named.items() if values}
        if self._accumulate:
            request["accumulate"] = True
        self.requests.append(encode(request))

    def _ask_again(self, at: float, why: str) -> None:
        """On the same connection, from where we stand; at once, unless that did not help before."""
        self.notes.append(f"{why}: asking again")
        self.resubscribed += 1
        self.requests.append(encode({"type": "unsubscribe", "id": self._id}))
        self._misses += 1
        if self._misses == 1:
            self._ask()
        else:
            self._ask_later(at)

    def _ask_later(self, at: float) -> None:
        self._forget_request()
        self.deadline = at + ceiling(self._misses) * self._chance()

    def _forget_request(self) -> None:
        self._id = None
        self._confirmed = False
        self._owed = None
        self._behind = None
        self.deadline = None

    @property
    def _looks_back(self) -> bool:
        return self.position is None and isinstance(self._start, dict)

    # --- what comes

    def _placed(self, message: HubMessage) -> None:
        before, there = self.position, message.position
        if there is None:
            raise ProtocolError("bad_message", "a subscription is confirmed without a position")
        looked_back = self._filters_here and self._looks_back
        self._confirmed = True
        if before is None:
            self.position = there
        elif message.recovered is False or there.epoch != before.epoch:
            self._owed = _hole(before, there)
            self.position = there
        # else ours stays: should the hub begin elsewhere, that shows in what it sends
        if looked_back:
            self.requests.append(encode({"type": "unsubscribe", "id": self._id}))
            self._ask()
        else:
            self._settle_done()

    def _taken(self, message: HubMessage, at: float) -> list[Found]:
        here, prev, pos = self.position, message.prev, message.pos
        if here is None or prev is None or pos is None:
            raise ProtocolError("bad_message", "events without positions")
        if pos <= here.offset:
            return []  # known
        if prev != here.offset:
            self._ask_again(at, f"expected events from {here.offset}, got them from {prev}")
            return []
        found = self._settle_owed()
        lines: Sequence[bytes] = message.lines
        if self._filters_here:
            heads = peek_lines(lines)[0]
            lines = [heads[index].line for index in self._wanted.pick(heads)]
        self._move(pos)
        self.events += len(lines)
        assert self.position is not None, "it was moved"
        found.append(Batch(lines, prev, self.position))
        return found

    def _declared(self, message: HubMessage, at: float) -> list[Found]:
        """A hole in the log, said by the hub: what we know of it already is not missing."""
        first, last, here = message.first or 0, message.last or 0, self.position
        assert here is not None, "it is confirmed"
        gap = Gap(first, last, message.count, message.reason or "unknown")
        if self._owed is not None:  # this is what became of our former position
            self._owed = None
        elif gap.count is not None:
            if last <= here.offset:
                return []  # known
            if first > here.offset + 1:
                self._ask_again(at, f"expected events from {here.offset}, got a gap from {first}")
                return []
            gap = Gap(here.offset + 1, last, min(gap.count, last - here.offset), gap.reason)
        gap = dataclasses.replace(gap, last=max(last, here.offset))
        self._move(gap.last)
        return [self._counted(gap)]

    def _compared(self, head: int, at: float) -> list[Found]:
        """Behind the head for a whole interval in which nothing came: something was lost on the way."""
        assert self.position is not None, "it is confirmed"
        offset, behind = self.position.offset, self._behind
        if offset >= head:
            self._behind = None
        elif behind is None or behind[0] != offset:
            self._behind = (offset, at)
        elif at - behind[1] >= self._heartbeat_s * _INTERVAL:
            found = self._settle_owed()
            self._ask_again(at, f"nothing came though the log has {head - offset} more")
            return found
        return self._settle_owed()

    def _complained(self, message: HubMessage, at: float) -> None:
        """An error about our request: later, or never. Of others it is said what came."""
        code, text = str(message.code), message.message or str(message.code)
        if message.in_reply_to is not None and message.in_reply_to != self._id:
            return  # about a request that we have given up
        asking = self._id is not None and not self._confirmed
        if code == "unavailable":
            self.notes.append(f"{text}: trying again" if asking else text)
            if asking and message.in_reply_to is not None:
                self._misses += 1
                self._ask_later(at)
        elif code in _REFUSALS or message.in_reply_to is not None or asking:
            raise self._refused(code, text)
        else:
            self.notes.append(text)

    def _refused(self, code: str, text: str) -> PeerError:
        return AuthError(self.url, text) if code in _REFUSALS else ProtocolError(code, text)

    # --- standing

    def _move(self, offset: int) -> None:
        assert self.position is not None, "nothing is taken before there is a position"
        if offset > self.position.offset:
            self._misses = 0
            self.position = Position(self.position.epoch, offset)
        self._settle_done()

    def _settle_owed(self) -> list[Found]:
        """The hub went on without a word about the hole of its confirmation: then we say it."""
        owed, self._owed = self._owed, None
        self._settle_done()
        return [] if owed is None else [self._counted(owed)]

    def _counted(self, gap: Gap) -> Gap:
        self.gaps += 1
        self.missed += gap.count or 0
        return gap

    def _settle_done(self) -> None:
        if self._target is not None and self.position is not None and self._confirmed and self._owed is None:
            self.done = self.position.offset >= self._target.offset


def _hole(before: Position, there: Position) -> Gap:
    """What lies between where we stood and where the hub lets us go on."""
    if there.epoch != before.epoch or there.offset < before.offset:
        return Gap(0, there.offset, None, "epoch")
    return Gap(before.offset + 1, there.offset, there.offset - before.offset, "evicted")
