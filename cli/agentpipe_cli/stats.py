"""``agentpipe stats``: what happened in logs, in figures."""

import dataclasses

import click

from agentpipe.stage import option
from agentpipe_cli.options import command, warn

__all__ = ["StatsOptions", "stats"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StatsOptions:
    """How to show it."""

    json: bool = option(False, "Print one JSON object instead of tables.")


@command(
    "stats",
    StatsOptions,
    summary="Show what happened in logs: tools, files, tokens, cost, time.",
    help="""\b
agentpipe stats session.jsonl
agentpipe stats events.ndjson.gz logs/ --json
agentpipe run -- claude -p "…" --output-format stream-json --verbose | agentpipe stats

FILE is a log of events, what an agent printed, or its transcript; it may be packed by gzip. A folder stands for the
logs in it. - or nothing is stdin.""",
)
@click.argument("files", metavar="[FILE]...", nargs=-1)
def stats(options: StatsOptions, files: tuple[str, ...]) -> int:
    """Read the logs, print the report."""
    from agentpipe.io.stats import read_logs, shown
    from agentpipe.io.streams import is_terminal

    if not files and is_terminal(0):
        raise click.UsageError("stats reads logs: agentpipe stats FILE…   or … | agentpipe stats   (see --help)")
    report, signal = read_logs(files, warn)
    click.echo(shown(report, json=options.json), nl=False)
    return 128 + signal if signal is not None else 0
