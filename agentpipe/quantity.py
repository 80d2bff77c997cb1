"""Durations, sizes and rates as people write them, parsed alike everywhere.

``250ms 5s 2m 1h``, ``64KiB 1M 1GiB``, ``50/s 100/m``; ``0`` and ``none`` mean "off" where an option allows it.
"""

import re

__all__ = ["duration", "rate", "show_duration", "show_rate", "show_size", "size"]

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z/]*)\s*")

#: Every whole number up to here is exact as a float; nothing here is ever that long, large or fast.
_LARGEST = 2.0**53

_DURATIONS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {
    "": 1, "b": 1,
    "k": 1000, "kb": 1000, "kib": 1 << 10,
    "m": 1000**2, "mb": 1000**2, "mib": 1 << 20,
    "g": 1000**3, "gb": 1000**3, "gib": 1 << 30,
}  # fmt: skip
_RATES = {"": 1.0, "/s": 1.0, "/m": 1 / 60, "/h": 1 / 3600}


def duration(text: str) -> float:
    """Seconds. Raises ValueError when *text* is no duration."""
    value, unit = _split(text, "a duration such as 250ms, 5s or 2m")
    return value * _unit(_DURATIONS, unit, text, "a duration such as 250ms, 5s or 2m")


def size(text: str) -> int:
    """Bytes. Raises ValueError when *text* is no size."""
    value, unit = _split(text, "a size such as 64KiB or 1M")
    return round(value * _unit(_SIZES, unit.lower(), text, "a size such as 64KiB or 1M"))


def rate(text: str) -> float:
    """Events per second. Raises ValueError when *text* is no rate."""
    value, unit = _split(text, "a rate such as 50/s or 100/m")
    return value * _unit(_RATES, unit, text, "a rate such as 50/s or 100/m")


def _split(text: str, wanted: str) -> tuple[float, str]:
    if text.strip().lower() == "none":
        return 0.0, ""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not {wanted}")
    value = float(match[1])
    if value > _LARGEST:
        raise ValueError(f"{text!r} is too large")
    return value, match[2]


def _unit(table: dict[str, float] | dict[str, int], unit: str, text: str, wanted: str) -> float:
    if unit not in table:
        raise ValueError(f"{text!r} is not {wanted}")
    return table[unit]


def show_duration(value: float) -> str:
    """The shortest way to write *value* seconds, e.g. ``100ms``; ``none`` for 0."""
    if not value:
        return "none"
    for unit in ("d", "h", "m", "s"):
        if value >= _DURATIONS[unit] and value % _DURATIONS[unit] == 0:
            return f"{value / _DURATIONS[unit]:.0f}{unit}"
    return f"{_plain(value)}s" if value >= 1 else f"{_plain(value * 1e3)}ms"


def show_size(value: int) -> str:
    """The shortest way to write *value* bytes, e.g. ``16MiB``; ``none`` for 0."""
    if not value:
        return "none"
    for unit, name in (("gib", "GiB"), ("mib", "MiB"), ("kib", "KiB")):
        if value % _SIZES[unit] == 0:
            return f"{value // _SIZES[unit]}{name}"
    return f"{value}B"


def show_rate(value: float) -> str:
    """Events per second as an option takes them, e.g. ``50/s``; ``none`` for 0."""
    return f"{_plain(value)}/s" if value else "none"


def _plain(value: float) -> str:
    """Digits without an exponent, as `duration` and `rate` read them."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
