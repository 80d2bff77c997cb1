"""Reading what a stranger wrote: a value when it has the expected type, else nothing.

The rule this module keeps: no shape of JSON makes an adapter raise.
"""

from math import isfinite

from agentpipe.event import JSON

__all__ = ["items", "mapping", "number", "string", "whole"]


def string(value: JSON) -> str:
    """A string, or the empty one."""
    return value if type(value) is str else ""


def mapping(value: JSON) -> dict[str, JSON]:
    """An object, or an empty one."""
    return value if type(value) is dict else {}


def items(value: JSON) -> list[JSON]:
    """An array, or an empty one."""
    return value if type(value) is list else []


def number(value: JSON) -> float | None:
    """A finite number, or None."""
    if type(value) is int:
        return value
    return value if type(value) is float and isfinite(value) else None


def whole(value: JSON) -> int | None:
    """A number rounded to a whole one, or None."""
    if type(value) is int:
        return value
    return round(value) if type(value) is float and isfinite(value) else None
