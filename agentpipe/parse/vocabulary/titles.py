"""How a call reads on one line: ``Bash: pytest -q``."""

from agentpipe.event import JSON
from agentpipe.parse.vocabulary.content import shown
from agentpipe.parse.vocabulary.fields import string

__all__ = ["one_line", "title_of"]

#: The field of a tool's input that tells a person most, the first that is there; names of all agents.
_TELLING = (
    "command", "cmd", "file_path", "filePath", "absolute_path", "notebook_path", "pattern", "glob_pattern", "url",
    "query", "description", "subject", "skill", "path", "dir_path", "task_id", "taskId", "shell_id", "bash_id",
    "prompt", "question", "plan", "code", "name",
)  # fmt: skip

#: A title is one line in a list; longer ones are cut.
_TITLE_CHARACTERS = 120


def title_of(shown: str, given: dict[str, JSON], telling: str | None = None) -> str:
    """One line for people: *shown* is the tool's name as people know it, *telling* what to say beside it, None to take
    the most telling field of the input.
    """
    said = _telling(given) if telling is None else one_line(telling)
    return f"{shown}: {said}" if said else shown


def _telling(given: dict[str, JSON]) -> str:
    for field in _TELLING:
        if field in given and type(given[field]) is str and given[field]:
            return one_line(given[field])
    return one_line(next((string(value) for value in given.values() if string(value)), ""))


def one_line(text: str) -> str:
    """*text* with its white space squeezed and its length cut; an image or a file in base64 by its name."""
    if len(text) > 4 * _TITLE_CHARACTERS:
        text = shown(text)[: 4 * _TITLE_CHARACTERS]
    line = " ".join(text.split())
    return line if len(line) <= _TITLE_CHARACTERS else line[: _TITLE_CHARACTERS - 1] + "…"
