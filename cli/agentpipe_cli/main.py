"""The entry point: a lazy table of commands, and the one place where an error becomes an exit status.

The rule this module keeps: ``--version`` and ``--help`` import no stage, and the name of a command imports only that
command. Statuses: 0 done, 2 usage, 65 data, 66 no input, 69 hub unreachable, 74 I/O, 75 undelivered, 76 protocol,
77 refused, 130 interrupted, 141 reader gone, and for ``run`` the child's own or 124–127 and 128+n.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import click

from agentpipe import catalog
from agentpipe.errors import AgentpipeError, ReaderGone
from agentpipe.version import __version__

__all__ = ["LazyGroup", "cli", "main"]

OUTPUT_STATUS = 74


class LazyGroup(click.Group):
    """A group that knows names and short helps from the catalog and imports a command when it is named."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """As click's; here the help of the group is printed."""
        with _reader_noticed():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """As click's; here a command runs."""
        with _reader_noticed():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's shape
        """Every command, sorted."""
        return sorted(catalog.COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's shape
        """The command, imported now; None when there is none of that name."""
        row = catalog.COMMANDS.get(cmd_name)
        if row is None:
            return None
        command: click.Command = row.load()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, and says which command may have been meant."""
        if args and args[0] not in catalog.COMMANDS:
            import difflib

            close = difflib.get_close_matches(args[0], catalog.COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The table of commands, from the catalog alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.summary) for name, row in sorted(catalog.COMMANDS.items())])


@contextlib.contextmanager
def _reader_noticed() -> Iterator[None]:
    """Click answers EPIPE itself, with status 1; a reader that is gone is no error of ours."""
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "--version", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """See what a coding agent does while it does it.

    \b
    agentpipe run -- claude -p "…" --output-format stream-json --verbose \\
      | agentpipe parse | agentpipe throttle | agentpipe buffer \\
      | agentpipe publish ws://127.0.0.1:8765

    Every stage reads and writes NDJSON, one event a line; stdout is data, stderr is for people.
    """  # noqa: D301 - click reads \b as a character
    ctx.default_map = _settings()


def _settings() -> dict[str, Any]:
    """The settings of ``$XDG_CONFIG_HOME/agentpipe/config.toml``, one table a command; nothing when it is not there."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    path = os.path.join(home, "agentpipe", "config.toml")
    if not os.path.exists(path):
        return {}
    import tomllib

    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{path}: {error}") from error
    return {
        command: {key.replace("-", "_"): value for key, value in table.items()}
        for command, table in found.items()
        if isinstance(table, dict)
    }


def main() -> None:
    """Run the command line and end the process with the status that the module's docstring lists."""
    if not _is_open(1):
        _say("stdout is closed: there is nowhere to write")
        os._exit(OUTPUT_STATUS)
    _occupy_standard_descriptors()
    status: Any = 0
    try:
        status = cli.main(prog_name="agentpipe", standalone_mode=False)
    except click.exceptions.Exit as error:
        status = error.exit_code
    except click.ClickException as error:
        _show(error)
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _end_by(signal.SIGINT)
    except ReaderGone:
        _end_by(signal.SIGPIPE)
    except AgentpipeError as error:
        _say(str(error))
        status = error.status
    except OSError as error:
        _say(error.strerror or str(error))
        status = OUTPUT_STATUS
    _leave(status if isinstance(status, int) else 0)


def _leave(status: int) -> None:
    """Exit with *status* once stdout is flushed; a reader that is gone or a full disk is noticed here too."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _end_by(signal.SIGPIPE)
    except OSError as error:
        _say(f"stdout: {error.strerror}")
        status = OUTPUT_STATUS
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if status > 128 and status - 128 in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        _end_by(signal.Signals(status - 128))
    sys.exit(status)


def _end_by(number: signal.Signals) -> None:
    from agentpipe.io.signals import die_of

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    die_of(number)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _occupy_standard_descriptors() -> None:
    """Open ``/dev/null`` where stdin or stderr is closed, else the next file or socket we open would get its number
    and our messages would be written into it (sqlite.org/howtocorrupt.html §2.1).
    """
    for fd in (0, 2):
        if not _is_open(fd):
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)


def _show(error: click.ClickException) -> None:
    """Click's account of an error of usage; nobody may be left to read it."""
    try:
        error.show()
    except OSError:
        return


def _say(message: str) -> None:
    """One line for people on stderr; when stderr is gone too there is nobody left to tell."""
    try:
        os.write(2, f"agentpipe: {message}\n".encode())
    except OSError:
        return


if __name__ == "__main__":
    main()
