"""`GET /api/content/{ref}`: the whole of what an event shows in part.

The rules this module keeps: what an agent read or made is hostile. Only kinds that a browser shows without running
anything keep their type, everything else is a download; and whoever opens one alone gets it in a sandbox. It is the
whole, or it is said which parts are missing; a slow reader costs a few parts.
"""

import asyncio
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiohttp import web

from agentpipe.content import Survey, pieces, split_ref, survey
from agentpipe.errors import OutputError
from agentpipe.event import JSON, encode

if TYPE_CHECKING:
    from agentpipe.io.serve.service import Service

__all__ = ["answer"]

#: What is shown as what it is, and the name's ending. Neither HTML nor SVG: they run scripts.
_SHOWN = {
    "application/json": ".json",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "text/plain": ".txt",
}

_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"

#: A reader that takes nothing of a part for this long is gone.
STALLED_S = 60.0


async def answer(service: "Service", request: web.Request) -> web.StreamResponse:
    """The whole as its bytes; 404 for what was never there, 410 with the missing parts for what is not whole."""
    ref = request.match_info["ref"]
    named = split_ref(ref)
    last = service.intake.last(named[0]) if named is not None else 0  # before looking: more may come meanwhile
    found = await asyncio.to_thread(survey, service.log, ref)
    if named is None or found is None or (not found.parts and named[1] > last):
        return _problem(404, "not_found", "there is no content of this name")
    if not found.parts or found.missing:
        return _incomplete(found, named[1], last)
    etag = f'"{hashlib.sha256(f"{service.epoch} {ref} {found.size_bytes}".encode(errors="replace")).hexdigest()[:32]}"'
    response = web.StreamResponse(headers=_headers(request, found, named[1], etag))
    if request.headers.get("If-None-Match") == etag:
        response.set_status(304)
        await response.prepare(request)
        return response
    response.content_length = found.size_bytes
    await response.prepare(request)
    if request.method != "HEAD":
        await _send(request, response, pieces(service.log, found))
    return response


async def _send(request: web.Request, response: web.StreamResponse, whole: Iterator[bytes]) -> None:
    """Write piece by piece; where that is not possible to the end, the connection is cut, so that nobody takes what
    came for the whole.
    """
    try:
        while (piece := await asyncio.to_thread(next, whole, None)) is not None:
            async with asyncio.timeout(STALLED_S):
                await response.write(piece)
        await response.write_eof()
    except (LookupError, OutputError, TimeoutError, ConnectionError):
        if request.transport is not None:
            request.transport.abort()


def _headers(request: web.Request, found: Survey, number: int, etag: str) -> dict[str, str]:
    """A content never changes, but another store may have another one of that name: caches ask each time."""
    kind = found.media_type.partition(";")[0].strip().lower()
    ending = _SHOWN.get(kind, ".bin")
    shown = kind in _SHOWN and "download" not in request.query
    return {
        "Content-Type": _type(kind) if kind in _SHOWN else "application/octet-stream",
        "Content-Disposition": "inline" if shown else f'attachment; filename="content-{number}{ending}"',
        "Content-Security-Policy": _POLICY,
        "Cache-Control": "private, no-cache",
        "ETag": etag,
    }


def _type(kind: str) -> str:
    return "text/plain; charset=utf-8" if kind == "text/plain" else kind


def _incomplete(found: Survey, first: int, last: int) -> web.Response:
    """Some of it is evicted or declared as lost; or, if the run has not come so far, it is still under way."""
    gone = not found.parts or any(first + begin - 1 <= last for begin, _ in found.missing)
    known: dict[str, JSON] = {"parts": found.parts, "missing": found.missing} if found.parts else {}
    if not gone:
        return _problem(404, "not_found", "this content has not come whole yet", **known)
    count = sum(end - begin + 1 for begin, end in found.missing)
    what = f"{count} of {found.parts} parts are" if found.parts else "it is"
    return _problem(410, "gone", f"{what} no longer kept here, or never came", **known)


def _problem(status: int, code: str, message: str, **more: JSON) -> web.Response:
    shape = {"code": code, "message": message, **more}
    return web.Response(body=encode(shape), status=status, content_type="application/json")
