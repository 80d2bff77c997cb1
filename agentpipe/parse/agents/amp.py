"""Amp: ``amp -x --stream-json``, with or without ``--stream-json-thinking``.

The rules this module keeps: a thread is known by its id ``T-…``, which every line has; tokens are those of the
messages, added up; nobody tells the model or a cost.

Source: the owner's manual of Amp, which gives the types and examples; see ``docs/formats/amp.md``.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Sureness
from agentpipe.parse.agents.amp_tools import command_ended, effects_of, keeps_input, kind_of, title_of
from agentpipe.parse.agents.messages import Found, Messages, Returned
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.calls import Call
from agentpipe.parse.vocabulary.fields import string, whole
from agentpipe.parse.vocabulary.stamp import Stamp
from agentpipe.parse.vocabulary.usage import Tokens, tokens

if TYPE_CHECKING:
    from agentpipe.payload import Kind  # a name for mypy alone: its import is paid at start-up

__all__ = ["Amp"]

_THREAD = "T-"

_TYPES = frozenset({"assistant", "result", "system", "user"})


class Amp(Messages):
    """The adapter of Amp for the lines of one run; see `agentpipe.parse.adapter.Adapter`."""

    name = "amp"
    agent = "amp"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        # given
        self._limit = options.max_content

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """A line of a thread: no other agent calls its sessions so."""
        kind = found.get("type")
        if type(kind) is not str or kind not in _TYPES or "uuid" in found:
            return Sureness.NO
        return Sureness.SURE if string(found.get("session_id")).startswith(_THREAD) else Sureness.NO

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Every line has the thread's id."""
        return string(found.get("session_id"))

    def kind_of(self, name: str) -> "Kind":
        """The kind of the tool called *name*."""
        return kind_of(name)

    def title_of(self, name: str, given: Found) -> str:
        """How a call reads on one line."""
        return title_of(name, given)

    def keeps_input(self, name: str) -> bool:
        """Files and to-do lists."""
        return keeps_input(name)

    def meaning(self, call: Call, text: str, *, failed: bool) -> Returned:
        """A command's result is JSON in a text, with its exit status."""
        ended = command_ended(call.name, text)
        if ended is None:
            return Returned(not failed)
        status, printed = ended
        return Returned(not failed and not status, status, printed)

    def effects(self, stamp: Stamp, tool_use_id: str, call: Call, text: str) -> list[Draft]:
        """Files and to-do lists."""
        return effects_of(stamp, tool_use_id, call, text, self.plans, self._limit)

    def tokens_of(self, usage: Found) -> Tokens:
        """The input is without the cache. In the first version it was the sum of what the cache had and got."""
        read, written = whole(usage.get("cache_read_input_tokens")), whole(usage.get("cache_creation_input_tokens"))
        given = whole(usage.get("input_tokens"))
        cached = (read or 0) + (written or 0)
        return tokens(given, usage.get("output_tokens"), read, written, includes_cache=0 < cached == given)
