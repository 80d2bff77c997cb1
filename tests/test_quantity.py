"""Durations, sizes and rates as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe import quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5), ("5", 5), (" 2 m ", 120), ("1.5h", 5400), ("7d", 604800), ("0", 0),
     ("none", 0), ("NONE", 0),
     ("3min", 180), ("10us", 1e-5)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert quantity.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 65536), ("1M", 10**6), ("1mib", 1 << 20), ("1GiB", 1 << 30), ("2g", 2 * 10**9),
     ("17", 17), ("1.5k", 1500), ("none", 0), ("12B", 12)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    found = quantity.size(text)
    assert found == size
    assert isinstance(found, int)


@pytest.mark.parametrize(("text", "rate"), [("50/s", 50), ("120/m", 2), ("7200/h", 2), ("3", 3), ("none", 0)])
def test_rates(text: str, rate: float) -> None:
    assert quantity.rate(text) == pytest.approx(rate)


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "1 parsec", "1e3", "inf", "nan", "5/s/s", "1,5", "9" * 400, "9" * 400 + ".5"]
)
@pytest.mark.parametrize("parse", [quantity.duration, quantity.size, quantity.rate])
def test_what_is_no_quantity_is_refused_with_a_value_error(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(ValueError, match="is"):
        parse(text)


@given(st.integers(0, 10**12))
def test_a_shown_size_reads_back_exactly(value: int) -> None:
    assert quantity.size(quantity.show_size(value)) == value


@given(st.integers(0, 10**9).map(lambda value: value / 1000))
def test_a_shown_duration_or_rate_reads_back(value: float) -> None:
    assert quantity.duration(quantity.show_duration(value)) == pytest.approx(value)
    assert quantity.rate(quantity.show_rate(value)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.1, "100ms"), (5.0, "5s"), (90.0, "90s"), (3600.0, "1h"), (1.5, "1.5s"), (0.0, "none")]
)
def test_durations_are_shown_short(value: float, shown: str) -> None:
    assert quantity.show_duration(value) == shown


def test_sizes_and_rates_are_shown_short() -> None:
    assert [quantity.show_size(n) for n in (16 << 20, 1500, 0)] == ["16MiB", "1500B", "none"]
    assert [quantity.show_rate(n) for n in (50.0, 0.5, 0.0, 1e7)] == ["50/s", "0.5/s", "none", "10000000/s"]
