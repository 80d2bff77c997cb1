"""How Codex words what all its formats share: shell commands, errors that are JSON, retries, results of MCP tools.

The rule this module keeps: a wrapper is taken off for people only; what the source said stands in the event.
"""

import re
from typing import TYPE_CHECKING, NamedTuple

from agentpipe.event import JSON, decode, encode
from agentpipe.parse.adapter import Draft, Whole
from agentpipe.parse.vocabulary.content import flat, media_of
from agentpipe.parse.vocabulary.drafts import error
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.plans import step
from agentpipe.progress import Step

if TYPE_CHECKING:
    from agentpipe.payload import Rank  # a name for mypy alone: its import is paid at start-up

__all__ = [
    "Problem", "as_object", "duration_ms", "mcp_result", "problem_of", "search_text", "steps_of", "trouble",
    "unwrapped",
]  # fmt: skip

#: A shell by name, its flags, and the one after which the script stands. Compiled by `re` when it is first met.
_WRAPPER = (
    r"(?:\S*[/\\])?(?:ba|z|da|k|fi)?sh(?:\.exe)?\s+(?:-\w+\s+)*?-\w*c\s+"
    r"|(?:\S*[/\\])?(?:pwsh|powershell)(?:\.exe)?\s+(?:-(?!Command\b|c\b)\w+\s+(?:Bypass\s+)?)*-(?:Command|c)\s+"
    r"|(?:\S*[/\\])?cmd(?:\.exe)?\s+/c\s+"
)

_SHELLS = frozenset({"sh", "bash", "zsh", "dash", "ksh", "fish", "pwsh", "powershell", "cmd"})

#: A title needs no more of a script than this.
_SHOWN_CHARACTERS = 1000

#: ``Reconnecting... 2/5 (why)``; ``stream error: why; retrying 1/5 in 187ms…`` before 2026; and without a count.
_ATTEMPT = r"(?:Reconnecting\.\.\.|retrying) (\d{1,9})/\d+(?: in (\d{1,9})(?:\.\d+)?(ms|s)\b)?"
_RETRIES = ("Reconnecting...", "stream error:")


class Problem(NamedTuple):
    """An error as people read it, and what its JSON said besides."""

    message: str
    code: str = ""
    status: int | None = None


def unwrapped(command: JSON) -> str:
    """A command as a person would type it: without ``/bin/bash -lc '…'`` around it."""
    if type(command) is list:
        words = [string(word) for word in command]
        shell = words[0].replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".exe") if words else ""
        return words[-1] if len(words) > 2 and shell in _SHELLS else " ".join(words)
    text = string(command)
    head = text[:_SHOWN_CHARACTERS]
    found = re.match(_WRAPPER, head)
    if found is None:
        return text
    script = head[found.end() :]
    quote = script[:1]
    if quote not in ("'", '"'):
        return script
    script = script[1:-1] if len(text) <= _SHOWN_CHARACTERS and script.endswith(quote) else script[1:]
    if quote == "'":
        return script.replace("'\"'\"'", "'").replace("'\\''", "'")
    return re.sub(r"\\([\"\\$`])", r"\1", script)


def problem_of(text: str) -> Problem:
    """An error's text, which may itself be a JSON document: then what that says."""
    if text.lstrip()[:1] != "{":
        return Problem(text)
    try:
        found = mapping(decode(text.encode("utf-8", "surrogatepass")))
    except ValueError:
        return Problem(text)
    inner = found.get("error")
    told = mapping(inner) or found
    message = string(told.get("message")) or string(inner) or string(found.get("detail"))
    code = string(told.get("code")) or string(told.get("type"))
    return Problem(message or text, code, whole(found.get("status")))


def trouble(rank: "Rank", text: str, at: str) -> list[Draft]:
    """An error line: a ``warning`` when Codex tries again, else of *rank*."""
    if text.startswith(_RETRIES):
        found = re.search(_ATTEMPT, text)
        if found is None:
            return error("warning", text, at, code="reconnecting")
        wait = int(found[2]) * (1000 if found[3] == "s" else 1) if found[2] else None
        return error("warning", text, at, code="reconnecting", attempt=int(found[1]), retry_in_ms=wait)
    problem = problem_of(text)
    return error(rank, problem.message or "an error without a message", at, code=problem.code, status=problem.status)


def steps_of(plan: JSON) -> list[Step]:
    """A plan: ``[{step, status}]``, or ``[{text, completed}]`` in the stream of ``exec``."""
    return [_step(found) for found in map(mapping, items(plan))]


def _step(found: dict[str, JSON]) -> Step:
    if "completed" in found:
        return step(found.get("text"), "completed" if found["completed"] is True else "pending")
    return step(found.get("step") or found.get("text"), found.get("status"))


def mcp_result(result: JSON, failure: JSON) -> tuple[str, bool, tuple[Whole, ...]]:
    """What an MCP tool gave back: its text, whether it is one of success, and images. *result* is what the server
    said, in old versions ``{"Ok": …}`` or ``{"Err": why}``; *failure* is an error of Codex itself.
    """
    found = mapping(result)
    if "Err" in found:
        failure = found["Err"]
    found = mapping(found.get("Ok")) or found
    if failure is not None:
        return string(mapping(failure).get("message")) or flat(failure), False, ()
    content = found.get("content")
    text = flat(content) if content else ""
    structured = found.get("structured_content", found.get("structuredContent"))
    if not text and structured is not None:
        text = flat(structured)
    return text, found.get("isError") is not True and found.get("is_error") is not True, media_of(content)


def search_text(found: dict[str, JSON]) -> str:
    """What was looked for on the web, or opened there."""
    action = mapping(found.get("action"))
    told = (found.get("query"), action.get("query"), action.get("url"), action.get("pattern"))
    queries = " · ".join(string(query) for query in items(action.get("queries")))
    return next((text for text in map(string, told) if text), queries)


def duration_ms(value: JSON) -> int | None:
    """``{secs, nanos}`` as milliseconds; None when it is no such thing."""
    found = mapping(value)
    seconds, nanos = whole(found.get("secs")), whole(found.get("nanos"))
    return None if seconds is None else seconds * 1000 + (nanos or 0) // 1_000_000


def as_object(value: JSON) -> dict[str, JSON]:
    """A tool's arguments: an object, also when they are the text of one; else ``{"arguments": …}``."""
    if type(value) is dict:
        return value
    if type(value) is str and value.lstrip()[:1] == "{":
        try:
            found = decode(value.encode("utf-8", "surrogatepass"))
        except ValueError:
            found = None
        if type(found) is dict:
            return found
    return {} if value in (None, "") else {"arguments": value if type(value) is str else encode(value).decode()}
