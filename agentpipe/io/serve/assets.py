"""The page's own files.

The rule this module keeps: only files that the build made are served, by an exact table of names, under a policy that
lets nothing else run: no inline script, no foreign origin, no frame.
"""

import hashlib
import mimetypes
import os
from typing import NamedTuple

from aiohttp import web

__all__ = ["Page"]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

#: The build names these after their content, so that they never change.
_HASHED = "/assets/"

_NOT_BUILT = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>agentpipe</title>
<h1>agentpipe</h1>
<p>The hub is running, but its page was not built with this installation.</p>
<p>In a checkout, <code>make run</code> builds it. The API is there: <code>/api/runs</code> with the token as bearer,
WebSocket at <code>/ws</code>.</p>
</html>
"""


class _File(NamedTuple):
    stamp: tuple[int, int]
    body: bytes
    kind: str
    etag: str


class Page:
    """The files of one directory. Looked up once at the start; read again when they change."""

    def __init__(self, directory: str) -> None:
        # given
        self._paths = _table(directory)
        # changing
        self._files: dict[str, _File] = {}

    def holds(self, path: str) -> bool:
        """Whether *path* is a file of the page."""
        return path in self._paths

    def answer(self, request: web.Request) -> web.Response:
        """The file that was asked for, or that it is not there."""
        path = "/index.html" if request.path == "/" else request.path
        headers = {"Content-Security-Policy": _POLICY, "X-Frame-Options": "DENY"}
        if path not in self._paths:
            if request.path == "/":
                return web.Response(body=_NOT_BUILT, content_type="text/html", charset="utf-8", headers=headers)
            raise web.HTTPNotFound
        found = self._file(path)
        headers["ETag"] = found.etag
        headers["Cache-Control"] = "max-age=31536000, immutable" if path.startswith(_HASHED) else "no-cache"
        if request.headers.get("If-None-Match") == found.etag:
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = found.kind
        return web.Response(body=found.body, headers=headers)

    def _file(self, path: str) -> _File:
        place = self._paths[path]
        try:
            status = os.stat(place)
            stamp = (status.st_mtime_ns, status.st_size)
            found = self._files.get(path)
            if found is None or found.stamp != stamp:
                with open(place, "rb") as file:
                    body = file.read()
                found = self._files[path] = _File(
                    stamp, body, _kind(path), f'"{hashlib.sha256(body).hexdigest()[:32]}"'
                )
        except OSError:
            raise web.HTTPNotFound from None
        return found


def _table(directory: str) -> dict[str, str]:
    """Path in the URL → path of the file."""
    table = {}
    for folder, _, names in os.walk(directory):
        inside = os.path.relpath(folder, directory).replace(os.sep, "/")
        for name in names:
            url = f"/{name}" if inside == "." else f"/{inside}/{name}"
            table[url] = os.path.join(folder, name)
    return table


def _kind(path: str) -> str:
    kind = {".js": "text/javascript", ".webmanifest": "application/manifest+json"}.get(os.path.splitext(path)[1])
    kind = kind or mimetypes.guess_type(path)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
