"""Texts as the ``MessageDisplay`` hook tells them: by lines while they stream, in flushes with an index from 0.

The rules this module keeps: hooks run side by side, so a flush may come before an earlier one; parts are told in order,
and the whole once the last and all before it are there. What ``Stop`` repeats is told only when no flush told it.
"""

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.fields import string, whole
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.texts import Texts

__all__ = ["Displayed"]

#: Messages remembered as told: what repeats one comes close to it.
_REMEMBERED = 64


class _Message:
    """A message that is being displayed: its flushes by index, how many were told, how many there are (or None)."""

    def __init__(self, scope: str | None) -> None:
        self.scope = scope
        self.flushes: dict[int, str] = {}
        self.told = 0
        self.count: int | None = None

    @property
    def text(self) -> str:
        return "".join(self.flushes[index] for index in sorted(self.flushes))


class Displayed:
    """The displayed texts of one session, told through its *texts*."""

    def __init__(self, texts: Texts) -> None:
        # given
        self._texts = texts
        # changing
        self._open: dict[str, _Message] = {}
        self._done: dict[str, None] = {}
        self._last: dict[str | None, str] = {}  # the last whole text, by scope

    def flush(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """More lines of a message."""
        message_id = string(found.get("message_id")) or string(found.get("turn_id")) or "display"
        if message_id in self._done:
            return []
        message = self._open.setdefault(message_id, _Message(stamp.scope))
        index = whole(found.get("index"))
        index = len(message.flushes) if index is None else index
        message.flushes.setdefault(index, string(found.get("delta")))
        if found.get("final") is True:
            message.count = index + 1
        if message.count is not None and len(message.flushes) >= message.count:
            return self._whole(message_id, message.text, stamp)
        return self._parts(message_id, message, stamp)

    def last(self, said: str, message_id: str, stamp: Stamp) -> list[Draft]:
        """A turn of the stamp's scope has ended with the text *said*, told as *message_id* unless it was told."""
        out: list[Draft] = []
        for name, message in list(self._open.items()):
            if message.scope == stamp.scope:
                out += self._cut(name, said, stamp)
        if said.strip() and self._last.get(stamp.scope, "").strip() != said.strip():
            out += self._texts.final(stamp, "agent_output", message_id, said)
        self._last.pop(stamp.scope, None)
        return out

    def finish(self, stamp: Stamp) -> list[Draft]:
        """The input has ended: tell what was held back because flushes before it are missing."""
        out: list[Draft] = []
        for name, message in list(self._open.items()):
            stamp.scope = message.scope
            out += self._cut(name, "", stamp)
        return out

    def _parts(self, message_id: str, message: _Message, stamp: Stamp) -> list[Draft]:
        out: list[Draft] = []
        while message.told in message.flushes:
            out += self._texts.part(stamp, "agent_output", message_id, message.flushes[message.told])
            message.told += 1
        return out

    def _cut(self, message_id: str, said: str, stamp: Stamp) -> list[Draft]:
        """Flushes of a message are missing: *said* stands in, if it goes on as the message began."""
        text = self._open[message_id].text
        if text and said.startswith(text):
            return self._whole(message_id, said, stamp)
        return self._whole(message_id, text, stamp, aborted=True)

    def _whole(self, message_id: str, text: str, stamp: Stamp, **marks: JSON) -> list[Draft]:
        scope = self._open.pop(message_id).scope
        self._last[scope] = text
        self._done[message_id] = None
        if len(self._done) > _REMEMBERED:
            del self._done[next(iter(self._done))]
        return self._texts.final(stamp, "agent_output", message_id, text, **marks)
