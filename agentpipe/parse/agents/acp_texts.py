"""Messages of the Agent Client Protocol, which come in chunks without an end, or whole, or both.

The rules this module keeps: a message ends with what comes next; a whole message replaces its chunks and, said again,
says nothing; what an agent repeats of the user's last prompt is not told twice; a message that goes on after its end
is another.
"""

from agentpipe.event import JSON
from agentpipe.parse.adapter import Draft, Whole
from agentpipe.parse.agents.acp_tools import text_of
from agentpipe.parse.vocabulary.content import media_of
from agentpipe.parse.vocabulary.fields import items, string
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.texts import Texts, TextType

__all__ = ["MESSAGES", "Messages"]

#: The updates that carry messages, and what each is; the user's own are told whole.
MESSAGES: dict[str, tuple[TextType, bool]] = {
    "agent_message": ("agent_output", False),
    "agent_message_chunk": ("agent_output", False),
    "agent_thought": ("agent_thinking", False),
    "agent_thought_chunk": ("agent_thinking", False),
    "user_message": ("agent_output", True),
    "user_message_chunk": ("agent_output", True),
}

_CHUNK = "_chunk"


class Messages:
    """The messages of one session; *texts* are the run's."""

    def __init__(self, texts: Texts) -> None:
        # given
        self._texts = texts
        # changing
        self.said = ""  # the agent's last text of the turn
        self._prompt = ""  # the user's last
        self._count = 0  # of messages
        self._open: tuple[str, str] | None = None  # kind and id of the message whose chunks come
        self._parts: list[str] = []
        self._media: list[Whole] = []
        self._ends: dict[str, int] = {}  # how often the message of an id was told whole
        self._last = ("", "")  # id and text of the last that was

    def prompted(self, blocks: list[JSON], stamp: Stamp) -> list[Draft]:
        """The client's prompt begins a turn."""
        out = self.settled(stamp)
        self.said = ""
        self._prompt = "\n".join(text for text in map(text_of, blocks) if text)
        told = self._texts.final(stamp, "agent_output", self._name(""), self._prompt, role="user")
        for draft in told:
            draft.whole = media_of(blocks)
        return out + told

    def update(self, kind: str, update: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """A chunk of a message, or a whole one."""
        named = string(update.get("messageId"))
        if not kind.endswith(_CHUNK):
            return self._whole(kind, named, update.get("content"), stamp)
        kind = kind.removesuffix(_CHUNK)
        out: list[Draft] = []
        if self._open is None or self._open[0] != kind or (named and self._open[1] != named):
            out = self.settled(stamp)
            self._open = kind, self._name(named)
        text = text_of(update.get("content"))
        self._parts.append(text)
        self._media += media_of([update.get("content")])
        type_, users = MESSAGES[kind]
        return out if users else out + self._texts.part(stamp, type_, self._place(self._open[1]), text)

    def settled(self, stamp: Stamp, **marks: JSON) -> list[Draft]:
        """Nothing more of the open message will come."""
        if self._open is None:
            return []
        (kind, named), text, media = self._open, "".join(self._parts), tuple(self._media)
        self._open, self._parts, self._media = None, [], []
        type_, users = MESSAGES[kind]
        if users:
            if text == self._prompt:
                return []
            marks["role"] = "user"
        told = self._texts.final(stamp, type_, self._place(named), text, **marks)
        self._ends[named] = self._ends.get(named, 0) + 1
        self._last = named, text
        if kind == "agent_message":
            self.said = text
        for draft in told:
            draft.whole = media
        return told

    def _whole(self, kind: str, named: str, blocks: JSON, stamp: Stamp) -> list[Draft]:
        """A message of version 2; without a content it changes nothing that we tell."""
        text = "".join(map(text_of, items(blocks)))
        mine = self._open is not None and self._open == (kind, named)
        if blocks is None or (not mine and self._last == (named, text)):
            return []
        out = [] if mine else self.settled(stamp)
        if not mine:
            self._open = kind, self._name(named)
        self._parts, self._media = [text], list(media_of(blocks))
        return out + self.settled(stamp)

    def _name(self, named: str) -> str:
        self._count += 1
        return named or f"message-{self._count}"

    def _place(self, named: str) -> str:
        ends = self._ends.get(named)
        return f"{named}~{ends}" if ends else named
