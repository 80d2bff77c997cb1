"""Whose output is this? Found out by what decoded lines hold, never by a first key or a prefix.

The rules this module keeps: noise before the first line of an agent is tolerated, so nothing is decided by what is not
recognised; a line that could be several formats' decides nothing alone, the lines that were held are judged together.

Formats are loaded when they are asked for: Claude Code is asked first, and a line that is surely its own costs the
start-up of no other.
"""

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import cast

from agentpipe.event import JSON
from agentpipe.parse.adapter import Adapter, Sureness

__all__ = ["ADAPTERS", "adapter", "for_program", "is_event", "knows", "likeliest", "recognised", "surely"]

#: The formats by name, in the order in which they are asked, and where each lives.
ADAPTERS = {
    "claude": "agentpipe.parse.claude.stream:Claude",
    "acp": "agentpipe.parse.agents.acp:Acp",
    "amp": "agentpipe.parse.agents.amp:Amp",
    "claude-hooks": "agentpipe.parse.claude.hooks:ClaudeHooks",
    "claude-transcript": "agentpipe.parse.claude.transcript:ClaudeTranscript",
    "codex": "agentpipe.parse.codex.stream:Codex",
    "codex-rollout": "agentpipe.parse.codex.rollout:CodexRollout",
    "copilot": "agentpipe.parse.agents.copilot:Copilot",
    "cursor": "agentpipe.parse.agents.cursor:Cursor",
    "gemini": "agentpipe.parse.gemini.stream:Gemini",
    "gemini-chat": "agentpipe.parse.gemini.chat:GeminiChat",
    "goose": "agentpipe.parse.agents.goose:Goose",
    "kimi": "agentpipe.parse.agents.kimi:Kimi",
    "opencode": "agentpipe.parse.agents.opencode:OpenCode",
    "pi": "agentpipe.parse.agents.pi:Pi",
    "qwen": "agentpipe.parse.agents.qwen:Qwen",
    "qwen-transcript": "agentpipe.parse.agents.qwen_transcript:QwenTranscript",
    "plain": "agentpipe.parse.agents.plain:Plain",
}

#: Programs that are not called what their format is.
_PROGRAMS = {"cursor-agent": "cursor"}

#: What an error may hold that nobody in particular prints.
_COMMON = frozenset({"type", "message", "error", "level", "time", "timestamp", "code"})

_loaded: dict[str, type[Adapter]] = {}


def adapter(name: str) -> type[Adapter]:
    """The adapter of the format called *name*. Raises KeyError when there is none."""
    found = _loaded.get(name)
    if found is None:
        module, attribute = ADAPTERS[name].split(":")
        found = _loaded[name] = cast("type[Adapter]", getattr(import_module(module), attribute))
    return found


def recognised(found: JSON) -> str | None:
    """The name of the format whose line, or array of lines, *found* is; None when nobody knows it, or several claim it
    with equal right, or it is what any program may print.
    """
    names, best = _claims(found)
    if len(names) != 1 or (best is Sureness.LIKELY and _is_common(found)):
        return None
    return names[0]


def surely(found: JSON) -> str | None:
    """The name of the one format that is sure that *found* is its own, or None."""
    names, best = _claims(found)
    return names[0] if best is Sureness.SURE and len(names) == 1 else None


def knows(name: str, found: JSON) -> bool:
    """Whether the format called *name* may have written *found*."""
    return _sureness(name, found) is not Sureness.NO


def likeliest(values: Iterable[JSON]) -> str | None:
    """The format that claims most of *values*, the first of those that claim as many; None when nobody claims one, or
    nothing but what any program may print.
    """
    scores = dict.fromkeys(ADAPTERS, 0)
    for found in values:
        weight = 0 if _is_common(found) else 1
        for name in ADAPTERS:
            scores[name] += weight * _sureness(name, found)
    name = max(scores, key=scores.__getitem__)
    return name if scores[name] else None


def _is_common(found: JSON) -> bool:
    """Whether a line is one that programs print which are no agents: an error alone says nothing about whose it is."""
    return type(found) is dict and found.get("type") == "error" and found.keys() <= _COMMON


def _claims(found: JSON) -> tuple[Sequence[str], Sureness]:
    """Who claims *found* with the greatest sureness."""
    best, names = Sureness.NO, []
    for name in ADAPTERS:
        sureness = _sureness(name, found)
        if sureness is Sureness.SURE:
            return [name], sureness  # two formats that are both sure of a line would be a fault of one of them
        if sureness > best:
            best, names = sureness, [name]
        elif sureness and sureness == best:
            names.append(name)
    return names, best


def _sureness(name: str, found: JSON) -> Sureness:
    if type(found) is dict:
        return adapter(name).recognises(found)
    if type(found) is list:  # an array of lines: the first that anybody knows speaks for all
        return max((adapter(name).recognises(item) for item in found[:16] if type(item) is dict), default=Sureness.NO)
    return Sureness.NO


def for_program(command: JSON) -> str:
    """The format of the agent that the argument list *command* starts, by the program's own name; ``plain`` when that
    says nothing.
    """
    program = str(command[0]).rsplit("/", 1)[-1] if type(command) is list and command else ""
    name = _PROGRAMS.get(program, program)
    return name if name in ADAPTERS else "plain"


def is_event(found: dict[str, JSON]) -> bool:
    """Whether a line is an event already: no agent's own line has all of these."""
    return (
        type(found.get("payload")) is dict
        and type(found.get("type")) is str
        and type(found.get("run_id")) is str
        and type(found.get("agent_id")) is str
        and type(found.get("timestamp")) is str
    )
