"""The commands that are stages: made from the catalog, one function for all.

A filter's options are those of its stage, plus the ones every filter has.
"""

import dataclasses
import gc
import inspect
import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from agentpipe import catalog
from agentpipe.intake import Intake
from agentpipe.io.drive import Ending, filter_fds
from agentpipe.io.streams import is_terminal
from agentpipe.ndjson import DEFAULT_MAX_LINE
from agentpipe.stage import Stage, StageSpec, option
from agentpipe_cli.options import command, warn

__all__ = ["FilterOptions", "filter_command"]

#: Objects made and not freed before the collector looks for cycles. Events and JSON are in none, so that looking finds
#: nothing; with Python's own 700 it took a sixth of the time of `parse` on logs of many sessions.
_COLLECT_AFTER = 50_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions:
    """What every filter can be told."""

    strict: bool = option(False, "End with status 65 at the first malformed line, instead of warning and going on.")
    stats: bool = option(False, "Print counts as one JSON line on stderr at the end.")
    max_line: int = option(DEFAULT_MAX_LINE, "Skip and count a line longer than this.", unit="size", minimum=1024)


def filter_command(name: str) -> click.Command:
    """The click command of the stage called *name*."""
    spec = catalog.stage_spec(name)
    both = _joined(spec)

    @command(name, both, summary=spec.summary, help=inspect.cleandoc(spec.options.__doc__ or ""))
    def run(options: Any) -> int:
        return _run(spec, options)

    return run


def _joined(spec: StageSpec[Any]) -> type[Any]:
    """One dataclass of the stage's fields and every filter's; a field that both state is the stage's."""
    own = dataclasses.fields(spec.options)
    fields = [*own, *(f for f in dataclasses.fields(FilterOptions) if f.name not in {mine.name for mine in own})]
    hints = {**_hints(FilterOptions), **_hints(spec.options)}
    made = [(f.name, hints[f.name], dataclasses.field(default=f.default, metadata=f.metadata)) for f in fields]
    return dataclasses.make_dataclass(f"{spec.name}_options", made, kw_only=True)


def _hints(options: type[Any]) -> dict[str, Any]:
    from typing import get_type_hints

    return get_type_hints(options)


def _run(spec: StageSpec[Any], options: Any) -> int:
    if getattr(options, "list_formats", False):
        click.echo("\n".join(f"{name:8} {row.summary}" for name, row in catalog.ADAPTERS.items()))
        return 0
    if is_terminal(0):
        raise click.UsageError(f"{spec.name} reads NDJSON from a pipe: … | agentpipe {spec.name}   (see --help)")
    own = {field.name: getattr(options, field.name) for field in dataclasses.fields(spec.options)}
    intake = Intake(spec.reads, max_line=options.max_line, strict=options.strict, warn=warn)
    gc.freeze()  # what is imported stays
    gc.set_threshold(_COLLECT_AFTER)
    with _opened(spec, spec.options(**own)) as stage:
        ending = filter_fds(stage, intake, warn=warn)
    if options.stats:
        warn(json.dumps({"stage": spec.name, **ending.report}, separators=(",", ":")))
    _tell_losses(spec.name, ending)
    if ending.failure is not None:
        raise ending.failure
    return 128 + ending.signal if ending.signal is not None else 0


def _tell_losses(name: str, ending: Ending) -> None:
    """After a signal: what never reached the reader."""
    left, unwritten = ending.report.get("left", 0), ending.report.get("bytes_unwritten", 0)
    left = max(0, left - ending.report.get("kept", 0))  # what a spill file has for the next start is not lost
    if left or unwritten:
        warn(f"{name}: {left} events held and {unwritten} bytes of output were not written")


def _opened(spec: StageSpec[Any], own: Any) -> AbstractContextManager[Stage]:
    """The stage, and what it needs of the world for as long as it runs."""
    if spec.opener is None:
        return nullcontext(spec.build(own))
    opened: AbstractContextManager[Stage] = catalog.Row(spec.opener, spec.summary).load()(own)
    return opened


def __getattr__(name: str) -> click.Command:
    """``agentpipe_cli.filters:throttle`` and the like, as the catalog's table of commands names them."""
    if name not in catalog.STAGES:
        raise AttributeError(name)
    return filter_command(name)
