"""One WebSocket connection: what a client says, and what it is told in answer.

The rule this module keeps: a bad message hurts its sender alone, and control messages never queue behind data: they
are written at once, past the cursors, and a client that does not even read those is closed.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from agentpipe import wire
from agentpipe.admission import Admitted
from agentpipe.errors import OutputError, ProtocolError
from agentpipe.event import JSON, timestamp
from agentpipe.history import Position
from agentpipe.request import Auth, Hello, Ping, Publish, Snapshot, Subscribe, Unsubscribe, id_of, parse_client_message
from agentpipe.store import Sender

if TYPE_CHECKING:
    from agentpipe.hub import Subscription
    from agentpipe.io.serve.service import Service

__all__ = ["Connection", "websocket"]

#: The time a client has to say who it is.
AUTH_S = 5.0

#: Control messages that a client may leave unread before it is closed; a snapshot is the largest of them.
CONTROL_BYTES = 4 << 20

#: Errors told one by one for a batch; the rest is told as a number.
ERRORS_TOLD = 5

#: Inbound messages over the limit, up to this, are answered; larger ones end the connection with 1009 (RFC 6455).
READ_BYTES = 2 * wire.MAX_PUBLISH_BYTES

#: How long a closing client has to take what is still written to it.
LINGER_S = 2.0

_ENDED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)

SCOPES = ["publish", "subscribe", "admin"]


async def websocket(service: "Service", request: web.Request) -> web.StreamResponse:
    """Serve one connection from its upgrade to its end."""
    admitted = service.guard.admits(request)
    response = web.WebSocketResponse(
        protocols=(wire.PROTOCOL,),
        compress=False,
        autoping=False,
        max_msg_size=READ_BYTES,
        timeout=LINGER_S,
        autoclose=False,
        decode_text=False,
    )
    await response.prepare(request)
    if request.transport is None:
        return response  # gone during the handshake
    connection = Connection(service, request.transport, response)
    await connection.run(admitted)
    return response


class Connection:
    """A client. The feed writes to its ``transport``; everything else goes through `send`."""

    def __init__(
        self, service: "Service", transport: asyncio.Transport, response: "web.WebSocketResponse[Any]"
    ) -> None:
        # given
        self.transport = transport
        self._service = service
        self._response = response
        self.id = service.new_connection_id()
        # changing
        self._subscriptions: dict[wire.SubscriptionId, Subscription[Connection]] = {}
        self._looking: dict[wire.SubscriptionId, Subscribe] = {}  # those whose start is being looked up
        self._settled = 0  # events of this connection that are settled, in order of sending
        self._acks: dict[str, int] = {}
        self._closing = False
        self._held = False  # we do not listen, because the store is behind
        self._unread = 0  # bytes of control messages behind more than a client may leave unread
        self._pending = 0  # bytes that were still to be taken at the last heartbeat
        self._heard_at = service.clock()
        self._sender: Sender | None = None

    async def run(self, admitted: bool | None) -> None:
        """Authenticate, then answer messages until the client or we close."""
        try:
            if admitted is None:
                admitted = await self._authenticate()
            if not admitted:
                self._refuse_token()
                return
            self._service.connections.add(self)
            self._welcome()
            await self._listen()
        finally:
            self._service.connections.discard(self)
            for subscription in self._subscriptions.values():
                self._leave(subscription)
            await self._close_transport()

    # --- what the client says

    async def _authenticate(self) -> bool | None:
        try:
            async with asyncio.timeout(AUTH_S):
                message = await self._response.receive()
        except TimeoutError:
            return False
        if message.type is not WSMsgType.TEXT:
            return False
        try:
            found = parse_client_message(message.data)
        except ProtocolError:
            return False
        return isinstance(found, Auth) and self._service.guard.knows(found.token)

    async def _listen(self) -> None:
        while not self._is_closing():
            message = await self._response.receive()
            self._heard_at = self._service.clock()
            if message.type is WSMsgType.TEXT:
                if self._is_closing():
                    # It came with our goodbye on its way. Events behind those that failed must not be taken: these
                    # would look known when they are sent again.
                    return
                self._hear(message.data)
                self._held = True
                await self._service.intake.room()
                self._held = False
            elif message.type is WSMsgType.PING:
                self.write(wire.pong_frame(message.data))
            elif message.type is WSMsgType.BINARY:
                self.error("bad_message", "binary frames are not part of the protocol")
                self.dismiss(4403)
            elif message.type is WSMsgType.CLOSE:
                self.write(wire.close_frame(_answer_to(message.data), ""))
                return
            elif message.type in _ENDED:
                return

    def _is_closing(self) -> bool:
        return self._closing

    def _hear(self, data: bytes) -> None:
        if len(data) > wire.MAX_PUBLISH_BYTES:
            self.error("too_large", f"a message has at most {wire.MAX_PUBLISH_BYTES} bytes")
            self.dismiss(4413)
            return
        if not _is_utf_8(data):
            self._end(1007, "text is not UTF-8")  # RFC 6455 §8.1; no goodbye, as after any other broken frame
            return
        try:
            found = parse_client_message(data)
        except ProtocolError as error:
            self.error(error.code, error.problem, id_of(data))
            return
        match found:
            case Publish():
                self._publish(found.lines)
            case Hello():
                self._introduce(found.sender)
            case Subscribe():
                self._subscribe(found)
            case Unsubscribe():
                self._unsubscribe(found.id)
            case Snapshot():
                self._send_snapshot()
            case Ping():
                self.send(wire.control("pong", timestamp=timestamp(self._service.clock())))
            case Auth():
                self.error("bad_message", "you are authenticated already")

    def _publish(self, lines: Sequence[bytes]) -> None:
        if self._service.stopping:
            return  # not acknowledged: the publisher sends it again to the next hub

        def settled(admitted: Admitted | None) -> None:
            self._settle(lines, admitted)

        self._service.intake.take(lines, settled, self._sender)

    def _introduce(self, sender: Sender) -> None:
        """The publisher says who it is: an older connection of it that is still open will hear that it is no more."""
        self._sender = sender
        for other in tuple(self._service.connections):
            if other is not self and other.is_older_than(sender):
                other.fence()

    def is_older_than(self, sender: Sender) -> bool:
        """Whether this is an earlier connection of the same publisher."""
        own = self._sender
        return own is not None and own.id == sender.id and own.generation < sender.generation

    def fence(self) -> None:
        """Tell a publisher that it has been replaced, and close."""
        self.error("fenced", "a newer connection of this publisher has taken over")
        self.dismiss(4409)

    def _tell_refused(self, lines: Sequence[bytes], admitted: Admitted) -> None:
        for refusal in admitted.refused[:ERRORS_TOLD]:
            shown = lines[refusal.place][:80].decode(errors="replace")
            self.error(refusal.code, f"event {refusal.place} of the batch: {refusal.message}: {shown}", count=1)
        more = len(admitted.refused) - ERRORS_TOLD
        if more > 0:
            self.error("bad_event", f"{more} more events of the batch were refused", count=more)

    def _settle(self, lines: Sequence[bytes], admitted: Admitted | None) -> None:
        """Refusals are told with the acknowledgement, so that a batch that is sent again is not refused twice."""
        if admitted is not None and admitted.fenced:
            self.fence()
            return
        if admitted is None:
            self.error("unavailable", f"the store failed: {self._service.intake.problem}")
            self.dismiss(4200)
            return
        self._tell_refused(lines, admitted)
        self._settled += len(lines)
        if not self._acks:
            asyncio.get_running_loop().call_soon(self._acknowledge)
        self._acks.update(admitted.lasts or {"": 0})

    def _acknowledge(self) -> None:
        acks, self._acks = self._acks, {}
        if len(acks) > 1:
            acks.pop("", None)
        frames = [
            wire.frame(wire.control("ack", run_id=run_id, sequence=sequence, count=self._settled))
            for run_id, sequence in acks.items()
        ]
        self.write(b"".join(frames))

    # --- subscriptions

    def _subscribe(self, asked: Subscribe) -> None:
        replaced = self._subscriptions.pop(asked.id, None)
        if replaced is not None:
            self._leave(replaced)
        self._looking.pop(asked.id, None)
        if len(self._subscriptions) + len(self._looking) >= wire.MAX_SUBSCRIPTIONS:
            self.error("too_many_subscriptions", f"a connection has at most {wire.MAX_SUBSCRIPTIONS}", asked.id)
            return
        if asked.since.kind == "last" and asked.since.number:
            self._looking[asked.id] = asked
            self._service.spawn(self._subscribe_last(asked))
            return
        self._start(asked, *self._service.resolve(asked.since))

    async def _subscribe_last(self, asked: Subscribe) -> None:
        """`since: {"last": n}` may have to look through the store; the client's other messages do not wait for it."""
        try:
            offset = await self._service.before_last(asked.filter, asked.since.number)
        except OutputError as error:
            if self._looking.get(asked.id) is asked:
                del self._looking[asked.id]
                self.error("unavailable", str(error), asked.id)
            return
        if not self._closing and self._looking.get(asked.id) is asked:  # else ended or replaced meanwhile
            del self._looking[asked.id]
            self._start(asked, offset, None)

    def _start(self, asked: Subscribe, offset: int, gap: dict[str, JSON] | None) -> None:
        position = Position(self._service.epoch, offset)
        shown = wire.filter_json(asked.filter)
        confirmed = wire.control(
            "subscription_confirmed", id=asked.id, filter=shown, position=position, recovered=gap is None
        )
        self.send(confirmed)
        if gap is not None:
            self.send(wire.control("gap", id=asked.id, **gap))
        if gap is not None or asked.snapshot:
            self._send_snapshot()
        self._subscriptions[asked.id] = self._service.hub.join(
            self, asked.id, asked.filter, offset, accumulate=asked.accumulate, max_rate=asked.max_rate
        )
        self._service.feed.wake()

    def _send_snapshot(self) -> None:
        self.write(b"".join(map(wire.frame, self._service.snapshot())))

    def _unsubscribe(self, own_id: wire.SubscriptionId) -> None:
        subscription = self._subscriptions.pop(own_id, None)
        if subscription is None and own_id not in self._looking:
            self.error("bad_message", "there is no subscription with this id", own_id)
            return
        self._looking.pop(own_id, None)
        if subscription is not None:
            self._leave(subscription)
        self.send(wire.control("unsubscribed", id=own_id))

    def _leave(self, subscription: "Subscription[Connection]") -> None:
        self._service.hub.leave(subscription)
        self._service.feed.forget(subscription)

    def silent_s(self, now: float) -> float:
        """How long nothing was heard of the client; asked once a heartbeat. To take bytes is to be heard of: our ping
        waits behind them. While we do not listen there is nothing to hear.
        """
        pending = self.transport.get_write_buffer_size()
        if self._held or pending < self._pending:
            self._heard_at = now
        self._pending = pending
        return now - self._heard_at

    # --- what the client is told

    def send(self, payload: bytes) -> None:
        """Send one message at once, past the data."""
        self.write(wire.frame(payload))

    def write(self, frames: bytes) -> None:
        """Write whole frames; a client that reads none of them is closed."""
        if self._closing or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() <= CONTROL_BYTES:
            self._unread = 0
        else:  # one large event may be what is unread: only what comes behind it counts
            self._unread += len(frames)
        if self._unread > CONTROL_BYTES:
            self._closing = True
            self.transport.abort()
            return
        self.transport.write(frames)

    def error(
        self, code: str, message: str, in_reply_to: wire.SubscriptionId | None = None, *, count: int | None = None
    ) -> None:
        """Tell this client, and nobody else, what is wrong; *count* is how many of its events are refused by that."""
        fields: dict[str, JSON] = {"code": code, "message": message}
        if count is not None:
            fields["count"] = count
        if in_reply_to is not None:
            fields["in_reply_to"] = in_reply_to
        self.send(wire.control("error", **fields))

    def dismiss(self, code: int) -> None:
        """Say goodbye with *code* and close."""
        reason, after_ms = wire.CLOSE_CODES[code]
        reconnect = wire.verdict(code) is not wire.Verdict.STOP
        # Spread over twice the time, so that clients that were closed together do not come back together.
        wait_ms = after_ms + random.randrange(after_ms + 1)  # noqa: S311 - jitter, no secret
        self.send(wire.control("bye", code=code, reason=reason, reconnect=reconnect, after_ms=wait_ms))
        self._end(code, reason)

    def _end(self, code: int, reason: str) -> None:
        """Close with *code*; a client that does not answer that is cut off after a moment."""
        self.write(wire.close_frame(code, reason))
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_later(2 * LINGER_S, self.transport.abort)

    def _welcome(self) -> None:
        service = self._service
        welcome = wire.control(
            "welcome",
            protocol=wire.PROTOCOL,
            connection_id=self.id,
            epoch=service.epoch,
            head=service.hub.head,
            oldest=service.hub.oldest,
            heartbeat_s=service.heartbeat_s,
            scopes=SCOPES,
            limits=wire.limits(),
        )
        self.send(welcome)

    def _refuse_token(self) -> None:
        self.error("auth_failed", "the token is missing or wrong")
        self.dismiss(4401)

    async def _close_transport(self) -> None:
        """End the connection: give the client a moment to read our goodbye and to answer it, then hang up."""
        if self._closing and not self._response.closed:
            try:
                async with asyncio.timeout(LINGER_S):
                    while (await self._response.receive()).type not in _ENDED:
                        pass
            except TimeoutError:
                pass  # it had its moment
        self._closing = True
        self.transport.close()


def _is_utf_8(data: bytes) -> bool:
    """Whether the payload of a text frame is text; aiohttp does not look, because we take the bytes."""
    try:
        return data.isascii() or data.decode() is not None
    except UnicodeDecodeError:
        return False


def _answer_to(code: int) -> int:
    """The code that answers a client's close frame: its own, 1000 when it gave none, and 1002 when it gave one that no
    close frame may carry (RFC 6455 §7.4). aiohttp refuses the others of these itself.
    """
    return 1002 if code == 1006 or code >= 5000 else code or 1000
