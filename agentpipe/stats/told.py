"""What a line tells that statistics are made of: a few fields of the envelope and of any payload.

The rule this module keeps: a line is decoded once, by type, and what is not asked for is skipped; a value of another
type than the schema's counts as absent, so no line that anybody wrote can break a figure.
"""

from typing import Any

import msgspec

from agentpipe.event import JSON, decode, encode

__all__ = ["Facts", "Told", "count_of", "number_of", "opening_of", "text_of", "told"]

#: Beyond this a number says nothing, and would make every sum meaningless.
_LARGEST = 1 << 53


class Facts(msgspec.Struct, gc=False):
    """The fields of any payload that are looked at."""

    ok: Any = None
    name: Any = None
    kind: Any = None
    tool_use_id: Any = None
    duration_ms: Any = None
    path: Any = None
    added: Any = None
    removed: Any = None
    agent: Any = None
    model: Any = None
    session_id: Any = None
    changed: Any = None
    usage: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_tokens: Any = None
    cache_write_tokens: Any = None
    cumulative: Any = None
    provisional: Any = None
    cost_usd: Any = None
    rank: Any = None
    retry_in_ms: Any = None
    role: Any = None
    origin: Any = None
    count: Any = None
    reason: Any = None
    turns: Any = None
    incomplete: Any = None


class Told(msgspec.Struct, gc=False):
    """An event as statistics see it; the names are the envelope's."""

    type: str = ""
    run_id: str = ""
    agent_id: str = ""
    sequence: int | None = None
    parent_id: str | None = None
    timestamp: str = ""
    payload: Facts | None = None


_TOLD = msgspec.json.Decoder(Told)

#: Fields that differ when the same log is read at another pace.
_PACE = frozenset({"duration_ms", "elapsed_s", "eta_s", "eta_range_s"})


def told(line: bytes) -> Told | None:
    """What *line* tells, or None when it is no event (see ``docs/events.md``)."""
    found: Told | None
    try:
        found = _TOLD.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        found = _slowly(line)
    if found is None or found.payload is None or not (found.type and found.run_id and found.timestamp):
        return None
    return found


def _slowly(line: bytes) -> Told | None:
    """Lone surrogates, a field of the envelope that is of another type."""
    try:
        found = decode(line)
    except ValueError:
        return None
    if type(found) is not dict or type(found.get("payload")) is not dict:
        return None
    payload = found["payload"]
    facts = Facts(**{name: payload[name] for name in Facts.__struct_fields__ if name in payload})
    texts = {name: text_of(found.get(name)) for name in ("type", "run_id", "agent_id", "timestamp")}
    sequence = found.get("sequence")
    return Told(
        **texts,
        sequence=sequence if type(sequence) is int else None,
        parent_id=text_of(found.get("parent_id")) or None,
        payload=facts,
    )


def opening_of(line: bytes) -> int:
    """A number that stands for what the event of *line*, which `told` took, says; when it said so is left out."""
    try:
        found = decode(line)
    except ValueError:
        return 0  # an integer of thousands of digits, in a field that nobody looks at
    said = {name: value for name, value in found["payload"].items() if name not in _PACE}
    return hash((str(found["type"]), encode(said)))


def text_of(value: JSON) -> str:
    """A string, or the empty one."""
    return value if type(value) is str else ""


def count_of(value: JSON) -> int | None:
    """A whole number from 0, or None."""
    return value if type(value) is int and 0 <= value <= _LARGEST else None


def number_of(value: JSON) -> float | None:
    """A number from 0, or None."""
    if type(value) not in (int, float):
        return None
    return float(value) if 0 <= value <= _LARGEST else None
