"""``agentpipe replay``: play a saved log with its own timing."""

import dataclasses

import click

from agentpipe.stage import option
from agentpipe_cli.options import command, warn

__all__ = ["ReplayOptions", "replay"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """How to play."""

    speed: str = option("1", "Play this many times as fast, or as fast as possible.", metavar="N|max")
    max_idle: float = option(0.0, "Count a longer silence in the log as this long.", unit="duration", minimum=0)
    loop: bool = option(False, "Start again at the end, for ever.")
    first: int = option(1, "Start at this line, counted from 1.", minimum=1, name="--from", metavar="N")
    last: int | None = option(None, "Stop after this line.", minimum=1, name="--to", metavar="N")
    rewrite_time: bool = option(False, "Set the timestamps to the moment of playing; all other bytes stay.")


@command(
    "replay",
    ReplayOptions,
    summary="Play a saved log with its own timing.",
    help="""\b
agentpipe replay session.jsonl | agentpipe parse | agentpipe publish ws://127.0.0.1:8765
agentpipe replay --speed 10 --max-idle 2s events.ndjson | agentpipe parse
agentpipe replay --speed max a.jsonl b.jsonl.gz | agentpipe parse

FILE is what an agent printed, its transcript, or a log of events; - is stdin. Lines are written as they are. A line
without a timestamp is played together with the line before it.""",
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def replay(options: ReplayOptions, files: tuple[str, ...]) -> int:
    """Play the files in order."""
    from agentpipe.io.replay import Player, Playing
    from agentpipe.replay import speed

    try:
        factor = speed(options.speed)
    except ValueError as error:
        raise click.UsageError(f"--speed: {error}") from None
    playing = Playing(
        factor=factor,
        max_idle=options.max_idle,
        loop=options.loop,
        first=options.first,
        last=options.last or 0,
        rewrite_time=options.rewrite_time,
    )
    signal = Player(files, playing, warn=warn).run()
    return 128 + signal if signal is not None else 0
