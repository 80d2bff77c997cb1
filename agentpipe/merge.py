"""Joining neighbouring chunks of one text into one event; for `throttle`, and for readers of the hub who ask for it.

The rule this module keeps: nothing but the number of events changes. Parts are joined only when they follow each other
in their run and differ in nothing but their text, number and time; the joined chunk keeps the number, id and time of
its last part and lists the others in ``covers`` (DESIGN "Holes").
"""

from typing import NamedTuple, Self

from agentpipe.event import JSON, Event, encode
from agentpipe.holes import numbers, tidied

__all__ = ["MERGED_BYTES", "TEXT_TYPES", "Chunk", "covering", "merged"]

TEXT_TYPES = frozenset({"agent_output", "agent_thinking"})

#: A joined chunk stays under this: half of a 64 KB message, whatever the escapes of the parts become.
MERGED_BYTES = 32 * 1024

_OWN = ("sequence", "timestamp", "event_id", "covers", "payload")


class Chunk(NamedTuple):
    """A chunk of a text: ``first`` and ``last`` are the ends of the numbers it stands for, ``frame`` what all chunks
    of the same text have in common.
    """

    event: Event
    first: int
    last: int
    key: tuple[str, JSON, JSON]
    text: str
    frame: tuple[dict[str, JSON], dict[str, JSON]]

    @classmethod
    def read(cls, event: Event) -> Self | None:
        """The chunk in *event*; None when it is none (another type, final, unnumbered, no text, not to be decoded)."""
        if event.type not in TEXT_TYPES or event.sequence is None:
            return None
        try:
            envelope = event.envelope
        except ValueError:  # an integer of 5000 digits: passed on as it is
            return None
        payload = envelope.get("payload")
        if not isinstance(payload, dict) or payload.get("final") is not False:
            return None
        text = payload.get("text")
        if not isinstance(text, str) or "message_id" not in payload:
            return None
        first = numbers(event)[0][0] if b'"covers"' in event.line else event.sequence
        key = (event.type, payload["message_id"], payload.get("index"))
        del payload["text"]  # the envelope was decoded for us alone: what is left is the frame
        for name in _OWN:
            envelope.pop(name, None)
        return cls(event, first, event.sequence, key, text, (envelope, payload))

    def precedes(self, other: "Chunk") -> bool:
        """Whether *other* goes on where this one stops."""
        return other.first == self.last + 1 and other.frame == self.frame

    def replaced_by(self, event: Event) -> bool:
        """Whether *event* is the final text that this is a chunk of."""
        if event.type != self.key[0] or event.run_id != self.event.run_id:
            return False
        payload = event.payload
        same = (payload.get("message_id"), payload.get("index")) == self.key[1:]
        return same and payload.get("final") is True


def merged(chunks: list[Chunk]) -> Event:
    """One event for *chunks*, each of which precedes the next; a single one is handed back untouched."""
    last = chunks[-1].event
    if len(chunks) == 1:
        return last
    envelope = last.envelope
    envelope["payload"]["text"] = "".join(chunk.text for chunk in chunks)
    return _covering(last, envelope, chunks[:-1])


def covering(final: Event, chunks: list[Chunk]) -> Event:
    """The whole text *final* in the place of its *chunks* as well, which come right before it."""
    return _covering(final, final.envelope, chunks)


def _covering(event: Event, envelope: dict[str, JSON], chunks: list[Chunk]) -> Event:
    """*event* as *envelope* has it, with the numbers of *chunks* in its ``covers``."""
    spans = [span for chunk in chunks for span in numbers(chunk.event)]
    envelope["covers"] = tidied([*spans, *_covered(event)])
    return Event(
        event.type, event.run_id, event.agent_id, event.work_id, event.sequence, event.event_id, encode(envelope)
    )


def _covered(event: Event) -> list[tuple[int, int]]:
    """What *event* covers besides itself."""
    spans = numbers(event)
    first, own = spans[-1]
    return [*spans[:-1], (first, own - 1)] if first < own else spans[:-1]
