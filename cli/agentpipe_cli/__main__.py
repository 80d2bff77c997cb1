"""Where the installed command begins: before anything else is imported, Ctrl-C ends it as it ends any program.

Python's own handler would print a traceback out of whichever import it met. A command that has something to put in
order installs its own handler (``agentpipe.io.signals``). A hook, for which an agent waits, goes its own way here:
neither click nor anything else is imported for it.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["hook"]:
        from agentpipe.io.hook import entry

        if entry.is_plain(sys.argv[2:]):
            entry.main(sys.argv[2:])
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from agentpipe_cli.main import main as run

    run()


if __name__ == "__main__":
    main()
