"""``agentpipe run``: the wrapper around an agent."""

import click

from agentpipe import catalog
from agentpipe.io.run.guard import guarded
from agentpipe.io.run.process import RunOptions, run_command
from agentpipe_cli.options import command, warn

__all__ = ["run"]

_HELP = """\b
agentpipe run -- claude -p "…" --output-format stream-json --verbose | agentpipe parse
agentpipe run --tee raw.jsonl --timeout 30m -- codex exec --json "…" | agentpipe parse > events.ndjson

The command's output becomes events the moment a line is complete; a slow reader never slows the command. Everything
after the first word that is no option belongs to the command. The status is the command's own; 124 after a timeout,
125 when run itself failed, 126 when the command cannot be executed, 127 when it is not there, 128+n after signal n.
"""


@command(
    "run",
    RunOptions,
    summary=catalog.COMMANDS["run"].summary,
    help=_HELP,
    context={"allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, required=True, metavar="CMD [ARGS]...")
def run(options: RunOptions, words: tuple[str, ...]) -> int:
    """Run the command and end with its status."""
    status = guarded()
    return run_command(options, words, warn=warn) if status is None else status
