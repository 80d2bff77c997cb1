"""Texts that come in parts, whole, or both: told as chunks and then once as final.

The rule this module keeps: a text is told as final exactly once for its place (``message_id``, ``index``), whole; its
chunks carry the new text only; an empty text says nothing. What a cut run leaves open is told whole as ``aborted``.
"""

from typing import Any, Literal, TypeAlias

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft
from agentpipe.parse.vocabulary.stamp import Stamp

__all__ = ["TextType", "Texts"]

TextType: TypeAlias = Literal["agent_output", "agent_thinking"]

#: Type, ``message_id``, ``index`` and scope.
_Place: TypeAlias = tuple[str, str, int, str | None]


class Texts:
    """The texts of one run."""

    def __init__(self) -> None:
        self._open: dict[_Place, list[str]] = {}  # the parts of what is not final, in the order in which it began

    def is_open(self, type: TextType, message_id: str, index: int = 0, scope: str | None = None) -> bool:  # noqa: A002 - the event's field
        """Whether parts of the text were told and its whole was not."""
        return (type, message_id, index, scope) in self._open

    def part(self, stamp: Stamp, type: TextType, message_id: str, text: str, index: int = 0) -> list[Draft]:  # noqa: A002 - the event's field
        """More of a text."""
        if not text:
            return []
        self._open.setdefault((type, message_id, index, stamp.scope), []).append(text)
        payload = {"message_id": message_id, "index": index, "text": text, "final": False}
        return [Draft(type, payload, stamp.at, stamp.scope)]

    def final(
        self,
        stamp: Stamp,
        type: TextType,  # noqa: A002 - the event's field
        message_id: str,
        text: str | None = None,
        index: int = 0,
        **marks: JSON,
    ) -> list[Draft]:
        """The whole text, which replaces its parts; None: it is what the parts make. *marks* are added."""
        parts = self._open.pop((type, message_id, index, stamp.scope), None)
        said = text if text is not None else "".join(parts or ())
        if not said and parts is None:
            return []
        payload: dict[str, Any] = {"message_id": message_id, "index": index, "text": said, "final": True, **marks}
        return [Draft(type, payload, stamp.at, stamp.scope)]

    def settle(self, stamp: Stamp, **marks: JSON) -> list[Draft]:
        """Nothing more of the open texts of the stamp's scope will come: tell them whole."""
        places = [place for place in self._open if place[3] == stamp.scope]
        return [self._closed(place, stamp.at, marks) for place in places]

    def settle_all(self, at: str, **marks: JSON) -> list[Draft]:
        """The run is over: tell whole what is open in any scope."""
        return [self._closed(place, at, marks) for place in list(self._open)]

    def _closed(self, place: _Place, at: str, marks: dict[str, JSON]) -> Draft:
        type_, message_id, index, scope = place
        text = "".join(self._open.pop(place))
        payload: dict[str, Any] = {"message_id": message_id, "index": index, "text": text, "final": True, **marks}
        return Draft(type_, payload, at, scope)
