"""Texts of Claude Code and their identity: parts as they stream, and the whole once.

The rule this module keeps: a text is told as final exactly once for its place (``message_id``, ``index``). In partial
mode the parts come first (``final`` false, the new text only) and the whole ``assistant`` line, which comes before the
block's stop, replaces them. A message that starts anew after a cut stream takes back what was told of the cut one
(final, empty, ``retracted``); what a cut run left open is told whole as ``aborted``.

Source of the shapes: the Messages API's stream events inside ``stream_event`` lines.
"""

from typing import Any, TypeAlias

import msgspec

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole

__all__ = ["Texts"]

#: Messages and lines remembered for pairing: blocks of one message come close together, and a run may last for days.
_REMEMBERED = 256

_TYPES = {"text": "agent_output", "thinking": "agent_thinking"}
_DELTAS = {"text_delta": ("agent_output", "text"), "thinking_delta": ("agent_thinking", "thinking")}
_SILENT_DELTAS = frozenset({"input_json_delta", "signature_delta", "citations_delta", "compaction_delta"})
_SILENT = frozenset({"content_block_stop", "message_delta", "message_stop", "ping", "error"})


#: The type of a text's event, its ``message_id`` and ``index``, and its scope.
_Place: TypeAlias = tuple[str, str, int, str | None]


class _Block(msgspec.Struct, gc=False):
    """A block that streams: its event type ("" for a tool call), its parts, whether its whole line came."""

    type: str
    pieces: list[str] = []
    done: bool = False


class _Message(msgspec.Struct, gc=False):
    """A message of the API: the name it is told by, its streaming blocks, and the next free index."""

    name: str
    model: str = ""
    blocks: dict[int, _Block] = {}
    next: int = 0
    stopped: bool = False

    def open_texts(self) -> list[tuple[int, _Block]]:
        return [(index, block) for index, block in self.blocks.items() if block.pieces and not block.done]


class Texts:
    """The texts of one run. A *scope* is the tool-use id of the sub-agent that speaks, None for the main agent."""

    def __init__(self) -> None:
        self._messages: dict[str, _Message] = {}  # by the API's id; the latest attempt
        self._current: dict[str | None, _Message] = {}  # what streams, by scope
        self._told: dict[str, list[_Place]] = {}  # finals by the uuid of their line
        self._attempts = 0

    def streams(self, message_id: str) -> bool:
        """Whether the message came in parts, so that its true usage comes in a ``message_delta``."""
        message = self._messages.get(message_id)
        return message is not None and bool(message.blocks)

    def streaming(self, scope: str | None) -> tuple[str, str]:
        """The name and the model of the message that streams in *scope*; empty when none does."""
        message = self._current.get(scope)
        return (message.name, message.model) if message is not None else ("", "")

    def stream(self, event: dict[str, JSON], named: str, scope: str | None, at: str) -> list[Draft] | None:
        """Take one streaming event; *named* is the message id that the line gives, or empty. None: not known."""
        kind = string(event.get("type"))
        if kind == "content_block_delta":
            return self._delta(event, named, scope, at)
        if kind == "content_block_start":
            return self._block_start(event, named, scope, at)
        if kind == "message_start":
            return self._message_start(mapping(event.get("message")), named, scope, at)
        if kind == "message_stop" and scope in self._current:
            self._current[scope].stopped = True
        return [] if kind in _SILENT else None

    def more(self, event: dict[str, JSON], text: str, scope: str | None, at: str) -> list[Draft] | None:
        """More *text* of a block whose start was told; None when it is no such, and `stream` has to look closer."""
        message, index = self._current.get(scope), event.get("index")
        if message is None or type(index) is not int or event.get("type") != "content_block_delta":
            return None
        block = message.blocks.get(index)
        if block is None or block.done or not block.type or not text:
            return None
        block.pieces.append(text)
        payload = {"message_id": message.name, "index": index, "text": text, "final": False}
        return [Draft(block.type, payload, at, scope)]

    def place(self, message_id: str, type: str, scope: str | None, at: str) -> tuple[list[Draft], str, int, str]:  # noqa: A002 - the event's field
        """Where a finished block stands: what must be told before, the message's name, the index, the parts so far."""
        message = self._messages.get(message_id)
        current = self._current.get(scope)
        before = self._settled(current, scope, at) if current is not None and current is not message else []
        if message is None:
            message = self._remember(message_id, _Message(message_id))
        if message.blocks:
            for index, block in message.blocks.items():
                if not block.done and block.type == type:
                    block.done = True
                    parts = "".join(block.pieces)
                    block.pieces = []
                    return before, message.name, index, parts
        index = message.next
        message.next += 1
        return before, message.name, index, ""

    def told(self, uuid: str, draft: Draft) -> None:
        """Remember that the line *uuid* made the final *draft*, in case it is taken back."""
        if uuid:
            place = (draft.type, draft.payload["message_id"], draft.payload["index"], draft.parent_id)
            told = self._told
            if uuid in told:
                told[uuid].append(place)
                return
            told[uuid] = [place]
            if len(told) > _REMEMBERED:
                del told[next(iter(told))]

    def retract(self, uuids: JSON, at: str) -> list[Draft]:
        """Take back the texts of the lines *uuids*, as far as they are remembered."""
        places = [place for uuid in items(uuids) for place in self._told.pop(string(uuid), [])]
        return [_final(type_, name, index, "", scope, at, "retracted") for type_, name, index, scope in places]

    def settle(self, at: str) -> list[Draft]:
        """The turn or the run is over: tell whole what was left open, in the order in which it began."""
        out: list[Draft] = []
        if self._current:
            for scope, message in self._current.items():
                out += self._close(message, scope, at, "" if message.stopped else "aborted")
            self._current.clear()
        return out

    def _message_start(self, given: dict[str, JSON], named: str, scope: str | None, at: str) -> list[Draft]:
        before = self._current.get(scope)
        out = self._settled(before, scope, at) if before is not None else []
        message_id = string(given.get("id")) or named or self._fresh()
        name = message_id
        if message_id in self._messages and self._messages[message_id].blocks:
            self._attempts += 1  # parts of a second attempt must not be added to those of the first
            name = f"{message_id}~{self._attempts}"
        model = string(given.get("model"))
        self._current[scope] = self._remember(message_id, _Message(name, "" if model == "<synthetic>" else model))
        return out

    def _block_start(self, event: dict[str, JSON], named: str, scope: str | None, at: str) -> list[Draft]:
        message = self._streaming(named, scope)
        index = _index(event, message)
        given = mapping(event.get("content_block"))
        kind = string(given.get("type"))
        message.blocks[index] = _Block(_TYPES.get(kind, ""))
        message.next = max(message.next, index + 1)
        return self._part(message, index, string(given.get(kind)), scope, at) if kind in _TYPES else []

    def _delta(self, event: dict[str, JSON], named: str, scope: str | None, at: str) -> list[Draft] | None:
        delta = mapping(event.get("delta"))
        kind = string(delta.get("type"))
        if kind in _SILENT_DELTAS:
            return []
        if kind not in _DELTAS:
            return None
        type_, field = _DELTAS[kind]
        message = self._streaming(named, scope)
        index = _index(event, message)
        if index not in message.blocks:
            message.blocks[index] = _Block(type_)
            message.next = max(message.next, index + 1)
        return self._part(message, index, string(delta.get(field)), scope, at)

    def _part(self, message: _Message, index: int, text: str, scope: str | None, at: str) -> list[Draft]:
        block = message.blocks[index]
        if not text or block.done or not block.type:
            return []
        block.pieces.append(text)
        payload = {"message_id": message.name, "index": index, "text": text, "final": False}
        return [Draft(block.type, payload, at, scope)]

    def _settled(self, message: _Message, scope: str | None, at: str) -> list[Draft]:
        """Another message follows: take back what a cut one left open, or close one that was whole."""
        return self._close(message, scope, at, "" if message.stopped else "retracted")

    def _close(self, message: _Message, scope: str | None, at: str, mark: str) -> list[Draft]:
        out = []
        for index, block in message.open_texts():
            text = "" if mark == "retracted" else "".join(block.pieces)
            out.append(_final(block.type, message.name, index, text, scope, at, mark))
            block.done, block.pieces = True, []
        return out

    def _streaming(self, named: str, scope: str | None) -> _Message:
        """The message that streams in *scope*; one whose start was lost begins here."""
        message = self._current.get(scope)
        if message is None:
            name = named or self._fresh()
            message = self._messages.get(name) or self._remember(name, _Message(name))
            self._current[scope] = message
        return message

    def _remember(self, message_id: str, message: _Message) -> _Message:
        self._messages.pop(message_id, None)
        self._messages[message_id] = message
        if len(self._messages) > _REMEMBERED:
            del self._messages[next(iter(self._messages))]
        return message

    def _fresh(self) -> str:
        self._attempts += 1
        return f"message-{self._attempts}"


def _index(event: dict[str, JSON], message: _Message) -> int:
    found = whole(event.get("index"))
    return found if found is not None else max(message.next - 1, 0)


def _final(
    type: str,  # noqa: A002 - the event's field
    name: str,
    index: int,
    text: str,
    scope: str | None,
    at: str,
    mark: str,
) -> Draft:
    payload: dict[str, Any] = {"message_id": name, "index": index, "text": text, "final": True}
    if mark:
        payload[mark] = True
    return Draft(type, payload, at, scope)
