"""What a client says to the hub (``docs/protocol.md``), understood; no sockets.

The rule this module keeps: **nothing is believed.** What comes in becomes a small frozen class after strict
validation, or a ProtocolError that says which field is wrong.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from agentpipe.embedded import with_events
from agentpipe.errors import ProtocolError
from agentpipe.event import JSON, decode
from agentpipe.history import EVERYTHING, Filter, Position
from agentpipe.store import Sender
from agentpipe.wire import FILTER_LISTS, MAX_MESSAGE_BYTES, SubscriptionId

__all__ = [
    "PREFERENCES",
    "Auth",
    "ClientMessage",
    "Hello",
    "Ping",
    "Publish",
    "Since",
    "Snapshot",
    "Subscribe",
    "Unsubscribe",
    "id_of",
    "parse_client_message",
]

MAX_FILTER_VALUES = 1000  # the values of one filter list


class Since(NamedTuple):
    """Where a subscription starts: ``kind`` is ``live``, ``start``, ``last`` (with ``number``) or ``position``."""

    kind: str = "live"
    number: int = 0
    position: Position = Position("", 0)


class Subscribe(NamedTuple):
    """Start a subscription; ``accumulate`` joins what is found of a text at once, ``max_rate`` does so where there are
    more events a second than that (None: no limit).
    """

    id: SubscriptionId
    filter: Filter
    since: Since
    snapshot: bool = False
    max_rate: float | None = None
    accumulate: bool = False


class Unsubscribe(NamedTuple):
    """End a subscription."""

    id: SubscriptionId


class Publish(NamedTuple):
    """A batch of events: their lines, not yet looked at."""

    lines: Sequence[bytes]


class Hello(NamedTuple):
    """A publisher says who it is, before it publishes."""

    sender: Sender


class Snapshot(NamedTuple):
    """Send the accumulated state now."""

    id: SubscriptionId | None


class Ping(NamedTuple):
    """Answer with pong."""


class Auth(NamedTuple):
    """The token, as the first message."""

    token: str


ClientMessage: TypeAlias = Subscribe | Unsubscribe | Publish | Hello | Snapshot | Ping | Auth


class _Inbound(msgspec.Struct, gc=False):
    """The typed part of any client message; what only `subscribe` has is read from ``rest``."""

    type: Any = ""
    run_id: Any = None
    events: list[msgspec.Raw] | None = None
    id: Any = None
    token: Any = None


_INBOUND = msgspec.json.Decoder(_Inbound)

#: Specification A's preferences, and one for what `/api/content` gives by reference: each, when false, takes these
#: types out.
PREFERENCES: dict[str, tuple[str, ...]] = {
    "includeToolCalls": ("agent_tool_call",),
    "includeToolResults": ("agent_tool_result",),
    "includeOutput": ("agent_output", "agent_thinking", "agent_output_chunk", "process_output"),
    "includeFileChanges": ("file_changed", "file_operation"),
    "includeProgress": ("progress_update",),
    "includeContent": ("content",),
}

_FILTER_ALIASES = {"runId": "runs", "workOrderId": "works", "adw_id": "agents"}


def parse_client_message(data: bytes) -> ClientMessage:
    """Understand one text message of a client: an object with a ``type``, or bare NDJSON events.

    Raises ProtocolError with the wire's error code: ``bad_json``, ``bad_message``, ``unknown_type``, ``too_large``.
    """
    if data.find(b"\n") >= 0:
        lines = _lines(data)
        if len(lines) > 1 and _has_run(lines[0]):
            return Publish(lines)
    try:
        head, lines = with_events(_INBOUND, data)
    except ProtocolError:
        if b'"run_id"' in data and b'"events"' not in data:
            return Publish([data.strip()])  # one event, however bad: it is refused as such, and counts
        raise
    if isinstance(head.run_id, str):
        return Publish([data.strip()])
    if head.type == "publish":
        return _publish(head, lines)
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError("too_large", f"a message that publishes nothing has at most {MAX_MESSAGE_BYTES} bytes")
    return _control(head, data)


def id_of(data: bytes) -> SubscriptionId | None:
    """What a message that could not be understood says its id is, for the answer to it."""
    try:
        return _id(_INBOUND.decode(data).id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ProtocolError):
        return None


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
        case "publisher":
            return Hello(_sender(_whole(data)))
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


def _sender(found: Mapping[str, JSON]) -> Sender:
    own_id, generation = found.get("id"), found.get("generation")
    if not isinstance(own_id, str) or not 16 <= len(own_id) <= 64:
        raise ProtocolError("bad_message", "publisher: `id` must be a string of 16 to 64 characters")
    if isinstance(generation, bool) or not isinstance(generation, int) or not 0 <= generation < 1 << 53:
        raise ProtocolError("bad_message", "publisher: `generation` must be an integer from 0")
    return Sender(own_id, generation)


def _subscribe(own_id: SubscriptionId, found: Mapping[str, JSON]) -> Subscribe:
    rate = found.get("max_rate")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0):
        raise ProtocolError("bad_message", "subscribe: `max_rate` must be a number over 0")
    snapshot, accumulate = _flag(found, "snapshot"), _flag(found, "accumulate")
    return Subscribe(own_id, _filter(found), _since(found.get("since", "live")), snapshot, rate, accumulate)


def _flag(found: Mapping[str, JSON], name: str) -> bool:
    value = found.get(name, False)
    if not isinstance(value, bool):
        raise ProtocolError("bad_message", f"subscribe: `{name}` must be true or false")
    return value


def _filter(found: Mapping[str, JSON]) -> Filter:
    given = found.get("filter")
    if given is not None and not isinstance(given, dict):
        raise ProtocolError("bad_message", "subscribe: `filter` must be an object")
    lists: dict[str, frozenset[str]] = {
        name: _names(f"filter.{name}", (given or {}).get(name)) for name in FILTER_LISTS
    }
    unknown = sorted(set(given or ()) - set(FILTER_LISTS))
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
    asked = Filter(**lists, without=frozenset(without))
    return EVERYTHING if asked.everything else asked


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
