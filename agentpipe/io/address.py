"""Where a hub is and how to prove who we are: URL forms, TLS, the token.

The rules this module keeps: a secret is never shown and never part of a command line; the default token of this
account is sent to this machine only.
"""

import dataclasses
import ipaddress
import os
from typing import Any
from urllib.parse import SplitResult, urlsplit

from agentpipe.errors import InputMissing, OptionError

__all__ = ["Address", "address", "default_token_file"]

#: A file that is no token must not end in a header: tokens are some dozens of characters.
MAX_TOKEN_BYTES = 4096

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_PORTS = {"ws": 80, "wss": 443}


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """A hub: ``url`` to connect to, ``host`` and ``port``, and the credentials, which no text form shows."""

    url: str
    host: str
    port: int
    token: str | None = dataclasses.field(default=None, repr=False)
    ca_file: str | None = None
    insecure: bool = False

    def __str__(self) -> str:
        return self.url.partition("?")[0]

    @property
    def secure(self) -> bool:
        """Whether the link is encrypted."""
        return self.url.startswith("wss:")

    @property
    def loopback(self) -> bool:
        """Whether the hub is on this machine."""
        return _is_loopback(self.host)

    @property
    def tls(self) -> dict[str, Any]:
        """The TLS options in websocket-client's words."""
        import ssl

        if self.insecure:
            return {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
        return {"ca_certs": self.ca_file} if self.ca_file else {}


def address(
    url: str,
    *,
    token: str | None = None,
    token_file: str | None = None,
    ca_file: str | None = None,
    insecure: bool = False,
) -> Address:
    """Read a hub's URL: ``ws://``, ``wss://``, ``http://``, ``https://`` or ``host:port``; the path is ``/ws`` unless
    given. Raises OptionError when it is none, InputMissing when a file that was named is not there.

    The token is *token*, which a program has from elsewhere than its command line, else read from *token_file*, else
    from the file that ``AGENTPIPE_TOKEN_FILE`` names, else, for a hub on this machine, from the account's own file.
    """
    parts = _parts(url)
    scheme, host = _SCHEMES[parts.scheme], parts.hostname or ""
    port = parts.port or _PORTS[scheme]
    shown_host = f"[{host}]" if ":" in host else host
    path = parts.path if parts.path not in ("", "/") else "/ws"
    query = f"?{parts.query}" if parts.query else ""
    if ca_file is not None and not os.path.exists(ca_file):
        raise InputMissing(ca_file, "there is no such file")
    return Address(
        f"{scheme}://{shown_host}:{port}{path}{query}",
        host,
        port,
        token if token is not None else _token(token_file, local=_is_loopback(host)),
        ca_file,
        insecure,
    )


def default_token_file() -> str:
    """The account's own token, which `agentpipe serve` makes on its first start."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "agentpipe", "token")


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        port = parts.port
    except ValueError as error:
        raise OptionError("URL", f"not a hub's address: {error}") from None
    if parts.scheme not in _SCHEMES or not parts.hostname or port == 0:
        raise OptionError("URL", "not a hub's address such as ws://127.0.0.1:8765, wss://host or host:port")
    if parts.username or parts.password:
        raise OptionError("URL", "credentials do not belong in a URL, where every process list shows them")
    return parts


def _token(path: str | None, *, local: bool) -> str | None:
    named = path or os.environ.get("AGENTPIPE_TOKEN_FILE")
    if named:
        return _read(named)
    own = default_token_file()
    return _read(own) if local and os.path.exists(own) else None


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            found = file.read(MAX_TOKEN_BYTES + 1).strip()
    except OSError as error:
        raise InputMissing(path, error.strerror or str(error)) from None
    if not found.isascii() or not found.decode("ascii").isprintable() or not 0 < len(found) <= MAX_TOKEN_BYTES:
        raise InputMissing(path, "holds no token")
    return found.decode("ascii")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
