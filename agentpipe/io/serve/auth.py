"""Who may: the token, the cookie, the Host and the Origin.

The rule this module keeps: loopback is no authentication, because every page in a browser on this machine can reach
it. A request needs the token (bearer, cookie or first message); its Host must be one of ours (DNS rebinding), its
Origin, when there is one, must be the very page we serve or be listed. Comparisons take constant time and never match
by prefix.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import web

from agentpipe.errors import InputMissing
from agentpipe.io import token

__all__ = ["COOKIE", "Guard"]

COOKIE = "agentpipe_session"

#: Names by which this machine calls itself.
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """Checks requests against one token file. *hosts* and *origins* are allowed besides our own."""

    def __init__(
        self, token_path: str, bound_host: str, hosts: Iterable[str] = (), origins: Iterable[str] = ()
    ) -> None:
        # given
        self._path = token_path
        own = (*_LOOPBACK, bound_host, *hosts)
        self._hosts = frozenset(host.strip("[]").lower() for host in own)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        # changing
        self._token = token.read_or_make(token_path)
        self._stamp = self._stat()

    @property
    def token(self) -> str:
        """The token as the file has it now: one that was changed is refused at once."""
        stamp = self._stat()
        if stamp != self._stamp:
            try:
                self._token, self._stamp = token.read(self._path), stamp
            except InputMissing:
                return self._token  # it is being written just now: look again next time
        return self._token

    @property
    def cookie(self) -> str:
        """What the cookie holds: derived from the token, so that it ends with it and survives a restart."""
        return hmac.new(self.token.encode(), b"agentpipe session", hashlib.sha256).hexdigest()

    def knows(self, offered: str) -> bool:
        """Whether *offered* is the token."""
        return _same(offered, self.token)

    def admits(self, request: web.Request) -> bool | None:
        """Whether the request brings the token or the cookie; None when it brings neither."""
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, offered = header.partition(" ")
            return scheme.lower() == "bearer" and self.knows(offered.strip())
        session = request.cookies.get(COOKIE)
        if session is not None:
            return _same(session, self.cookie)
        return None

    def hosts_match(self, request: web.Request) -> bool:
        """Whether the request was meant for us, by its Host header."""
        host = _host(request.headers.get("Host", ""))
        return host is not None and host in self._hosts

    def origin_matches(self, request: web.Request) -> bool:
        """Whether the page that makes the request is ours or listed. Only browsers send an Origin."""
        origin = request.headers.get("Origin")
        if origin is None:
            return True
        if origin.lower() in self._origins:
            return True
        parts = urlsplit(origin)
        own = request.headers.get("Host", "").lower()
        return parts.scheme in ("http", "https") and parts.netloc.lower() == own and not parts.path

    def _stat(self) -> tuple[int, int, int]:
        try:
            found = os.stat(self._path)
        except OSError:
            return self._stamp if hasattr(self, "_stamp") else (0, 0, 0)  # gone: the token we know stays valid
        return found.st_mtime_ns, found.st_ino, found.st_size


def _same(offered: str, known: str) -> bool:
    """Compared in constant time; what is offered may hold bytes that are no text."""
    return hmac.compare_digest(offered.encode(errors="surrogatepass"), known.encode())


def _host(header: str) -> str | None:
    """The name in a Host header, without the port; None when it is no such header."""
    try:
        parts = urlsplit(f"//{header}")
        port = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or "@" in header or (port is None and header.endswith(":")):
        return None
    return (parts.hostname or "").lower()
