"""``agentpipe publish``: send events to a hub over WebSocket."""

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from agentpipe.ndjson import DEFAULT_MAX_LINE
from agentpipe.stage import option
from agentpipe_cli.options import command, warn

if TYPE_CHECKING:
    from agentpipe.io.publish import Outcome

__all__ = ["HubOptions", "PublishOptions", "publish"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """How to reach a hub."""

    token_file: str | None = option(None, "Read the token from this file.", unit="path", metavar="FILE")
    ca_file: str | None = option(None, "Trust these certificates instead of the system's.", unit="path", metavar="FILE")
    insecure: bool = option(False, "Accept any certificate.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions(HubOptions):
    """How to publish."""

    batch: int = option(20, "Put at most so many events into a message.", minimum=1, maximum=20)
    batch_bytes: int = option(65536, "Put at most so much into a message.", unit="size", minimum=1024, maximum=1 << 20)
    window: int = option(8 << 20, "Keep at most so much that the hub has not stored.", unit="size", minimum=65536)
    hold: float = option(
        10.0,
        "Let a full window hold up the input so long while the hub is silent, before events are dropped.",
        unit="duration",
        minimum=0,
    )
    passthrough: bool = option(False, "Write what was read to stdout too, the same bytes.")
    required: bool = option(False, "End with status 69 when the hub cannot be reached at the start.")
    drain_timeout: float = option(10.0, "Wait so long for the hub at the end.", unit="duration", minimum=0)
    exit_with_run: bool = option(False, "End with the status of the run that was published.")
    strict: bool = option(False, "End with status 65 at the first malformed line, instead of warning and going on.")
    stats: bool = option(False, "Print counts as one JSON line on stderr at the end.")
    max_line: int = option(DEFAULT_MAX_LINE, "Skip and count a line longer than this.", unit="size", minimum=1024)


@command(
    "publish",
    PublishOptions,
    summary="Send events to a hub over WebSocket.",
    help="""\b
agentpipe run -- claude -p "…" | agentpipe parse | agentpipe publish ws://127.0.0.1:8765
agentpipe replay --speed max events.ndjson | agentpipe publish --required hub.example:443

A hub that is away never stops the pipe: events are kept, then dropped, counted and declared as a gap. The token is
read from --token-file, else from the file that AGENTPIPE_TOKEN_FILE names, else, for a hub on this machine, from the
file that `agentpipe serve` made. Status 0 when the hub has stored everything, 75 when it has not, 77 when it refused
the token.""",
)
@click.argument("url", metavar="URL")
def publish(options: PublishOptions, url: str) -> int:
    """Publish stdin."""
    from agentpipe.inflight import Window
    from agentpipe.intake import Intake
    from agentpipe.io.address import address
    from agentpipe.io.delivery import Delivery
    from agentpipe.io.publish import Publisher, Publishing
    from agentpipe.io.streams import Outlet, is_terminal

    if is_terminal(0):
        raise click.UsageError("publish reads NDJSON from a pipe: … | agentpipe publish URL   (see --help)")
    hub = address(url, token_file=options.token_file, ca_file=options.ca_file, insecure=options.insecure)
    window = Window(options.window, batch=options.batch, batch_bytes=options.batch_bytes)
    intake = Intake(max_line=options.max_line, strict=options.strict, warn=warn)
    how = Publishing(required=options.required, drain_timeout=options.drain_timeout, hold=options.hold)
    copy = Outlet(1) if options.passthrough else None
    outcome = Publisher(Delivery([hub], window, warn=warn), intake, how, copy=copy).run()
    return _ended(outcome, options)


def _ended(outcome: "Outcome", options: PublishOptions) -> int:
    """The status, once everything worth saying is said."""
    from agentpipe.errors import ReaderGone
    from agentpipe.io.publish import exit_status

    if options.stats:
        warn(json.dumps({"stage": "publish", **outcome.report}, separators=(",", ":")))
    if outcome.undelivered is not None and (outcome.fatal is not None or outcome.signal is not None):
        warn(str(outcome.undelivered))
    if outcome.signal is not None:
        return 128 + outcome.signal
    if outcome.fatal is not None:
        raise outcome.fatal
    if outcome.undelivered is not None:
        raise outcome.undelivered
    if outcome.reader_gone:
        raise ReaderGone
    return exit_status(outcome.ending) if options.exit_with_run else 0
