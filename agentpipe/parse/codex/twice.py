"""What a rollout tells twice: as what the model said (``response_item``) and as what a user saw (``event_msg``).

The rule this module keeps: the first of the two is told, at once, and the second is not; so a rollout in which one of
the families is missing, as old and new versions have them, still tells everything.
"""

from collections import deque
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Family", "Twice"]

Family: TypeAlias = Literal["item", "event"]

#: The two stand a few lines apart; what has waited for longer has no second.
_REMEMBERED = 64


class _Told(NamedTuple):
    family: Family
    kind: str
    text: str
    own_id: str


class Twice:
    """What was told by one family and may come again from the other."""

    def __init__(self) -> None:
        self._waiting: deque[_Told] = deque(maxlen=_REMEMBERED)

    def first(self, family: Family, kind: str, text: str, own_id: str = "") -> bool:
        """Whether this is news. The other family's is the same by its id, or by its text when one has no id (what a
        user saw may lack marks that the model made).
        """
        for told in self._waiting:
            if told.family == family or told.kind != kind:
                continue
            same = told.own_id == own_id if told.own_id and own_id else told.text == text
            if same:
                self._waiting.remove(told)
                return False
        self._waiting.append(_Told(family, kind, text, own_id))
        return True
