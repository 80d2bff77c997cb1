"""What ``parse`` can be told: stated once, for the command, its manual page and the hub's configuration."""

import dataclasses

from agentpipe.parse.detect import ADAPTERS
from agentpipe.stage import option

__all__ = ["FORMATS", "ParseOptions"]

#: The names that ``--format`` takes.
FORMATS = tuple(sorted(ADAPTERS))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ParseOptions:
    """Takes an agent's own lines and the events of run alike, and finds out by itself whose they are. Events that are
    parsed already pass as they are.

    \b
    claude -p "…" --output-format stream-json --verbose | agentpipe parse
    agentpipe run -- claude -p "…" --output-format stream-json --verbose | agentpipe parse
    agentpipe parse < saved.jsonl
    """  # noqa: D301 - click reads \b as a character

    format: str = option(
        "auto", "The agent whose output this is; auto looks at what comes.", choices=("auto", *FORMATS)
    )
    list_formats: bool = option(False, "Print the formats that are known, and end.")
    run_id: str | None = option(None, "Use ID as the run's id, instead of the session's.", metavar="ID")
    agent: str | None = option(None, "Use NAME as the agent's id, instead of the format's name.", metavar="NAME")
    work_id: str | None = option(None, "Say that the run belongs to the work order ID.", metavar="ID")
    max_content: int = option(
        16 * 1024, "Cut a tool's input or result beyond this; its true size is kept.", unit="size"
    )
    no_chunks: bool = option(False, "Leave out text in parts; the whole text still comes.")
    no_output: bool = option(False, "Leave out text and thinking.")
    no_tool_calls: bool = option(False, "Leave out tool calls.")
    no_tool_results: bool = option(False, "Leave out tool results.")
    no_contents: bool = option(False, "Leave out the whole of what was cut, and images.")
    progress_interval: float = option(
        5.0,
        "Tell the progress anew with the first line after this long; none: on change only.",
        unit="duration",
    )
    strict: bool = option(False, "End with status 65 at the first malformed line, instead of keeping it as raw.")
