"""``agentpipe serve``: the hub and its page."""

from agentpipe.io.serve.options import ServeOptions
from agentpipe_cli.options import command, warn

__all__ = ["serve"]

HELP = """\b
agentpipe serve
agentpipe serve --store memory --port 0
agentpipe serve --store redis://127.0.0.1:6379/0?prefix=team --token-file /etc/agentpipe/token
agentpipe run -- claude -p "…" --output-format stream-json --verbose | agentpipe parse | agentpipe serve --open

The hub takes events over WebSocket (`agentpipe publish`), by `POST /api/events` and on its own standard input, keeps
them and shows them on its page. The URL it prints carries the token that opens it.

Hubs that keep their log in one Redis are one hub to their clients: what one of them takes all of them tell, and a
client that loses one goes on at another. They need the same token. A password of Redis belongs in the environment
(AGENTPIPE_SERVE_STORE), because a command line is for all to see."""


@command("serve", ServeOptions, summary="Serve the hub and its dashboard.", help=HELP)
def serve(options: ServeOptions) -> int:
    """Serve until told to stop; 0 after the end of the input, 128+n after a signal."""
    from agentpipe.io.serve.app import serve as run

    number = run(options, say=warn)
    return 128 + number if number else 0
