"""From an options dataclass to click options: what a field states is what the command does."""

import dataclasses
from typing import Any

import click
import pytest
from click.testing import CliRunner

from agentpipe.stage import option
from agentpipe_cli.options import command, warn


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One field of every kind."""

    rate: float = option(50.0, "How fast.", unit="rate", minimum=1, maximum=1000)
    wait: float = option(0.1, "How long.", unit="duration", minimum=0)
    room: int = option(8 << 20, "How much.", unit="size", minimum=1024)
    types: tuple[str, ...] = option((), "Which.", unit="names")
    kinds: tuple[str, ...] = option(("a", "b"), "Which ones.", unit="names")
    file: str | None = option(None, "Where.", unit="path", metavar="FILE")
    mode: str = option("slow", "Which way.", choices=["slow", "quick"])
    number: int = option(3, "How many.", minimum=1, maximum=9)
    last: int | None = option(None, "The last one.", minimum=1, name="--to", metavar="N")
    share: float = option(0.5, "What part.", minimum=0, maximum=1)
    label: str = option("", "What it is called.", metavar="TEXT")
    quietly: bool = option(False, "Say nothing.")
    follow: bool = option(True, "Go on.", name="--follow/--no-follow")


@command("try-it", Options, summary="Try it.", help="\b\nagentpipe try-it x\n\nMore.")
@click.argument("word", required=False)
def try_it(options: Options, word: str | None) -> int:
    """Keep what was given."""
    SEEN.append((options, word))
    return 0


SEEN: list[tuple[Options, str | None]] = []


def given(*args: str, env: dict[str, str] | None = None, settings: dict[str, Any] | None = None) -> Options:
    result = CliRunner().invoke(try_it, args, env=env, default_map=settings, standalone_mode=False)
    assert result.exception is None, result.exception
    return SEEN.pop()[0]


def refused(*args: str, env: dict[str, str] | None = None, settings: dict[str, Any] | None = None) -> str:
    result = CliRunner().invoke(try_it, args, env=env, default_map=settings)
    assert result.exit_code == 2, result.output
    return result.output


def test_defaults_are_the_fields() -> None:
    assert given() == Options()


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        (["--rate", "120/m"], "rate", 2.0),
        (["--wait", "2m"], "wait", 120.0),
        (["--wait", "none"], "wait", 0.0),
        (["--room", "1MiB"], "room", 1 << 20),
        (["--types", "a, b,,c"], "types", ("a", "b", "c")),
        (["--types", "a", "--types", "b,c"], "types", ("a", "b", "c")),
        (["--kinds", ""], "kinds", ()),
        (["--file", "x y"], "file", "x y"),
        (["--mode", "quick"], "mode", "quick"),
        (["--number", "9"], "number", 9),
        (["--to", "4"], "last", 4),
        (["--share", "0.25"], "share", 0.25),
        (["--label", "é"], "label", "é"),
        (["--quietly"], "quietly", True),
        (["--no-follow"], "follow", False),
    ],
)
def test_an_option_sets_its_field(args: list[str], field: str, value: object) -> None:
    assert given(*args) == dataclasses.replace(Options(), **{field: value})


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--rate", "0.5/s"], "less than 1/s"),
        (["--rate", "5000"], "more than 1000/s"),
        (["--rate", "fast"], "not a rate such as 50/s"),
        (["--wait", "3 parsec"], "not a duration such as 250ms"),
        (["--room", "1"], "less than 1KiB"),
        (["--mode", "medium"], "'slow', 'quick'"),
        (["--number", "10"], "1<=x<=9"),
        (["--to", "0"], "x>=1"),
        (["--share", "2"], "0<=x<=1"),
        (["--nmber", "2"], "--number"),
    ],
)
def test_what_a_field_does_not_allow_is_a_usage_error(args: list[str], told: str) -> None:
    assert told in refused(*args)


def test_help_shows_every_option_with_its_default_and_starts_with_examples() -> None:
    text = CliRunner().invoke(try_it, ["-h"]).output
    assert text.index("Try it.") < text.index("agentpipe try-it x") < text.index("Options:")
    for shown in ("--rate RATE", "--wait DURATION", "--room SIZE", "--types NAMES", "--file FILE", "--mode slow|quick",
                  "--to N", "--follow / --no-follow", "50/s", "100ms", "8MiB", "a,b"):  # fmt: skip
        assert shown in text, shown
    assert "[default: None]" not in text


def test_the_environment_names_an_option_as_the_command_line_does() -> None:
    env = {"AGENTPIPE_TRY_IT_TO": "4", "AGENTPIPE_TRY_IT_QUIETLY": "1", "AGENTPIPE_TRY_IT_FOLLOW": "false"}
    assert given(env=env) == dataclasses.replace(Options(), last=4, quietly=True, follow=False)
    assert given(env={"AGENTPIPE_TRY_IT_TYPES": "a,b"}).types == ("a", "b")
    assert given("--to", "5", env=env).last == 5
    assert "'--to': 'zero'" in refused(env={"AGENTPIPE_TRY_IT_TO": "zero"})


def test_settings_name_an_option_as_the_command_line_does_and_may_use_plain_values() -> None:
    settings = {
        "to": 4,
        "rate": 7,
        "room": "64KiB",
        "types": ["a", "b"],
        "kinds": "c,d",
        "quietly": True,
        "follow": False,
    }
    expected = {
        "last": 4,
        "rate": 7,
        "room": 65536,
        "types": ("a", "b"),
        "kinds": ("c", "d"),
        "quietly": True,
        "follow": False,
    }
    assert given(settings=settings) == dataclasses.replace(Options(), **expected)  # type: ignore[arg-type]
    assert given("--rate", "8", settings=settings, env={"AGENTPIPE_TRY_IT_ROOM": "1M"}).rate == 8
    assert given(settings=settings, env={"AGENTPIPE_TRY_IT_ROOM": "1M"}).room == 10**6


@pytest.mark.parametrize(
    "settings", [{"rte": 3}, {"last": 3}, {"rate": True}, {"rate": float("nan")}, {"types": 3}, {"room": []}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    assert "Traceback" not in refused(settings=settings)


def test_arguments_are_handed_on_beside_the_options() -> None:
    CliRunner().invoke(try_it, ["--quietly", "word"], standalone_mode=False)
    options, word = SEEN.pop()
    assert (options.quietly, word) == (True, "word")


def test_a_warning_is_one_line_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    warn("so it is")
    assert capfd.readouterr() == ("", "agentpipe: so it is\n")
