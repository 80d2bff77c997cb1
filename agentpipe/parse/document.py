"""One JSON value printed over many lines, put together again.

The rule this module keeps: lines are held only as long as they can still become one value, and never more of them
than the limit; what does not become one is given back line by line.
"""

from agentpipe.event import JSON, decode

__all__ = ["Document"]

#: What a pretty-printer's first line looks like, and the line that ends what it began.
_OPENERS = {"{": "}", "[": "]", "[{": "]"}

#: As much as one line may hold: a session's whole array, pretty-printed.
_MOST_CHARACTERS = 16 * 1024 * 1024


class Document:
    """Holds the lines of a value that is not whole yet."""

    def __init__(self) -> None:
        self.lines: list[str] = []  # that are held
        self._closers: tuple[str, ...] = ()  # lines that may end the value
        self._characters = 0

    def begins(self, text: str) -> bool:
        """Whether *text* can be the first line of a value over many lines."""
        return text.strip() in _OPENERS

    def fits(self, text: str) -> bool:
        """Whether *text* can follow what is held: a value begins only after a bracket, a comma or a colon."""
        if not self.lines:
            return self.begins(text)
        if self._characters + len(text) > _MOST_CHARACTERS:
            return False
        start = text.lstrip()[:1]
        before = self.lines[-1].rstrip()[-1:]
        return start not in ("{", "[") or before in ("[", ",", ":", "{")

    def add(self, text: str) -> JSON:
        """Take the next line; the whole value once it is there, else None."""
        if not self.lines:
            self._closers = _closers(text.rstrip())
        self.lines.append(text)
        self._characters += len(text)
        if text.rstrip() not in self._closers:
            return None
        try:
            return decode("\n".join(self.lines).encode("utf-8", "surrogatepass"))
        except ValueError:
            return None

    def take(self) -> list[str]:
        """The lines that were held; nothing is held any more."""
        lines, self.lines, self._characters = self.lines, [], 0
        return lines


def _closers(first: str) -> tuple[str, ...]:
    """The lines that may end what the line *first* began: a logger may indent the first line alone."""
    indent = first[: len(first) - len(first.lstrip())]
    closer = _OPENERS[first.strip()]
    return (indent + closer, closer, indent + "}" + closer)
