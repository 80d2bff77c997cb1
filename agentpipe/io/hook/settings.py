"""Claude Code's settings file: our hook put in and taken out.

The rules this module keeps: everything that is not ours stays as it is, order and unknown keys too; a file that is not
what it should be is refused and not touched; the new file appears whole, and the one before our first change is kept
beside it; doing it twice is doing it once.

Source: the settings of ``@anthropic-ai/claude-code``. A version that meets the name of an event which it does not know
ignores all hooks of the file, silently (seen with 1.0.128, 2.0.77 and 2.1.100): hence the sets.
"""

import json
import math
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Sequence
from typing import TypeAlias

from agentpipe.errors import InputError, InputMissing, OptionError, OutputError
from agentpipe.event import JSON

__all__ = ["ALL", "COMMON", "LATER", "RECENT", "chosen", "hook_command", "install", "path_of", "uninstall"]

#: What every version from 1.0.128 on knows.
COMMON = (
    "Notification", "PostToolUse", "PreCompact", "PreToolUse", "SessionEnd", "SessionStart", "Stop", "SubagentStop",
    "UserPromptSubmit",
)  # fmt: skip

#: What 2.0.77 knows besides.
LATER = ("PermissionRequest", "PostToolUseFailure", "SubagentStart")

#: What 2.1.197 knows besides. Not among them: those whose output decides what the agent does in ways that a silent
#: hook could change (``WorktreeCreate`` has to print a path; ``Elicitation`` answers for the user).
RECENT = (
    "ConfigChange", "CwdChanged", "InstructionsLoaded", "PermissionDenied", "PostCompact", "PostToolBatch",
    "StopFailure", "TaskCompleted", "TaskCreated",
)  # fmt: skip

#: A hook for every piece of text, for each of which the agent starts us: only for who asks for it.
_TEXTS = ("MessageDisplay",)
ALL = tuple(sorted((*COMMON, *LATER, *RECENT, *_TEXTS)))

#: What ``auto`` takes from a version on, by the list of names in that version's own program; the newest first.
_KNOWN = (
    ((2, 1, 197), tuple(sorted((*COMMON, *LATER, *RECENT)))),
    ((2, 0, 77), tuple(sorted((*COMMON, *LATER)))),
    ((), COMMON),
)

#: These concern a tool, and which one is said by a matcher.
_WITH_MATCHER = frozenset({"PermissionDenied", "PermissionRequest", "PostToolUse", "PostToolUseFailure", "PreToolUse"})

#: Asking the installed program for its version takes a tenth of a second; on a bad day it is not worth waiting for.
_VERSION_TIMEOUT_S = 5.0

#: How a command of ours is known, whatever its folder: its last words.
_OURS = re.compile(r"""(?:^|[/\s'"])agentpipe['"]?\s+hook(?:\s|$)|-m\s+agentpipe_cli\s+hook(?:\s|$)""")

#: The agent waits no longer, should all else fail. Seconds.
_TIMEOUT_S = 5

#: Some editors begin a file so.
_BOM = "\ufeff"

_Object: TypeAlias = dict[str, JSON]


def path_of(named: str | None, *, project: bool) -> str:
    """The settings file: *named*, the project's, or the account's. Raises OptionError when two are meant."""
    if named and project:
        raise OptionError("--settings", "names a file, and --project another")
    if named:
        return os.path.abspath(named)
    if project:
        return os.path.abspath(os.path.join(".claude", "settings.json"))
    home = os.environ.get("CLAUDE_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".claude")
    return os.path.abspath(os.path.join(home, "settings.json"))


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The events that *names* stand for: ``auto``, ``common``, ``all``, or events by name."""
    found: list[str] = []
    for name in names:
        if name == "auto":
            version = _claude_version()
            found += next(known for since, known in _KNOWN if version >= since)
        elif name in ("all", "common"):
            found += ALL if name == "all" else COMMON
        elif name in ALL:
            found.append(name)
        else:
            raise OptionError("--events", f"{name!r} is none of auto, common, all, {', '.join(ALL)}")
    return tuple(dict.fromkeys(found))


def _claude_version() -> tuple[int, ...]:
    """The version of the program ``claude`` of this account; nothing when it cannot be asked."""
    try:
        said = subprocess.run(
            ["claude", "--version"],  # noqa: S607 - the one that the user would start
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=True,
        ).stdout  # fmt: skip
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()  # then only what every version knows
    found = re.match(r"\s*(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()


def hook_command(options: Sequence[str]) -> str:
    """The shell command that runs our hook with *options*, wherever it is run and whatever PATH says."""
    installed = os.path.join(os.path.dirname(sys.executable), "agentpipe")
    words = [installed] if os.access(installed, os.X_OK) else [sys.executable, "-P", "-m", "agentpipe_cli"]
    return shlex.join([*words, "hook", *options])


def install(path: str, command: str, events: Sequence[str]) -> str:
    """Have Claude Code run *command* at *events*, and at no others; what was done, in words. Raises InputError for a
    file that is not what it should be, OutputError for one that cannot be written.
    """
    settings, text = _read(path)
    before = json.dumps(settings)
    hooks = settings.setdefault("hooks", {})
    present = {event: _ours_in(groups) for event, groups in hooks.items()}
    for event in [event for event, ours in present.items() if ours and (event not in events or ours != [command])]:
        _take_out(hooks, event)
    for event in events:
        if present.get(event) != [command]:
            hooks.setdefault(event, []).append(_group(event, command))
    if json.dumps(settings) == before:
        return "the hook is installed already"
    _write(path, settings, text)
    return f"the hook is installed for {len(events)} events"


def uninstall(path: str) -> str:
    """Take every hook of ours out; what was done, in words. Raises InputError and OutputError as `install` does."""
    settings, text = _read(path)
    hooks = settings.get("hooks", {})
    ours = [event for event, groups in hooks.items() if _ours_in(groups)]
    if not ours:
        return "no hook of ours is installed"
    for event in ours:
        _take_out(hooks, event)
    if not hooks:
        del settings["hooks"]
    _write(path, settings, text)
    return f"the hook is taken out of {len(ours)} events"


def _group(event: str, command: str) -> _Object:
    hook = {"type": "command", "command": command, "timeout": _TIMEOUT_S}
    return {"matcher": "*", "hooks": [hook]} if event in _WITH_MATCHER else {"hooks": [hook]}


def _is_ours(hook: _Object) -> bool:
    return hook.get("type") == "command" and _OURS.search(str(hook.get("command"))) is not None


def _ours_in(groups: list[_Object]) -> list[str]:
    return [hook["command"] for group in groups for hook in group.get("hooks", ()) if _is_ours(hook)]


def _take_out(hooks: _Object, event: str) -> None:
    """Take our hooks out of the groups of *event*; a group or an event that held nothing else goes too."""
    kept = []
    for group in hooks[event]:
        inner = group.get("hooks", ())
        others = [hook for hook in inner if not _is_ours(hook)]
        if others or len(others) == len(inner):
            kept.append(group if len(others) == len(inner) else {**group, "hooks": others})
    if kept:
        hooks[event] = kept
    else:
        del hooks[event]


def _read(path: str) -> tuple[_Object, str]:
    """The settings and their text; none when there is no such file. Raises InputError, InputMissing."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        if os.path.islink(path):
            raise InputMissing(path, f"a link to {os.readlink(path)}, which is not there") from None
        return {}, ""
    except UnicodeDecodeError as error:
        raise InputError(path, 1, 1, f"not UTF-8: {error.reason}") from None
    except OSError as error:
        raise InputMissing(path, error.strerror or str(error)) from None
    try:
        found = _decoded(text.removeprefix(_BOM)) if text.strip(_BOM + " \t\r\n") else {}
    except json.JSONDecodeError as error:
        raise InputError(path, error.lineno, error.colno, error.msg) from None
    except ValueError as error:
        raise InputError(path, 1, 1, str(error)) from None
    except RecursionError:
        raise InputError(path, 1, 1, "nested too deep") from None
    problem = _problem(found)
    if problem:
        raise InputError(path, 1, 1, f"{problem}: nothing was changed")
    return found, text


def _decoded(text: str) -> JSON:
    return json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)


def _finite(number: str) -> float:
    """A number that is written again as JSON has it; NaN and what is beyond every number would be no JSON."""
    found = float(number)
    if not math.isfinite(found):
        raise ValueError(f"{number} is no number that JSON has")
    return found


def _unique(pairs: list[tuple[str, JSON]]) -> _Object:
    """An object; one with a key twice would lose the first by being written again."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in the same object")
    return found


def _problem(found: JSON) -> str:
    """What is not as Claude Code has it, in words; empty when all is well."""
    if not isinstance(found, dict):
        return "the settings are not an object"
    hooks = found.get("hooks", {})
    if not isinstance(hooks, dict):
        return '"hooks" is not an object'
    for event, groups in hooks.items():
        if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
            return f'"hooks.{event}" is not a list of objects'
        for group in groups:
            inner = group.get("hooks", [])
            if not isinstance(inner, list) or not all(isinstance(hook, dict) for hook in inner):
                return f'"hooks.{event}" has an entry whose "hooks" is not a list of objects'
    return ""


def _write(path: str, settings: _Object, text: str) -> None:
    """Put *settings* into the file that *path* is or leads to, written as its *text* was. Raises OutputError."""
    target = os.path.realpath(path)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        mode = 0o600
        if text or os.path.exists(target):
            mode = stat.S_IMODE(os.stat(target).st_mode)
            _back_up(target, text, mode)
        _appear(target, _shown(settings, text), mode)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error


def _back_up(target: str, text: str, mode: int) -> None:
    """Keep the file as it was before our first change."""
    backup = f"{target}.before-agentpipe"
    if not os.path.lexists(backup):
        _appear(backup, text, mode)


def _appear(target: str, text: str, mode: int) -> None:
    part = f"{target}.{os.getpid()}.new"
    made = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(made, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(made, mode)
            os.fsync(made)
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise


def _shown(settings: _Object, text: str) -> str:
    """The settings as text, with the indentation, the line ends and the byte order mark that *text* had."""
    indent = re.search(r"\n([ \t]+)\S", text)
    compact = bool(text.strip()) and "\n" not in text.strip()
    shown = json.dumps(settings, indent=None if compact else indent[1] if indent else 2, ensure_ascii=False)
    end = "\n" if not text or text.endswith("\n") else ""
    shown = re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", shown + end)  # UTF-8 has no word for them
    if text.startswith(_BOM):
        shown = _BOM + shown
    return shown.replace("\n", "\r\n") if "\r\n" in text else shown
