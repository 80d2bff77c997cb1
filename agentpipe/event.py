"""The event: one thing that happened, one NDJSON line.

The rule this module keeps: **an event is its line.** It is encoded once, where it is made, and carried as those
bytes; only the head (the few fields that routing needs) is ever decoded on the way. Unknown keys, key order, odd
escapes and big integers survive because a line that nobody changed is never encoded again.

Fields and their meaning: ``docs/events.md`` (schema ``agentpipe/1``).
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias, cast

import msgspec
import orjson

__all__ = [
    "EXEMPT_TYPES",
    "JSON",
    "SCHEMA",
    "TERMINAL_TYPES",
    "Event",
    "Maker",
    "decode",
    "encode",
    "gap",
    "make",
    "peek",
    "peek_lines",
    "seconds",
    "timestamp",
]

JSON: TypeAlias = Any  # what json.loads returns; the one place where Any is allowed on the event path

SCHEMA = "agentpipe/1"

#: Beyond this a number is no longer exact in every reader of JSON (RFC 7493 §2.2), nor an integer of SQLite.
MAX_SEQUENCE = 2**53 - 1

#: Exactly one of these ends a run.
TERMINAL_TYPES = frozenset({"run_completed", "run_failed", "run_cancelled"})

#: Never throttled, merged or dropped (requirement T3): losing one changes what the rest means.
EXEMPT_TYPES = TERMINAL_TYPES | {
    "run_started",
    "run_iteration",
    "error",
    "gap",
    "permission_request",
    "process_started",
    "process_exited",
    "workflow_phase_transition",
}


class Event(msgspec.Struct, gc=False, weakref=False):
    """The peeked head of an event and its ``line`` (UTF-8 bytes, no newline). Never changed after it is made.

    ``sequence`` is None for an event that the hub has yet to number. ``payload`` and ``timestamp`` decode on demand.
    """

    type: str = ""
    run_id: str = ""
    agent_id: str = ""
    work_id: str | None = None
    sequence: Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQUENCE)] | None = None
    event_id: str | None = None
    # The name on the wire cannot be met in practice; the field is filled by hand after decoding.
    line: bytes = msgspec.field(default=b"", name="\ufffdline")

    @property
    def identity(self) -> str:
        """What consumers de-duplicate by: the event's own id, else ``run_id:sequence``."""
        return self.event_id or f"{self.run_id}:{self.sequence}"

    @property
    def envelope(self) -> dict[str, JSON]:
        """The whole event, decoded anew on each use. Raises ValueError for what `decode` refuses."""
        return cast("dict[str, JSON]", decode(self.line))

    @property
    def payload(self) -> dict[str, JSON]:
        """The payload, decoded anew on each use; empty when the line has none or it cannot be decoded."""
        found = self._get("payload")
        return found if isinstance(found, dict) else {}

    @property
    def timestamp(self) -> str | None:
        """RFC 3339 text as the line has it, or None."""
        found = self._get("timestamp")
        return found if isinstance(found, str) else None

    def _get(self, name: str) -> JSON:
        """A stage must not fail on one hostile event (an integer of 5000 digits): it sees nothing and passes it on."""
        try:
            found = decode(self.line)
        except ValueError:
            return None
        return found.get(name) if isinstance(found, dict) else None


_HEAD = msgspec.json.Decoder(Event)
_ANYTHING = msgspec.json.Decoder()
_LARGEST = 1.7976931348623157e308  # of IEEE 754 doubles


def peek(line: bytes) -> Event:
    """Read the head of *line*, a JSON object without its newline.

    A head field of the wrong JSON type counts as absent, and so does a ``sequence`` outside 1…2⁵³-1 and an id that no
    UTF-8 text can carry (a lone surrogate). Raises ValueError when the line is not a JSON object, or one that nests
    deeper than the interpreter allows (about 1000).
    """
    try:
        event = _HEAD.decode(line)
    except msgspec.DecodeError as error:
        event = _peek_leniently(line, str(error))
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if not line.isascii():
        line.decode()  # msgspec does not check UTF-8 in what it skips; UnicodeDecodeError is a ValueError
    event.line = line
    return event


def _peek_leniently(line: bytes, problem: str) -> Event:
    """The slow path: an object whose head has a field of an unexpected type, or with lone surrogates somewhere."""
    try:
        found = decode(line)
    except ValueError:
        raise ValueError(problem) from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    event = Event()
    for name in ("type", "run_id", "agent_id", "work_id", "event_id"):
        if _is_text(found.get(name)):
            setattr(event, name, found[name])
    sequence = found.get("sequence")
    if isinstance(sequence, int) and not isinstance(sequence, bool) and 1 <= sequence <= MAX_SEQUENCE:
        event.sequence = sequence
    return event


def _is_text(value: JSON) -> bool:
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def peek_lines(lines: Sequence[bytes]) -> tuple[list[Event], list[tuple[int, bytes, str]]]:
    """Peek many lines at once: the events, and for each bad line its index, its bytes and the problem.

    When every line is good, which is the normal case, no Python runs for a line but to note it in its event. (Joining
    them for ``decode_lines`` is dearer: to it LF is mere white space, and that no value spans lines is a search.)
    """
    try:
        events = list(map(_HEAD.decode, lines))
        if not all(map(bytes.isascii, lines)):
            b"\n".join(lines).decode()  # see `peek`; the LF keeps torn characters of neighbours apart
    except (ValueError, RecursionError):
        return _peek_one_by_one(lines)
    for event, line in zip(events, lines, strict=True):
        event.line = line
    return events, []


def _peek_one_by_one(lines: Iterable[bytes]) -> tuple[list[Event], list[tuple[int, bytes, str]]]:
    events: list[Event] = []
    bad: list[tuple[int, bytes, str]] = []
    for index, line in enumerate(lines):
        try:
            events.append(peek(line))
        except ValueError as error:
            bad.append((index, line, str(error)))
    return events, bad


def make(
    type: str,  # noqa: A002 - the field's name in the schema
    payload: Mapping[str, JSON],
    *,
    run_id: str,
    agent_id: str,
    sequence: int | None,
    at: str,
    work_id: str | None = None,
    parent_id: str | None = None,
    covers: Sequence[tuple[int, int]] | None = None,
    event_id: str | None = None,
) -> Event:
    """Make an event: the only place where a line is encoded.

    *at* is an RFC 3339 timestamp (see `timestamp`); *sequence* counts from 1 within the run, or is None for an event
    that the hub will number. *covers* lists the ``(first, last)`` sequence numbers merged into this event.
    """
    envelope: dict[str, JSON] = {"type": type, "run_id": run_id, "agent_id": agent_id}
    if work_id is not None:
        envelope["work_id"] = work_id
    if parent_id is not None:
        envelope["parent_id"] = parent_id
    own_id = event_id
    if sequence is not None:
        envelope["sequence"] = sequence
        own_id = event_id or f"{run_id}:{sequence}"
    envelope["timestamp"] = at
    if own_id is not None:
        envelope["event_id"] = own_id
    if covers:
        envelope["covers"] = covers
    envelope["payload"] = payload
    return Event(type, run_id, agent_id, work_id, sequence, own_id, encode(envelope))


class Maker:
    """Makes and numbers the events of one run: what `make` does, at two thirds of its cost.

    The envelope is one mapping that every event fills anew. That is safe because encoding keeps nothing of it, and the
    same bytes come out because a key that is set again keeps its place.
    """

    def __init__(self, *, run_id: str, agent_id: str, work_id: str | None = None) -> None:
        # given
        self._run_id = run_id
        self._agent_id = agent_id
        self._work_id = work_id
        # changing
        self.sequence = 0  # of the last event that was made
        self._main = self._envelope(None)
        self._nested: dict[str, JSON] | None = None  # the envelope of a sub-agent's events, which has one key more

    def make(self, type: str, payload: Mapping[str, JSON], at: str, parent_id: str | None = None) -> Event:  # noqa: A002 - the field's name in the schema
        """The next event of the run; *at* is an RFC 3339 timestamp."""
        sequence = self.sequence = self.sequence + 1
        event_id = f"{self._run_id}:{sequence}"
        if parent_id is None:
            envelope = self._main
        else:
            envelope = self._nested = self._nested or self._envelope(parent_id)
            envelope["parent_id"] = parent_id
        envelope["type"] = type
        envelope["sequence"] = sequence
        envelope["timestamp"] = at
        envelope["event_id"] = event_id
        envelope["payload"] = payload
        try:
            line = b"%b" % orjson.dumps(envelope)  # as `encode` does, without its call
        except (TypeError, ValueError):
            line = _encode_slowly(envelope)
        return Event(type, self._run_id, self._agent_id, self._work_id, sequence, event_id, line)

    def _envelope(self, parent_id: str | None) -> dict[str, JSON]:
        """The keys in the order in which `make` writes them."""
        envelope: dict[str, JSON] = {"type": "", "run_id": self._run_id, "agent_id": self._agent_id}
        if self._work_id is not None:
            envelope["work_id"] = self._work_id
        if parent_id is not None:
            envelope["parent_id"] = parent_id
        return {**envelope, "sequence": 0, "timestamp": "", "event_id": "", "payload": {}}


def gap(
    ranges: Sequence[tuple[int, int]],
    reason: str,
    *,
    run_id: str,
    agent_id: str,
    at: str,
    work_id: str | None = None,
    count: int | None = None,
    types: Mapping[str, int] | None = None,
) -> Event:
    """Declare that the sequence numbers in *ranges* (``(first, last)``, ascending) of a run are missing, and why.

    *reason* is one of ``throttle buffer evicted oversize source``; *count* is the number of events when it is not
    the length of the ranges; *types* counts them by type.
    """
    total = count if count is not None else sum(last - first + 1 for first, last in ranges)
    payload: dict[str, JSON] = {"ranges": [list(pair) for pair in ranges], "count": total, "reason": reason}
    if types:
        payload["types"] = dict(types)
    first, last = (ranges[0][0], ranges[-1][1]) if ranges else (0, 0)
    return make(
        "gap",
        payload,
        run_id=run_id,
        agent_id=agent_id,
        sequence=last if ranges else None,
        at=at,
        work_id=work_id,
        event_id=f"{run_id}:gap:{first}-{last}" if ranges else None,
    )


def decode(line: bytes) -> JSON:
    """Decode one JSON value, exactly: integers stay integers, lone surrogate escapes stay what they are.

    Raises ValueError when *line* is not JSON, has an integer of more than 4300 digits or nests too deeply. A float
    beyond the range of a double becomes the largest one, as in jq.
    """
    try:
        return _ANYTHING.decode(line)
    except (ValueError, RecursionError):
        pass  # rare and slow: valid JSON that the quick decoder refuses (lone surrogates, 1e400)
    try:
        return json.loads(line.decode(), parse_constant=_refuse, parse_float=_float)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(constant: str) -> JSON:
    raise ValueError(f"{constant} is not JSON")


def _float(text: str) -> float:
    return max(-_LARGEST, min(_LARGEST, float(text)))


def encode(value: JSON) -> bytes:
    """Encode one JSON value as UTF-8 on one line; what orjson refuses (integers over 64 bits, lone surrogates, deep
    nesting) goes through the standard library, escaped, so that no content is lost. A float that JSON has no text for
    (infinite or no number) becomes null.
    """
    try:
        found = orjson.dumps(value)
    except (TypeError, ValueError):
        return _encode_slowly(value)
    # A copy of the right size: orjson leaves its result in the memory that it took to write it, 4 KB or eight times the
    # longest string, and events are kept.
    return b"%b" % found


def _encode_slowly(value: JSON) -> bytes:
    text = json.dumps(value, separators=(",", ":"), default=_fields)
    if "Infinity" in text or "NaN" in text:  # in a string too, where it does no harm to look twice
        text = json.dumps(json.loads(text, parse_constant=lambda _: None), separators=(",", ":"))
    return text.encode()


def _fields(value: object) -> dict[str, JSON]:
    """A dataclass as an object, which is what the quick encoder makes of it too."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return dataclasses.asdict(value)


def timestamp(now: float) -> str:
    """Unix seconds as RFC 3339 in UTC with milliseconds, e.g. ``2026-11-20T07:00:00.123Z``."""
    whole, milliseconds = divmod(int(now * 1000), 1000)
    return f"{datetime.fromtimestamp(whole, UTC).isoformat()[:19]}.{milliseconds:03d}Z"  # strftime is slower


def seconds(at: str) -> float:
    """RFC 3339 text as Unix seconds. Raises ValueError when it is not a timestamp."""
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
