"""The saved logs that the tests read: where they lie, and whose they are.

Third-party logs and the recordings of real agents lie beside the repository and may be absent; our own recordings are
in it (``tests/agents/recordings``), and so is a short made-up log of every format (``examples``).
"""

from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

__all__ = ["EXAMPLES", "LOGS", "Log", "shared_logs"]

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"

#: Path below the shared folder → format; the first match wins. "" is no agent's log.
_FORMATS = (
    ("fixtures/INDEX.md", ""),
    ("recordings/INDEX.md", ""),
    ("*.meta.json", ""),
    ("*.mock.jsonl", ""),  # what a mocked API noted
    ("*/tools-text.jsonl", "plain"),
    ("fixtures/claude-hooks/*", "claude-hooks"),
    ("fixtures/claude-stream-json/*", "claude"),
    ("fixtures/claude-transcript/*", "claude-transcript"),
    ("fixtures/codex-exec-json/*", "codex"),
    ("fixtures/copilot-json/*", "copilot"),
    ("fixtures/gemini-stream-json/*", "gemini"),
    ("fixtures/opencode-json/*", "opencode"),
    ("fixtures/pi-json/*", "pi"),
    ("recordings/claude*/*.hooks.jsonl", "claude-hooks"),
    ("recordings/claude*/*.transcript*.jsonl", "claude-transcript"),
    ("recordings/claude*/*", "claude"),
    ("recordings/codex*/*.transcript*.jsonl", "codex-rollout"),
    ("recordings/codex*/*", "codex"),
    ("recordings/gemini/*.transcript*.jsonl", "gemini-chat"),
    ("recordings/gemini/*", "gemini"),
    ("recordings/opencode/*", "opencode"),
    ("recordings/qwen/*.transcript*.jsonl", "qwen-transcript"),
    ("recordings/qwen/*", "qwen"),
    ("recordings/sig/codex-*", "codex"),
    ("recordings/sig/*", "claude"),
)


class Log(NamedTuple):
    """A saved log and the format that it is in."""

    path: Path
    format: str

    def __str__(self) -> str:
        return "-".join(self.path.parts[-2:])


def shared_logs() -> list[Log]:
    """Every log in the shared folder. Raises LookupError for a file of which the table says nothing."""
    found = sorted(path for folder in ("fixtures", "recordings") for path in (SHARED / folder).rglob("*.*"))
    logs = [Log(path, _format(str(path.relative_to(SHARED)))) for path in found if path.is_file()]
    return [log for log in logs if log.format]


def _format(name: str) -> str:
    for pattern, format_ in _FORMATS:
        if fnmatch(name, pattern):
            return format_
    raise LookupError(f"nobody said what {name} is")


LOGS = shared_logs()

#: A short story in every format, made up: always here.
EXAMPLES = [Log(path, path.stem) for path in sorted((Path(__file__).parent / "examples").glob("*.jsonl"))]
