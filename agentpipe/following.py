"""A reader of the hub's log: where it stands, what it takes, when it asks again.

The rule this module keeps: **nothing twice, no hole unseen.** Events are taken only if they start where we stand, and
what the hub has declared as gone is the only thing that may be missing; in every other case the reader asks again from
its own position. No sockets, no clock: messages in, lines and requests out.
"""

import dataclasses
from collections.abc import Sequence

from agentpipe.errors import AuthError, PeerError, ProtocolError
from agentpipe.event import JSON, encode, peek_lines
from agentpipe.history import Filter, Position
from agentpipe.ndjson import join
from agentpipe.wire import HubMessage

__all__ = ["Following", "since"]


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
    """One subscription over any number of connections.

    *start* is the protocol's ``since``; *wanted* says which events; without *endless* it is ``done`` once it has read
    up to what the log's head was when the hub was first reached. Every message goes to `hear`, which returns the bytes
    to print; ``requests`` collects what is to be sent and ``notes`` what people should know, both taken and cleared
    by the owner.

    The filter is the hub's work, but positions move past what it skipped only with the next heartbeat; so a reader
    that wants to end at the head takes everything and filters here.
    """

    def __init__(self, start: JSON, wanted: Filter, *, endless: bool, url: str = "") -> None:
        # given
        self._start = start
        self._wanted = wanted
        self._endless = endless
        self._url = url
        # changing
        self._id = 0
        self._confirmed = False
        self._stood_at = -1  # at the last heartbeat
        self._target: Position | None = None
        self._filters_here = not endless and not wanted.everything
        self.position: Position | None = None
        self.done = False
        self.requests: list[bytes] = []
        self.notes: list[str] = []
        self.events = 0
        self.missed = 0
        self.resubscribed = 0

    def hear(self, message: HubMessage) -> bytes:
        """Understand one message; the lines to print, each with its LF.

        Raises AuthError or ProtocolError when the hub refuses the subscription.
        """
        match message.type:
            case "welcome":
                self._welcomed(message)
            case "subscription_confirmed" if message.id == self._id:
                self._placed(message)
            case "events" if message.id == self._id:
                return self._taken(message)
            case "gap" if message.id == self._id:
                self._declared(message)
            case "heartbeat":
                self._compare(message)
            case "error":
                raise self._refused(message)
        return b""

    def report(self) -> dict[str, JSON]:
        """The counts as ``--stats`` prints them."""
        at = f"{self.position.epoch}:{self.position.offset}" if self.position is not None else None
        return {
            "out": self.events,
            "missed": self.missed,
            "resubscribed": self.resubscribed,
            "position": at,
        }

    def _welcomed(self, message: HubMessage) -> None:
        epoch, head = message.epoch or "", message.head or 0
        if not self._endless and (self._target is None or self._target.epoch != epoch):
            self._target = Position(epoch, head)
        self._ask()

    def _ask(self) -> None:
        """Subscribe, under a new id, so that what is still on its way for the old one is not taken."""
        self._id += 1
        self._confirmed = False
        self._stood_at = -1
        start = self._start if self.position is None else dataclasses.asdict(self.position)
        request: dict[str, JSON] = {"type": "subscribe", "id": self._id, "since": start}
        # The last N that match can only be found by the hub; once we stand there, we ask again without a filter.
        if not self._filters_here or self._looks_back(start):
            named = {name: getattr(self._wanted, name) for name in ("runs", "agents", "works", "types")}
            request["filter"] = {name: sorted(values) for name, values in named.items() if values}
        self.requests.append(encode(request))

    def _ask_again(self) -> None:
        """On the same connection, from where we stand."""
        self.requests.append(encode({"type": "unsubscribe", "id": self._id}))
        self._ask()

    def _looks_back(self, start: JSON) -> bool:
        return isinstance(start, dict) and "last" in start

    def _placed(self, message: HubMessage) -> None:
        looked_back = self.position is None and self._filters_here and self._looks_back(self._start)
        if message.position is not None:
            self.position = message.position
        self._confirmed = True
        if looked_back:
            self._ask_again()
        else:
            self._settle_done()

    def _taken(self, message: HubMessage) -> bytes:
        here, prev, pos = self.position, message.prev, message.pos
        if here is None or not self._confirmed or prev is None or pos is None:
            raise ProtocolError("bad_message", "events before the subscription was confirmed, or without positions")
        if pos <= here.offset:
            return b""  # known
        if prev != here.offset:
            self.notes.append(f"expected events from {here.offset}, got them from {prev}: asking again")
            self.resubscribed += 1
            self._ask_again()
            return b""
        self.position = Position(here.epoch, pos)
        self._settle_done()
        if self._filters_here:
            return self._filtered(message.lines)
        self.events += len(message.lines)
        return join(message.lines)

    def _filtered(self, lines: Sequence[bytes]) -> bytes:
        found = peek_lines(lines)[0]
        picked = [found[index].line for index in self._wanted.pick(found)]
        self.events += len(picked)
        return join(picked)

    def _declared(self, message: HubMessage) -> None:
        """A declared hole in the log: it is passed over, counted, and said."""
        first, last = message.first or 0, message.last or 0
        self.missed += message.count or 0
        if message.count is None:
            self.notes.append(
                f"the log is another one than before ({message.reason}): what was between is unknown, "
                f"what it holds after offset {last} comes now"
            )
        else:
            self.notes.append(f"{message.count} events are missing (offsets {first} to {last}): {message.reason}")
        if self.position is not None and last > self.position.offset:
            self.position = Position(self.position.epoch, last)
        self._settle_done()

    def _compare(self, message: HubMessage) -> None:
        """Behind the head for a whole interval in which nothing came: something was lost on the way."""
        if self.position is None or not self._confirmed:
            return
        offset, head = self.position.offset, message.head or 0
        if offset < head and offset == self._stood_at:
            self.notes.append(f"nothing came though the log has {head - offset} more: asking again")
            self.resubscribed += 1
            self._ask_again()
            return
        self._stood_at = offset

    def _settle_done(self) -> None:
        if self._target is not None and self.position is not None and self._confirmed:
            self.done = self.position.offset >= self._target.offset

    def _refused(self, message: HubMessage) -> PeerError:
        text = message.message or str(message.code)
        if message.code in ("forbidden", "auth_required", "auth_failed"):
            return AuthError(self._url, text)
        return ProtocolError(str(message.code), text)
