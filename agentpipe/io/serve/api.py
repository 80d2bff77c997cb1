"""The HTTP API of ``docs/protocol.md``.

The rule this module keeps: input is checked against what is declared, and whatever is wrong is answered with JSON
``{"code","message","field"?}`` and the right status. Stored events are passed on as their bytes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from agentpipe.accumulate import accumulated
from agentpipe.admission import Admitted
from agentpipe.errors import OutputError
from agentpipe.event import JSON, encode, peek_lines
from agentpipe.history import OfRun
from agentpipe.io.serve import content
from agentpipe.io.serve.auth import COOKIE
from agentpipe.io.serve.websocket import websocket

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

    from agentpipe.io.serve.assets import Page
    from agentpipe.io.serve.service import Service

__all__ = ["MAX_BODY", "Api", "application", "failure"]

#: A `POST /api/events` holds at most this; larger logs are sent in parts or with ``agentpipe publish``.
MAX_BODY = 32 << 20

#: A line of joined text in a page: as large as in a message of the WebSocket.
JOINED_BYTES = 48 * 1024

#: Events of a body that are stored and told together: the loop is busy with that for some milliseconds, and a body may
#: hold hundreds of thousands.
PART_EVENTS = 2000

DEFAULT_LIMIT = 500
MAX_LIMIT = 5000

#: Answered without a token: they tell nothing, or they are how one gets in.
_OPEN = frozenset({"/", "/ws", "/healthz", "/readyz", "/api/session"})

_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """One method a call."""

    def __init__(self, service: "Service", page: "Page") -> None:
        # given
        self._service = service
        self._page = page

    async def root(self, request: web.Request) -> web.StreamResponse:
        """`GET /`: the page, or a WebSocket."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await websocket(self._service, request)
        return self._page.answer(request)

    async def ws(self, request: web.Request) -> web.StreamResponse:
        """`GET /ws`: a WebSocket."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return failure(426, "upgrade_required", "this is a WebSocket endpoint", headers={"Upgrade": "websocket"})
        return await websocket(self._service, request)

    async def session(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/session`: the token for a cookie."""
        if "Authorization" not in request.headers or not self._service.guard.admits(request):
            return _unauthorized()
        answer = web.Response(status=204)
        answer.set_cookie(
            COOKIE, self._service.guard.cookie, httponly=True, samesite="Strict", path="/", secure=request.secure
        )
        return answer

    async def runs(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002 - aiohttp's shape
        """`GET /api/runs`."""
        return _json({"position": self._service.position, "runs": self._service.runs.runs()})

    async def run(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/runs/{run_id}`."""
        found = self._service.runs.run(request.match_info["run_id"])
        return _json(found) if found is not None else failure(404, "not_found", "there is no such run")

    async def agents(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002 - aiohttp's shape
        """`GET /api/agents`."""
        return _json({"position": self._service.position, "agents": self._service.runs.agents()})

    async def run_events(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/runs/{run_id}/events?after=&limit=&types=&content=&accumulate=`."""
        service = self._service
        try:
            after = _number(request, "after", 0, 1 << 62)
            limit = _number(request, "limit", DEFAULT_LIMIT, MAX_LIMIT)
        except ValueError as error:
            return failure(400, "bad_parameter", f"must be a whole number in range: {error}", field=str(error))
        types = frozenset(part for part in request.query.get("types", "").split(",") if part)
        without = frozenset({"content"} if request.query.get("content") == "0" else ())
        run_id = request.match_info["run_id"]
        wanted = OfRun(run_id, types, without)
        position = service.position  # before reading: what comes later is the subscription's
        found = await asyncio.to_thread(service.log.of_run, wanted, after, max(1, limit))
        told = [line for line, offset in zip(found.lines, found.offsets, strict=True) if offset <= position.offset]
        reached = max(min(found.next, position.offset), min(after, service.reachable))
        more = reached < position.offset
        if request.query.get("accumulate") == "1":
            told = accumulated(peek_lines(told)[0], limit_bytes=JOINED_BYTES).lines
        if not told and not more and service.runs.run(run_id) is None and not await self._kept(run_id):
            return failure(404, "not_found", "there is no such run")
        body = b'{"position":%b,"events":[%b],"next":%d,"more":%b}' % (
            encode(position), b",".join(told), reached, b"true" if more else b"false",
        )  # fmt: skip
        return web.Response(body=body, content_type="application/json")

    async def _kept(self, run_id: str) -> bool:
        """Whether the log has anything of a run whose state was forgotten: only the newest are kept."""
        found = await asyncio.to_thread(self._service.log.of_run, OfRun(run_id), 0, 1)
        return bool(found.lines)

    async def event(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/events/{event_id}`: the stored bytes."""
        line = await asyncio.to_thread(self._service.log.find, request.match_info["event_id"])
        if line is None:
            return failure(404, "not_found", "there is no such event, or it is no longer kept")
        return web.Response(body=line, content_type="application/json")

    async def content(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/content/{ref}`: the whole of what an event shows in part."""
        return await content.answer(self._service, request)

    async def post(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/events`: NDJSON, a JSON array or one object; answered after the commit."""
        if self._service.stopping:
            return failure(503, "unavailable", "the hub is going away")
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return failure(413, "too_large", f"a body has at most {MAX_BODY} bytes")
        except (ConnectionResetError, web.RequestPayloadError):
            return failure(400, "bad_request", "the body did not come whole")  # mostly nobody is there to hear it
        lines = _lines(body)
        if not lines:
            return failure(400, "bad_json", "the body holds no event")
        found = Admitted(0, 0, [], {})
        for start in range(0, len(lines), PART_EVENTS):
            part = await self._stored(lines[start : start + PART_EVENTS])
            if isinstance(part, web.Response):
                return part
            refused = [refusal._replace(place=start + refusal.place) for refusal in part.refused]
            found = Admitted(found.new + part.new, found.known + part.known, found.refused + refused, {})
        await self._service.told()
        return _json(_receipt(found), status=200 if len(found.refused) < len(lines) else 400)

    async def _stored(self, lines: Sequence[bytes]) -> Admitted | web.Response:
        """What became of *lines*, or the answer when they could not be stored."""
        await self._service.intake.room()
        if self._service.stopping:
            return failure(503, "unavailable", "the hub is going away")
        stored: asyncio.Future[Admitted | None] = asyncio.get_running_loop().create_future()
        self._service.intake.take(lines, stored.set_result)
        admitted = await asyncio.shield(stored)
        if admitted is None:
            return failure(503, "unavailable", f"the store failed: {self._service.intake.problem}")
        return admitted

    async def health(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002 - aiohttp's shape
        """`GET /healthz`: the process answers."""
        return _json({"status": "ok"})

    async def ready(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002 - aiohttp's shape
        """`GET /readyz`: events can be stored."""
        problem = self._service.intake.problem
        if problem is not None or self._service.stopping:
            return _json({"code": "unavailable", "message": str(problem or "going away")}, status=503)
        return _json({"status": "ok"})

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """Any other path: a file of the page."""
        return self._page.answer(request)


def application(service: "Service", page: "Page") -> web.Application:
    """The routes, behind the checks of Host, Origin and token."""
    api = Api(service, page)
    made = web.Application(middlewares=[_guarded(service, page)], client_max_size=MAX_BODY)
    made.on_response_prepare.append(_secured)
    made.add_routes(
        [
            # (?s): an id may hold a line end
            web.get("/", api.root),
            web.get("/ws", api.ws),
            web.post("/api/session", api.session),
            web.get("/api/runs", api.runs),
            web.get("/api/runs/{run_id:(?s:.+)}/events", api.run_events),
            web.get("/api/runs/{run_id:(?s:.+)}", api.run),
            web.get("/api/agents", api.agents),
            web.post("/api/events", api.post),
            web.get("/api/events/{event_id:(?s:.+)}", api.event),
            web.get("/api/content/{ref:(?s:.+)}", api.content),
            web.get("/healthz", api.health),
            web.get("/readyz", api.ready),
            web.get("/{path:.+}", api.asset),
        ]
    )
    return made


def _guarded(service: "Service", page: "Page") -> "Middleware":
    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        refusal = _refusal(service, page, request)
        answer: web.StreamResponse
        if refusal is not None:
            answer = refusal
        else:
            try:
                answer = await handler(request)
            except web.HTTPException as error:
                answer = failure(error.status, _code(error), error.reason, headers=_allowed(error))
            except OutputError as error:
                answer = failure(503, "unavailable", str(error))
        return answer

    return guard


async def _secured(request: web.Request, answer: web.StreamResponse) -> None:  # noqa: ARG001 - aiohttp's shape
    """Headers of every answer, whoever makes it."""
    if not isinstance(answer, web.WebSocketResponse):
        for name, value in _SECURITY.items():
            answer.headers.setdefault(name, value)
        answer.headers.setdefault("Cache-Control", "no-store")


def _refusal(service: "Service", page: "Page", request: web.Request) -> web.Response | None:
    """Why the request is not answered; None when nothing is against it."""
    if not service.guard.hosts_match(request):
        return failure(403, "forbidden", "this Host is not served here (see --allow-host)")
    if not service.guard.origin_matches(request):
        return failure(403, "forbidden", "this Origin is not allowed (see --allow-origin)")
    if request.path in _OPEN or page.holds(request.path):
        return None
    return None if service.guard.admits(request) else _unauthorized()


def _unauthorized() -> web.Response:
    return failure(
        401, "auth_failed", "the token is missing or wrong", headers={"WWW-Authenticate": 'Bearer realm="agentpipe"'}
    )


def failure(
    status: int, code: str, message: str, *, field: str | None = None, headers: dict[str, str] | None = None
) -> web.Response:
    """An error as the API tells it."""
    shape = {"code": code, "message": message, **({"field": field} if field else {})}
    return web.Response(body=encode(shape), status=status, content_type="application/json", headers=headers)


def _json(value: JSON, status: int = 200) -> web.Response:
    return web.Response(body=encode(value), status=status, content_type="application/json")


def _code(error: web.HTTPException) -> str:
    return {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(error.status, "bad_request")


def _allowed(error: web.HTTPException) -> dict[str, str] | None:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    """A whole number from the query, at most *most*. Raises ValueError with the parameter's name."""
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 19:
        raise ValueError(name)
    return min(int(text), most)


_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def _lines(body: bytes) -> list[bytes]:
    """The events of a body: lines of NDJSON, the elements of an array, or one object written as anybody likes."""
    text = body.strip()
    if text.startswith(b"["):
        try:
            return [bytes(raw).replace(b"\n", b" ") for raw in _ARRAY.decode(text)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [text.replace(b"\n", b" ")]  # not JSON: refused as one
    lines = [line.strip(b"\r") for line in text.split(b"\n") if line and not line.isspace()]
    if len(lines) > 1 and not _is_object(lines[0]) and _is_object(text):
        return [b" ".join(lines)]
    return lines


def _is_object(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _receipt(admitted: Admitted) -> dict[str, JSON]:
    refused = [{"index": index, "code": code, "message": message} for index, code, message in admitted.refused]
    return {"accepted": admitted.new, "known": admitted.known, "refused": refused}
