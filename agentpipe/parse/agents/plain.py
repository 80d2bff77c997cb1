"""Plain text, line by line: the fallback for whatever no adapter knows.

The rule this module keeps: every line of stdout is one finished text, in order; ANSI escapes are taken out, because a
terminal's colours mean nothing in an event.
"""

import re
from collections.abc import Mapping

from agentpipe.event import JSON, encode
from agentpipe.parse.adapter import Clock, Draft, Moment, Outcome, Sureness
from agentpipe.parse.options import ParseOptions

__all__ = ["Plain", "without_ansi"]

#: ECMA-48: control sequences (CSI), strings such as window titles (OSC, DCS, …), and two-character escapes.
#: Compiled by `re` when it is first met, not at every start-up.
_ANSI = r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?"


def without_ansi(text: str) -> str:
    """*text* without the escapes that only a terminal understands."""
    return re.sub(_ANSI, "", text) if "\x1b" in text or "\x9b" in text else text


class Plain:
    """The adapter of text for the lines of one run; see `agentpipe.parse.adapter.Adapter`."""

    name = "plain"
    agent = "plain"
    suffix = ""

    def __init__(self, options: ParseOptions, clock: Clock) -> None:  # noqa: ARG002 - every adapter's shape
        # given
        self._clock = clock
        # changing
        self.facts: dict[str, JSON] = {}
        self.ready = True
        self.sessions: set[str] = set()
        self._lines = 0

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:  # noqa: ARG004 - every adapter's shape
        """Never: text is what is left when nobody else knows."""
        return Sureness.NO

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:  # noqa: ARG004 - every adapter's shape
        """Text has no sessions."""
        return ""

    def read(self, found: dict[str, JSON], moment: Moment, size: int) -> list[Draft]:  # noqa: ARG002 - every adapter's shape
        """A line that happens to be JSON is a text as well."""
        return self.read_text(encode(found).decode(), moment)

    def read_text(self, text: str, moment: Moment) -> list[Draft]:
        """One line of text."""
        payload = {"message_id": "stdout", "index": self._lines, "text": without_ansi(text), "final": True}
        self._lines += 1
        return [Draft("agent_output", payload, self._clock.at(None, moment))]

    def finish(self, moment: Moment) -> list[Draft]:  # noqa: ARG002 - every adapter's shape
        """Nothing was kept."""
        return []

    def outcome(self) -> Outcome:
        """Text says nothing about how it ended."""
        return Outcome(None, False, None, {})
