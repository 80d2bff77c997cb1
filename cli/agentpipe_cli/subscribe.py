"""``agentpipe subscribe``: print the events of a hub as they come."""

import dataclasses
import json

import click

from agentpipe.stage import option
from agentpipe_cli.options import command, warn
from agentpipe_cli.publish import HubOptions

__all__ = ["SubscribeOptions", "subscribe"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeOptions(HubOptions):
    """What to print."""

    run: tuple[str, ...] = option((), "Only these runs.", unit="names", metavar="ID,...")
    agent: tuple[str, ...] = option((), "Only these agents.", unit="names", metavar="ID,...")
    type: tuple[str, ...] = option((), "Only these types.", unit="names", metavar="TYPE,...")
    since: str | None = option(
        None,
        "Where to start: all that is kept, what comes from now on, the last N, or a position.  "
        "[default: live, or start with --no-follow]",
        metavar="start|live|last:N|EPOCH:OFFSET",
    )
    accumulate: bool = option(
        False, "Print neighbouring pieces of one text as one event, where the hub has several of them at once."
    )
    follow: bool = option(True, "Wait for more at the end of the log, or end there.", name="--follow/--no-follow")
    connect_timeout: float = option(10.0, "Wait so long for the hub at the start.", unit="duration", minimum=0)
    stats: bool = option(False, "Print counts as one JSON line on stderr at the end.")


@command(
    "subscribe",
    SubscribeOptions,
    summary="Print the events of a hub as they come.",
    help="""\b
agentpipe subscribe ws://127.0.0.1:8765
agentpipe subscribe --no-follow --run 7f3a ws://127.0.0.1:8765 > run.ndjson
agentpipe subscribe --since last:100 --type agent_tool_call,error hub.example
agentpipe subscribe --since start --accumulate hub-a.example hub-b.example

One event a line, the same bytes that were published. After a lost connection it goes on where it stopped, at the next
of several hubs of one log; what the hub has meanwhile dropped is said on stderr and counted.""",
)
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
def subscribe(options: SubscribeOptions, urls: tuple[str, ...]) -> int:
    """Print until the end."""
    from agentpipe.following import since
    from agentpipe.history import Filter
    from agentpipe.io.address import address
    from agentpipe.io.follower import following
    from agentpipe.io.subscribe import Subscriber

    given = {"token_file": options.token_file, "ca_file": options.ca_file}
    hubs = [address(url, insecure=options.insecure, **given) for url in urls]
    try:
        start = since(options.since or ("live" if options.follow else "start"))
    except ValueError as error:
        raise click.UsageError(f"--since: {error}") from None
    wanted = Filter(runs=frozenset(options.run), agents=frozenset(options.agent), types=frozenset(options.type))
    reader = following(start, wanted, endless=options.follow, accumulate=options.accumulate)
    subscriber = Subscriber(hubs, reader, connect_timeout=options.connect_timeout, warn=warn)
    signal = subscriber.run()
    if options.stats:
        warn(json.dumps({"stage": "subscribe", **subscriber.report()}, separators=(",", ":")))
    return 128 + signal if signal is not None else 0
