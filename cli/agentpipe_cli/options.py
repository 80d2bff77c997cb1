"""From an options dataclass to click options: what a field states is not stated again here.

A command is written as a function of its options object (and of its arguments); `command` gives it the options, their
help with defaults, environment variables and bounds.
"""

import dataclasses
import inspect
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints

import click

from agentpipe import quantity

__all__ = ["command", "warn"]

_PARSERS: dict[str, tuple[Callable[[str], Any], Callable[[Any], str], str]] = {
    "duration": (quantity.duration, quantity.show_duration, "DURATION"),
    "size": (quantity.size, quantity.show_size, "SIZE"),
    "rate": (quantity.rate, quantity.show_rate, "RATE"),
}


class _Quantity(click.ParamType[Any]):
    """A duration, size or rate as people write it."""

    def __init__(self, unit: str, minimum: float | None, maximum: float | None) -> None:
        self._parse, self._show, self.name = _PARSERS[unit]
        self._minimum, self._maximum = minimum, maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; a number from a settings file is taken as it is."""
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value != value:
            self.fail(f"{value!r} is not a {self.name.lower()}", param, ctx)
        try:
            found = self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if self._minimum is not None and found < self._minimum:
            self.fail(f"{value} is less than {self._show(self._minimum)}", param, ctx)
        if self._maximum is not None and found > self._maximum:
            self.fail(f"{value} is more than {self._show(self._maximum)}", param, ctx)
        return found


class _Names(click.ParamType[Any]):
    """A comma-separated list of names."""

    name = "NAMES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Split text at commas; a list from a settings file is taken as it is."""
        if not isinstance(value, str) and not (
            isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        ):
            self.fail(f"{value!r} is not a list of names", param, ctx)
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(part.strip() for part in parts if part.strip())


class _Command(click.Command):
    """A command whose table in the settings file names its options as the command line does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's; an option in the settings that is none of ours is an error, for it may be a typing mistake."""
        fields = {_setting(param.opts[0]): param for param in self.params if isinstance(param, click.Option)}
        found: dict[str, Any] = {}
        for key, value in (ctx.default_map or {}).items():
            if key not in fields:
                ctx.fail(f"[{self.name}] in config.toml: there is no option {key.replace('_', '-')!r}")
            param = fields[key]
            found[str(param.name)] = [value] if param.multiple else value
        ctx.default_map = found
        return super().parse_args(ctx, args)


def command(
    name: str,
    options: type[Any],
    *,
    summary: str,
    help: str = "",  # noqa: A002 - the term of art
    epilog: str | None = None,
    context: dict[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn a function ``f(options_object, **arguments)`` into a click command with an option for every field.

    *summary* is the first line of the help and the row of the command table; *help* is what follows it, starting
    with examples. Arguments are added to the function with ``click.argument`` beneath this decorator.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        fields = dataclasses.fields(options)

        def body(**values: Any) -> Any:
            given = {field.name: _whole(field, values.pop(field.name)) for field in fields}
            return function(options(**given), **values)

        arguments = reversed(getattr(function, "__click_params__", []))
        return _Command(
            name,
            callback=body,
            params=[
                *arguments,
                *(_option(name, field, hint) for field, hint in zip(fields, _hints(options), strict=True)),
            ],
            help=f"{summary}\n\n{inspect.cleandoc(help)}",
            short_help=summary,
            epilog=epilog,
            context_settings={"help_option_names": ["-h", "--help"], **(context or {})},
        )

    return decorate


def warn(message: str) -> None:
    """One line for people on stderr; a stderr that is closed is not an error."""
    import os

    try:
        os.write(2, f"agentpipe: {message}\n".encode())
    except OSError:
        return


def _hints(options: type[Any]) -> list[Any]:
    hints = get_type_hints(options)
    return [hints[field.name] for field in dataclasses.fields(options)]


def _whole(field: "dataclasses.Field[Any]", value: Any) -> Any:
    """The lists of a repeated option as one."""
    return tuple(name for names in value for name in names) if field.metadata.get("unit") == "names" else value


def _setting(flag: str) -> str:
    """The option's name in the settings file and, in capitals, at the end of its environment variable."""
    return flag.lstrip("-").replace("-", "_")


def _option(command_name: str, field: "dataclasses.Field[Any]", hint: Any) -> click.Option:
    facts = field.metadata
    flag = facts.get("name") or "--" + field.name.replace("_", "-")
    help_text, default = facts["help"], field.default
    variable = f"AGENTPIPE_{command_name}_{_setting(flag.partition('/')[0])}".replace("-", "_").upper()
    if hint is bool:
        return click.Option([flag, field.name], is_flag=True, default=default, help=help_text, envvar=variable)
    kind: Any = _kind(facts, hint)
    several = facts.get("unit") == "names"  # may be repeated: the lists add up
    shown = _shown(facts, default)
    if shown:
        help_text += f"  [default: {shown}]"
    return click.Option(
        [flag, field.name],
        type=kind,
        default=[default] if several else default,
        multiple=several,
        help=help_text,
        metavar=facts.get("metavar") or ("N" if _plain(hint) in (int, float) and not facts.get("unit") else None),
        show_default=False,
        envvar=variable,
    )


def _kind(facts: Any, hint: Any) -> Any:
    unit, low, high = facts.get("unit"), facts.get("minimum"), facts.get("maximum")
    if facts.get("choices"):
        return click.Choice(facts["choices"])
    if unit in _PARSERS:
        return _Quantity(unit, low, high)
    if unit == "names":
        return _Names()
    if unit == "path":
        return click.Path()
    plain, bounded = _plain(hint), low is not None or high is not None
    if plain is int:
        return click.IntRange(low, high) if bounded else click.INT
    if plain is float:
        return click.FloatRange(low, high) if bounded else click.FLOAT
    return str


def _plain(hint: Any) -> Any:
    """``int | None`` is an int that may be left out."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def _shown(facts: Any, default: Any) -> str:
    if default is None or default == "" or default == ():
        return ""
    if facts.get("unit") in _PARSERS:
        return _PARSERS[facts["unit"]][1](default)
    if facts.get("unit") == "names":
        return ",".join(default)
    return str(default)
