"""Events inside a message: taken out as their bytes, not decoded.

The rule this module keeps: **one event never spoils the others.** What a quick decoder refuses of an event (an escaped
lone surrogate, which a text cut in two may well have; nesting deeper than the stack of the moment) is not a reason to
refuse the message that holds it: the event's bytes are found without understanding them, and judged by themselves.
"""

import re
from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec

from agentpipe.errors import ProtocolError
from agentpipe.event import decode

__all__ = ["with_events"]

#: An element with more brackets than this is not looked into here: whoever takes the event refuses it alone.
_DEEP = 400

_EVENTS = re.compile(rb'"events"\s*:\s*\[')
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{},]', re.DOTALL)


class _Message(Protocol):
    @property
    def events(self) -> Sequence[msgspec.Raw] | None: ...


_Typed = TypeVar("_Typed", bound=_Message)


def with_events(decoder: "msgspec.json.Decoder[_Typed]", data: bytes) -> tuple[_Typed, list[bytes]]:
    """A message and the bytes of its ``events``. Raises ProtocolError: ``bad_json``, ``bad_message``."""
    try:
        message = decoder.decode(data)
        return message, [bytes(raw) for raw in message.events or ()]
    except msgspec.ValidationError as error:
        raise ProtocolError("bad_message", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = str(error)
    try:
        return _slowly(decoder, data)
    except msgspec.ValidationError as error:
        raise ProtocolError("bad_message", str(error)) from None
    except (ValueError, RecursionError):
        raise ProtocolError("bad_json", problem) from None


def _slowly(decoder: "msgspec.json.Decoder[_Typed]", data: bytes) -> tuple[_Typed, list[bytes]]:
    """The message without its events, then these one by one. Raises ValueError."""
    found = _EVENTS.search(data)
    if found is None:
        raise ValueError("what is refused is not in an event")
    message = decoder.decode(data[: found.end()] + b"]}")
    lines, end = _elements(data, found.end())
    decode(b'{"events":[' + data[end:])  # what follows is checked too
    return message, lines


def _elements(data: bytes, start: int) -> tuple[list[bytes], int]:
    """The elements of the array that begins at *start*, and where its bracket closes. Raises ValueError."""
    lines: list[bytes] = []
    depth = 0
    for token in _TOKEN.finditer(data, start):
        mark = token.group()
        if mark in (b"[", b"{"):
            depth += 1
        elif depth and mark in (b"]", b"}"):
            depth -= 1
        elif not depth and mark in (b",", b"]"):
            element = data[start : token.start()].strip()
            if element or lines or mark == b",":
                lines.append(_checked(element))
            if mark == b"]":
                return lines, token.start()
            start = token.end()
    raise ValueError("`]` expected")


def _checked(element: bytes) -> bytes:
    """*element*, when it is a JSON value as far as we look. Raises ValueError."""
    if element.count(b"[") + element.count(b"{") <= _DEEP:
        decode(element)
    return element
