"""What the hub says to its clients (``docs/protocol.md``), as bytes and back, and the frames around it; no sockets.

The rule this module keeps: **nothing is encoded twice.** Stored lines are joined into ``events`` messages as they are,
and a WebSocket frame is built once for all who get it.
"""

import operator
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

import msgspec

from agentpipe.embedded import with_events
from agentpipe.errors import ProtocolError
from agentpipe.event import JSON, encode
from agentpipe.history import Filter, Page, Position

__all__ = [
    "CLOSE_CODES",
    "ENVELOPE_BYTES",
    "FILTER_LISTS",
    "MAX_EVENTS",
    "MAX_MESSAGE_BYTES",
    "MAX_PUBLISH_BYTES",
    "MAX_SUBSCRIPTIONS",
    "PROTOCOL",
    "Gone",
    "HubMessage",
    "Pack",
    "SubscriptionId",
    "Verdict",
    "close_frame",
    "control",
    "divided",
    "events_message",
    "filter_json",
    "frame",
    "limits",
    "pack",
    "parse_hub_message",
    "ping_frame",
    "pong_frame",
    "snapshots",
    "verdict",
]

PROTOCOL = "agentpipe.v1"

MAX_EVENTS = 20  # an `events` message: a page renders that many in one frame
MAX_MESSAGE_BYTES = 64 * 1024  # an `events` message, and an inbound message that publishes nothing
MAX_PUBLISH_BYTES = 1 << 20  # an inbound message that publishes: one large tool result and its envelope
MAX_SUBSCRIPTIONS = 32  # a connection: each costs a cursor and an evaluation of its filter

ENVELOPE_BYTES = 96  # {"type":"events","id":…,"prev":…,"pos":…,"events":[]} around the lines

SubscriptionId: TypeAlias = int | str

#: The lists of a filter.
FILTER_LISTS = ("runs", "agents", "works", "types")


class Verdict(Enum):
    """What a close code tells a client to do."""

    BACKOFF = "come back after backoff"
    AT_ONCE = "come back at once"
    STOP = "do not come back unchanged"


#: code → (reason, milliseconds to stay away at least). The range of a code is its verdict; see `verdict`.
CLOSE_CODES: dict[int, tuple[str, int]] = {
    1001: ("going away", 500),
    4100: ("restarting", 200),
    4101: ("resubscribe", 0),
    4200: ("overloaded", 2000),
    4201: ("slow client", 1000),
    4202: ("too many connections", 5000),
    4400: ("bad message", 0),
    4401: ("authentication failed", 0),
    4403: ("not allowed", 0),
    4409: ("fenced by a newer publisher", 0),
    4413: ("message too large", 0),
}


def verdict(code: int | None) -> Verdict:
    """What a client does after the connection closed with *code* (None: without one). Unknown codes go by range."""
    if code is not None and 4100 <= code < 4200:
        return Verdict.AT_ONCE
    if code is not None and 4400 <= code < 4500:
        return Verdict.STOP
    return Verdict.BACKOFF


# --- hub → client


class Pack(NamedTuple):
    """The lines of one ``events`` message, joined: what all subscriptions with the same filter share. ``pos`` is the
    offset of its last entry, ``body`` the lines with commas, ``events`` how many they are.
    """

    pos: int
    body: bytes
    events: int

    @property
    def size(self) -> int:
        """About what it takes on the wire."""
        return len(self.body)


class Gone(NamedTuple):
    """The entries from ``first`` to ``last`` are gone: a ``gap`` message."""

    first: int
    last: int

    @property
    def pos(self) -> int:
        """The position after it."""
        return self.last

    @property
    def events(self) -> int:
        """None."""
        return 0

    @property
    def size(self) -> int:
        """About what it takes on the wire, with a message that moves the reader to it."""
        return 2 * ENVELOPE_BYTES

    def message(self, id_json: bytes) -> bytes:
        """The message; *id_json* is the subscription's id as JSON."""
        count = self.last - self.first + 1
        return b'{"type":"gap","id":%b,"from":%d,"to":%d,"count":%d,"reason":"evicted"}' % (
            id_json, self.first, self.last, count,
        )  # fmt: skip


def divided(page: Page) -> Iterator[Page | Gone]:
    """A page as pages without holes, and what is gone between them."""
    first = 0
    for gone, lines in groupby(page.lines, operator.not_):
        found = list(lines)
        start = page.start + first
        yield Gone(start + 1, start + len(found)) if gone else Page(start, found)
        first += len(found)


def pack(page: Page, picked: Sequence[int] | None = None, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> Iterator[Pack]:
    """A page as message bodies of at most 20 events and *limit_bytes*, one by one; one larger event goes alone.

    *picked* are the indexes of the lines that a filter wants, None for all.
    """
    lines = page.lines if picked is None else [page.lines[index] for index in picked]
    room = limit_bytes - ENVELOPE_BYTES
    first = 0
    while first < len(lines):
        taken = lines[first : first + MAX_EVENTS]
        if sum(map(len, taken)) + len(taken) > room:
            taken = taken[: _fitting(taken, room)]
        first += len(taken)
        last = first - 1 if picked is None else picked[first - 1]
        yield Pack(page.start + last + 1, b",".join(taken), len(taken))


def _fitting(lines: Sequence[bytes], room: int) -> int:
    total = 0
    for index, line in enumerate(lines):
        total += len(line) + 1
        if total > room:
            return max(1, index)
    return len(lines)


def events_message(id_json: bytes, prev: int, pos: int, body: bytes) -> bytes:
    """An ``events`` message; *id_json* is the subscription's id as JSON, *body* the stored lines joined by commas."""
    return b'{"type":"events","id":%b,"prev":%d,"pos":%d,"events":[%b]}' % (id_json, prev, pos, body)


def control(type: str, **fields: JSON) -> bytes:  # noqa: A002 - the field's name in the protocol
    """Any other message as JSON; a field called ``first`` or ``last`` is named ``from`` or ``to`` on the wire."""
    named = {_ON_THE_WIRE.get(name, name): value for name, value in fields.items()}
    return encode({"type": type, **named})


def snapshots(position: Position, runs: Sequence[JSON], agents: Sequence[JSON]) -> list[bytes]:
    """The state at one position as ``snapshot`` messages of at most `MAX_MESSAGE_BYTES`: one, or several that say which
    ``part`` of how many ``parts`` they are. Each holds whole runs and agents; only a single larger one makes it larger.
    """
    room = MAX_MESSAGE_BYTES - _SNAPSHOT_BYTES - len(encode(position))
    parts: list[tuple[list[bytes], list[bytes]]] = [([], [])]
    size = 0
    for place, states in enumerate((runs, agents)):
        for state in map(encode, states):
            size += len(state) + 1
            if size > room and any(parts[-1]):
                parts.append(([], []))
                size = len(state) + 1
            parts[-1][place].append(state)
    return [
        b'{"type":"snapshot","position":%b%b,"runs":[%b],"agents":[%b]}'
        % (
            encode(position),
            b',"part":%d,"parts":%d' % (number, len(parts)) if len(parts) > 1 else b"",
            b",".join(told_runs),
            b",".join(told_agents),
        )
        for number, (told_runs, told_agents) in enumerate(parts, 1)
    ]


_SNAPSHOT_BYTES = 96  # {"type":"snapshot","position":…,"part":…,"parts":…,"runs":[],"agents":[]} but for the position

_ON_THE_WIRE = {"first": "from", "last": "to"}


def frame(payload: bytes) -> bytes:
    """A complete WebSocket text frame from the server (FIN, unmasked; RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def ping_frame(payload: bytes = b"") -> bytes:
    """A WebSocket ping from the server; *payload* has at most 125 bytes."""
    return b"\x89%c%b" % (len(payload), payload)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a client's WebSocket ping."""
    return b"\x8a%c%b" % (len(payload), payload)


def close_frame(code: int, reason: str) -> bytes:
    """A WebSocket close frame from the server; the reason is cut to what a control frame holds."""
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return b"\x88%c%b%b" % (len(text) + 2, code.to_bytes(2, "big"), text)


# --- the client's side


class HubMessage(msgspec.Struct, gc=False, rename={"first": "from", "last": "to"}):
    """Any message of the hub; fields that its type does not have are None. ``lines`` are the events' bytes.

    ``code`` is a string in ``error`` and a number in ``bye``; ``first`` and ``last`` are ``from`` and ``to`` of a gap.
    """

    type: str
    id: SubscriptionId | None = None
    prev: int | None = None
    pos: int | None = None
    events: list[msgspec.Raw] | None = None
    run_id: str | None = None
    sequence: int | None = None
    count: int | None = None
    head: int | None = None
    oldest: int | None = None
    epoch: str | None = None
    position: Position | None = None
    recovered: bool | None = None
    first: int | None = None
    last: int | None = None
    reason: str | None = None
    code: int | str | None = None
    message: str | None = None
    in_reply_to: int | str | None = None
    reconnect: bool | None = None
    after_ms: int | None = None
    protocol: str | None = None
    connection_id: str | None = None
    heartbeat_s: float | None = None
    timestamp: str | None = None
    connections: int | None = None
    scopes: list[str] | None = None
    limits: dict[str, int] | None = None
    part: int | None = None
    parts: int | None = None
    runs: list[Any] | None = None
    agents: list[Any] | None = None
    agent_id: str | None = None
    status: str | None = None
    filter: dict[str, Any] | None = None
    lines: list[bytes] = []


def parse_hub_message(data: bytes | str) -> HubMessage:
    """Understand one message of the hub without decoding its events. Raises ProtocolError (``bad_json``,
    ``bad_message``).
    """
    data = data.encode() if isinstance(data, str) else data
    try:
        message, lines = with_events(_HUB, data)
    except ProtocolError:
        if (later := _of_a_later_protocol(data)) is not None:
            return later
        raise
    message.lines = lines
    return message


_HUB = msgspec.json.Decoder(HubMessage)


class _Typed(msgspec.Struct, gc=False):
    type: str


_TYPED = msgspec.json.Decoder(_Typed)

#: What this version of the protocol knows; of other messages no field is looked at.
_KNOWN = frozenset(
    {"welcome", "subscription_confirmed", "unsubscribed", "events", "gap", "snapshot", "ack", "heartbeat",
     "agent_status", "error", "bye", "pong"}
)  # fmt: skip


def _of_a_later_protocol(data: bytes) -> HubMessage | None:
    """A message whose fields are not what we would expect of them, because it is of a type that we do not know."""
    try:
        found = _TYPED.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if found.type in _KNOWN else HubMessage(found.type)


def limits() -> dict[str, int]:
    """What ``welcome`` promises a client."""
    return {
        "max_events": MAX_EVENTS,
        "max_message_bytes": MAX_MESSAGE_BYTES,
        "max_publish_bytes": MAX_PUBLISH_BYTES,
        "max_subscriptions": MAX_SUBSCRIPTIONS,
    }


def filter_json(wanted: Filter) -> dict[str, JSON]:
    """A filter as ``subscription_confirmed`` shows it: only what it restricts."""
    shown: dict[str, Iterable[str]] = {name: getattr(wanted, name) for name in (*FILTER_LISTS, "without")}
    return {name: sorted(values) for name, values in shown.items() if values}
