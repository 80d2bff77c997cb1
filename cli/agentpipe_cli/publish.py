"""``agentpipe publish``: send events to a hub over WebSocket."""

import dataclasses
import json
from contextlib import closing, contextmanager
from os.path import exists
from typing import TYPE_CHECKING, Any

import click

from agentpipe.ndjson import DEFAULT_MAX_LINE
from agentpipe.stage import option
from agentpipe_cli.options import command, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentpipe.inflight import Window
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
    window: int = option(
        8 << 20, "Keep at most so much in memory that the hub has not stored.", unit="size", minimum=65536
    )
    outbox: str | None = option(
        None,
        "Keep events in this file until the hub has stored them, also when publish ends or is killed before.",
        unit="path",
        metavar="FILE",
    )
    outbox_size: int = option(
        1 << 30,
        "Let the outbox take about so much disk. When it is full, what --hold says happens.",
        unit="size",
        minimum=1 << 20,
    )
    sync: str = option(
        "normal",
        "What the outbox survives. normal: that publish is killed. always: a power cut too, which costs a flush of "
        "the disk with every write.",
        choices=("normal", "always"),
    )
    hold: float = option(
        10.0,
        "When the window (or the outbox) is full and the hub is silent, hold up the input for so long; then drop, "
        "count and declare new events.",
        unit="duration",
        minimum=0,
    )
    passthrough: bool = option(False, "Write what was read to stdout too, the same bytes.")
    required: bool = option(False, "End with status 69 when no hub is reached within --drain-timeout at the start.")
    drain_timeout: float = option(
        10.0,
        "Wait so long at the end for the hub to store the rest. With an outbox the time starts anew whenever it stores "
        "something.",
        unit="duration",
        minimum=0,
    )
    exit_with_run: bool = option(
        False, "End with the status of the last run that ended in the input, or 1 when none did."
    )
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
… | agentpipe publish --outbox events.outbox wss://hub-a.example wss://hub-b.example

A hub that is away never stops the pipe: events are kept, then dropped, counted and declared as a gap. With --outbox
they are kept in a file until the hub has stored them, first in, first out, and what an earlier publish left there is
sent first; on a terminal it is sent, and that is all. Of several hubs, which share their log, the next one is used when
one fails. The token is read from --token-file, else from the file that AGENTPIPE_TOKEN_FILE names, else, for a hub on
this machine, from the file that `agentpipe serve` made. Status 0 when the hub has stored everything, 75 when it has
not, 77 when it refused the token.""",
)
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
def publish(options: PublishOptions, urls: tuple[str, ...]) -> int:
    """Publish stdin."""
    from agentpipe.intake import Intake
    from agentpipe.io.address import address
    from agentpipe.io.delivery import Delivery
    from agentpipe.io.publish import Publisher, Publishing
    from agentpipe.io.streams import Outlet, is_terminal

    typed = is_terminal(0)
    if typed and (options.outbox is None or not exists(options.outbox)):
        raise click.UsageError(_NO_INPUT)
    trust: dict[str, Any] = {"ca_file": options.ca_file, "insecure": options.insecure}
    hubs = [address(url, token_file=options.token_file, **trust) for url in urls]
    intake = Intake(max_line=options.max_line, strict=options.strict, warn=warn)
    how = Publishing(required=options.required, drain_timeout=options.drain_timeout, hold=options.hold)
    with _window(options) as window:
        if typed and not window.held:
            raise click.UsageError(_NO_INPUT)
        copy = Outlet(1) if options.passthrough else None
        delivery = Delivery(hubs, window, warn=warn)
        outcome = Publisher(delivery, intake, how, fd_in=None if typed else 0, copy=copy).run()
    return _ended(outcome, options)


_NO_INPUT = "publish reads NDJSON from a pipe: … | agentpipe publish URL   (see --help)"


@contextmanager
def _window(options: PublishOptions) -> "Iterator[Window]":
    """Where events wait for the hub, its file open where it has one."""
    frames = {"batch": options.batch, "batch_bytes": options.batch_bytes}
    if options.outbox is None:
        from agentpipe.inflight import Window
        from agentpipe.io.publish import new_publisher_id

        yield Window(options.window, **frames, publisher=new_publisher_id())
        return
    from agentpipe.io.outbox_file import OutboxFile  # SQLite costs 5 ms of start-up, which only this option pays
    from agentpipe.outbox import Outbox

    with closing(OutboxFile(options.outbox, always=options.sync == "always")) as file:
        yield Outbox(file, options.window, limit_bytes=options.outbox_size, warn=warn, **frames)


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
