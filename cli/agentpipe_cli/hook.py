"""``agentpipe hook``: what Claude Code runs as a hook command, and what puts it into Claude Code's settings.

What the agent itself waits for is not here: ``agentpipe_cli.__main__`` hands it to ``agentpipe.io.hook.entry``.
"""

import dataclasses

import click

from agentpipe.stage import option
from agentpipe_cli.options import command, warn
from agentpipe_cli.publish import HubOptions

__all__ = ["HookOptions", "hook"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HookOptions(HubOptions):
    """Where hooks go, and how they are installed."""

    url: str = option("ws://127.0.0.1:8765", "The hub that gets the events.", metavar="URL")
    linger: float = option(
        60.0,
        "The sender ends after so long without a new hook, or without the hub taking anything.",
        unit="duration",
        minimum=0,
    )
    send: str | None = option(
        None, "Send what is kept of this session to the hub, and end; all: of every session.", metavar="SESSION"
    )
    install: bool = option(False, "Add the hook to Claude Code's settings.")
    uninstall: bool = option(False, "Take it out again.")
    settings: str | None = option(None, "The settings file, instead of the account's own.", unit="path", metavar="FILE")
    project: bool = option(False, "The settings of the project in this folder: .claude/settings.json.")
    events: tuple[str, ...] = option(
        ("auto",),
        "The hooks to install: auto, common, all, or their names. auto asks the installed Claude Code for its version.",
        unit="names",
        metavar="NAMES",
    )


@command(
    "hook",
    HookOptions,
    summary="Take Claude Code's hooks, as its hook command.",
    help="""\b
agentpipe hook --install
agentpipe hook --install --project --events common --url ws://127.0.0.1:8765
agentpipe hook --uninstall

Called by Claude Code with a payload on stdin it keeps the payload in $XDG_STATE_HOME/agentpipe/hooks and ends, always
with status 0 and without a word; a process of its own sends what is kept to the hub, now or when the hub is there.""",
)
def hook(options: HookOptions) -> int:
    """Do what is asked for; keeping a payload is done elsewhere."""
    if options.install + options.uninstall + bool(options.send) > 1:
        raise click.UsageError("--install, --uninstall and --send exclude each other")
    if options.install or options.uninstall:
        return _edit(options)
    if options.send:
        return _send(options, options.send)
    raise click.UsageError(
        "hook is run by Claude Code, with a payload on stdin: agentpipe hook --install   (see --help)"
    )


def _edit(options: HookOptions) -> int:
    from agentpipe.io.address import address
    from agentpipe.io.hook import settings

    if options.install:
        address(options.url)  # what makes no sense is said now: the hook itself never says a word
    path = settings.path_of(options.settings, project=options.project)
    if options.uninstall:
        changed = settings.uninstall(path)
    else:
        changed = settings.install(path, settings.hook_command(_handed_on(options)), settings.chosen(options.events))
    warn(f"{path}: {changed}")
    return 0


def _handed_on(options: HookOptions) -> list[str]:
    """The options that the installed command is to be called with: those that were given."""
    import os

    given = {"--url": options.url if options.url != HookOptions().url else None}
    for name, value in (("--token-file", options.token_file), ("--ca-file", options.ca_file)):
        given[name] = os.path.abspath(value) if value else None
    words = [word for name, value in given.items() if value for word in (name, value)]
    return [*words, *(["--insecure"] if options.insecure else [])]


def _send(options: HookOptions, name: str) -> int:
    from agentpipe.io.address import address
    from agentpipe.io.hook import dispatch

    hub = address(options.url, token_file=options.token_file, ca_file=options.ca_file, insecure=options.insecure)
    return dispatch.send(name, hub, linger=options.linger, warn=warn)
