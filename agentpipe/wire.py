"""What hub and clients say to each other (``docs/protocol.md``), as bytes and back; no sockets.

The rule this module keeps: **nothing is encoded twice and nothing is believed.** Stored lines are joined into
``events`` messages as they are, and a WebSocket frame is built once for all who get it; what comes in becomes a small
frozen class after strict validation, or a ProtocolError that says which field is wrong.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from agentpipe.errors import ProtocolError
from agentpipe.event import JSON, decode, encode
from agentpipe.history import Filter, Page, Position

__all__ = [
    "CLOSE_CODES",
    "MAX_EVENTS",
    "MAX_MESSAGE_BYTES",
    "MAX_PUBLISH_BYTES",
    "MAX_SUBSCRIPTIONS",
    "PROTOCOL",
    "Auth",
    "ClientMessage",
    "HubMessage",
    "Pack",
    "Ping",
    "Publish",
    "Since",
    "Snapshot",
    "Subscribe",
    "SubscriptionId",
    "Unsubscribe",
    "Verdict",
    "close_frame",
    "control",
    "events_message",
    "filter_json",
    "frame",
    "limits",
    "pack",
    "parse_client_message",
    "parse_hub_message",
    "ping_frame",
    "pong_frame",
    "verdict",
]

PROTOCOL = "agentpipe.v1"

MAX_EVENTS = 20  # an `events` message: a page renders that many in one frame
MAX_MESSAGE_BYTES = 64 * 1024  # an `events` message, and an inbound message that publishes nothing
MAX_PUBLISH_BYTES = 1 << 20  # an inbound message that publishes: one large tool result and its envelope
MAX_SUBSCRIPTIONS = 32  # a connection: each costs a cursor and an evaluation of its filter
MAX_FILTER_VALUES = 1000  # the values of one filter list

_ENVELOPE_BYTES = 96  # {"type":"events","id":…,"prev":…,"pos":…,"events":[]} around the lines

SubscriptionId: TypeAlias = int | str


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


# --- what both directions need

_Message = TypeVar("_Message", "_Inbound", "HubMessage")

_EVENTS = re.compile(rb'"events"\s*:\s*\[')


def _decoded(decoder: "msgspec.json.Decoder[_Message]", data: bytes) -> tuple[_Message, list[bytes]]:
    """A message and the bytes of its events. Raises ProtocolError: ``bad_json``, ``bad_message``."""
    try:
        message = decoder.decode(data)
        return message, [bytes(raw) for raw in message.events or ()]
    except msgspec.ValidationError as error:
        raise ProtocolError("bad_message", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = str(error)
    try:
        return _decoded_slowly(decoder, data)
    except msgspec.ValidationError as error:
        raise ProtocolError("bad_message", str(error)) from None
    except (ValueError, RecursionError):
        raise ProtocolError("bad_json", problem) from None


def _decoded_slowly(decoder: "msgspec.json.Decoder[_Message]", data: bytes) -> tuple[_Message, list[bytes]]:
    """Valid JSON that the quick decoder refuses: an escaped lone surrogate, which a text cut in two may well have, in
    one of the events. Raises ValueError.
    """
    found = _EVENTS.search(data)
    if found is None:
        raise ValueError("text that is not Unicode")
    message = decoder.decode(data[: found.end()] + b"]}")
    text = data[found.end() :].decode()
    lines: list[bytes] = []
    place = 0
    while not text.startswith("]", place := _after_space(text, place)):
        _, end = _ELEMENT.raw_decode(text, place)
        lines.append(text[place:end].encode())
        place = _after_space(text, end)
        if text.startswith(",", place):
            place += 1
        elif not text.startswith("]", place):
            raise ValueError("`,` or `]` expected")
    decode(b'{"events":[' + text[place:].encode())  # what follows is checked too
    return message, lines


_ELEMENT = json.JSONDecoder()


def _after_space(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


# --- client → hub


class Since(NamedTuple):
    """Where a subscription starts: ``kind`` is ``live``, ``start``, ``last`` (with ``number``) or ``position``."""

    kind: str = "live"
    number: int = 0
    position: Position = Position("", 0)


class Subscribe(NamedTuple):
    """Start a subscription; ``max_rate`` is in events/s, None when the client takes everything."""

    id: SubscriptionId
    filter: Filter
    since: Since
    snapshot: bool = False
    max_rate: float | None = None


class Unsubscribe(NamedTuple):
    """End a subscription."""

    id: SubscriptionId


class Publish(NamedTuple):
    """A batch of events: their lines, not yet looked at."""

    lines: Sequence[bytes]


class Snapshot(NamedTuple):
    """Send the accumulated state now."""

    id: SubscriptionId | None


class Ping(NamedTuple):
    """Answer with pong."""


class Auth(NamedTuple):
    """The token, as the first message."""

    token: str


ClientMessage: TypeAlias = Subscribe | Unsubscribe | Publish | Snapshot | Ping | Auth


class _Inbound(msgspec.Struct, gc=False):
    """The typed part of any client message; what only `subscribe` has is read from ``rest``."""

    type: Any = ""
    run_id: Any = None
    events: list[msgspec.Raw] | None = None
    id: Any = None
    token: Any = None


_INBOUND = msgspec.json.Decoder(_Inbound)

#: Specification A's preferences: each, when false, takes these types out.
PREFERENCES: dict[str, tuple[str, ...]] = {
    "includeToolCalls": ("agent_tool_call",),
    "includeToolResults": ("agent_tool_result",),
    "includeOutput": ("agent_output", "agent_thinking", "agent_output_chunk", "process_output"),
    "includeFileChanges": ("file_changed", "file_operation"),
    "includeProgress": ("progress_update",),
}

_FILTER_LISTS = ("runs", "agents", "works", "types")
_FILTER_ALIASES = {"runId": "runs", "workOrderId": "works", "adw_id": "agents"}


def parse_client_message(data: bytes) -> ClientMessage:
    """Understand one text message of a client: an object with a ``type``, or bare NDJSON events.

    Raises ProtocolError with the wire's error code: ``bad_json``, ``bad_message``, ``unknown_type``, ``too_large``.
    """
    if data.find(b"\n") >= 0:
        lines = _lines(data)
        if len(lines) > 1 and _has_run(lines[0]):
            return Publish(lines)
    head, lines = _decoded(_INBOUND, data)
    if isinstance(head.run_id, str):
        return Publish([data.strip()])
    if head.type == "publish":
        return _publish(head, lines)
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError("too_large", f"a message that publishes nothing has at most {MAX_MESSAGE_BYTES} bytes")
    return _control(head, data)


def _lines(data: bytes) -> list[bytes]:
    """The lines of NDJSON: ends as in `agentpipe.ndjson`, blank ones left out."""
    lines = data.split(b"\n")
    if b"\r" in data:
        lines = [line.removesuffix(b"\r") for line in lines]
    return [line for line in lines if line] if b"" in lines else lines


def _has_run(line: bytes) -> bool:
    try:
        return isinstance(_INBOUND.decode(line).run_id, str)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b'"run_id"' in line  # a torn first event does not make the rest something else


def _publish(head: _Inbound, lines: list[bytes]) -> Publish:
    if head.events is None:
        raise ProtocolError("bad_message", "publish: `events` is missing")
    # An event that was written over several lines becomes one line: JSON has no newline inside its strings.
    return Publish([line.replace(b"\n", b" ") if b"\n" in line else line for line in lines])


def _control(head: _Inbound, data: bytes) -> ClientMessage:
    match head.type:
        case "subscribe":
            return _subscribe(_id(head.id), _whole(data))
        case "unsubscribe":
            return Unsubscribe(_id(head.id))
        case "ping":
            return Ping()
        case "snapshot":
            return Snapshot(None if head.id is None else _id(head.id))
        case "auth" if isinstance(head.token, str):
            return Auth(head.token)
        case "auth":
            raise ProtocolError("bad_message", "auth: `token` must be a string")
        case str() if head.type:
            raise ProtocolError("unknown_type", f"there is no message type {head.type[:60]!r}")
    raise ProtocolError("bad_message", "`type` must be a string")


def _whole(data: bytes) -> dict[str, JSON]:
    try:
        found = decode(data)
    except ValueError as error:
        raise ProtocolError("bad_json", str(error)) from None
    assert isinstance(found, dict), "its head was read as an object"
    return found


def _id(found: JSON) -> SubscriptionId:
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise ProtocolError("bad_message", "`id` must be an integer or a string")
    if isinstance(found, str) and len(found) > 200:
        raise ProtocolError("bad_message", "`id` is longer than 200 characters")
    return found


def _subscribe(own_id: SubscriptionId, found: Mapping[str, JSON]) -> Subscribe:
    rate = found.get("max_rate")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0):
        raise ProtocolError("bad_message", "subscribe: `max_rate` must be a number over 0")
    snapshot = found.get("snapshot", False)
    if not isinstance(snapshot, bool):
        raise ProtocolError("bad_message", "subscribe: `snapshot` must be true or false")
    return Subscribe(own_id, _filter(found), _since(found.get("since", "live")), snapshot, rate)


def _filter(found: Mapping[str, JSON]) -> Filter:
    given = found.get("filter")
    if given is not None and not isinstance(given, dict):
        raise ProtocolError("bad_message", "subscribe: `filter` must be an object")
    lists: dict[str, frozenset[str]] = {
        name: _names(f"filter.{name}", (given or {}).get(name)) for name in _FILTER_LISTS
    }
    unknown = sorted(set(given or ()) - set(_FILTER_LISTS))
    if unknown:
        raise ProtocolError("bad_message", f"subscribe: `filter.{unknown[0][:60]}` is not known")
    for alias, name in _FILTER_ALIASES.items():
        if found.get(alias) is not None:
            lists[name] |= _names(alias, [found[alias]])
    without: set[str] = set()
    for preference, types in PREFERENCES.items():
        wanted = found.get(preference, True)
        if not isinstance(wanted, bool):
            raise ProtocolError("bad_message", f"subscribe: `{preference}` must be true or false")
        without.update(() if wanted else types)
    return Filter(**lists, without=frozenset(without))


def _names(field: str, found: JSON) -> frozenset[str]:
    if found is None:
        return frozenset()
    if not isinstance(found, list) or not all(isinstance(value, str) for value in found):
        raise ProtocolError("bad_message", f"subscribe: `{field}` must be a list of strings")
    if len(found) > MAX_FILTER_VALUES:
        raise ProtocolError("bad_message", f"subscribe: `{field}` has more than {MAX_FILTER_VALUES} values")
    return frozenset(found)


def _since(found: JSON) -> Since:
    if found in ("live", "start"):
        return Since(found)
    if isinstance(found, dict):
        last, epoch, offset = found.get("last"), found.get("epoch"), found.get("offset")
        if isinstance(last, int) and _counts(last):
            return Since("last", number=last)
        if isinstance(epoch, str) and isinstance(offset, int) and _counts(offset):
            return Since("position", position=Position(epoch, offset))
    raise ProtocolError("bad_message", 'subscribe: `since` is "live", "start", {"last":n} or {"epoch":"…","offset":n}')


def _counts(found: int) -> bool:
    return not isinstance(found, bool) and 0 <= found < 1 << 62


# --- hub → client


class Pack(NamedTuple):
    """The lines of one ``events`` message, joined: what all subscriptions with the same filter share. ``pos`` is the
    offset of its last entry, ``body`` the lines with commas.
    """

    pos: int
    body: bytes


def pack(page: Page, picked: Sequence[int] | None = None, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> list[Pack]:
    """Divide a page into message bodies of at most 20 events and *limit_bytes*; one larger event goes alone.

    *picked* are the indexes of the lines that a filter wants, None for all.
    """
    lines = page.lines if picked is None else [page.lines[index] for index in picked]
    room = limit_bytes - _ENVELOPE_BYTES
    packs: list[Pack] = []
    first = 0
    while first < len(lines):
        taken = lines[first : first + MAX_EVENTS]
        if sum(map(len, taken)) + len(taken) > room:
            taken = taken[: _fitting(taken, room)]
        first += len(taken)
        last = first - 1 if picked is None else picked[first - 1]
        packs.append(Pack(page.start + last + 1, b",".join(taken)))
    return packs


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
    message, lines = _decoded(_HUB, data.encode() if isinstance(data, str) else data)
    message.lines = lines
    return message


_HUB = msgspec.json.Decoder(HubMessage)


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
    shown: dict[str, Iterable[str]] = {name: getattr(wanted, name) for name in (*_FILTER_LISTS, "without")}
    return {name: sorted(values) for name, values in shown.items() if values}
