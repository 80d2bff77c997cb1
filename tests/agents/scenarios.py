"""What the mocked model says: scripts of turns, one scenario a name.

The rule this module keeps: a scenario is plain data and states everything that a test compares with: which tools are
called with what, whether they succeed, and what is said. Delays are written at the pace of a real session; whoever
plays a scenario scales them (the tests play at pace 0, the recorded sample at pace 1).

`SCENARIOS` maps a name to a function of the workspace, because tools are called with absolute paths.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["SCENARIOS", "Block", "Failure", "Scenario", "Text", "Thinking", "Tool", "Turn", "turn"]


@dataclass(frozen=True, slots=True)
class Text:
    """The model says *text*."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """The model thinks *text*."""

    text: str


@dataclass(frozen=True, slots=True)
class Tool:
    """The model calls the tool *name*; *ok* says whether the call is going to succeed."""

    name: str
    input: dict[str, Any]
    ok: bool = True


Block: TypeAlias = Text | Thinking | Tool


@dataclass(frozen=True, slots=True)
class Failure:
    """The API answers with the HTTP *status* the first *times* times."""

    status: int
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer of the model: *blocks*, cut into pieces of *piece* characters (None: a few words each)."""

    blocks: tuple[Block, ...]
    before_s: float = 0.9  # until the first token
    between_s: float = 0.06  # from piece to piece
    piece: int | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A session: the user's *prompt*, the turns of the main agent and of every sub-agent, the *files* it works on."""

    prompt: str
    main: tuple[Turn, ...]
    helper: tuple[Turn, ...] = ()
    files: dict[str, str] = field(default_factory=dict)

    def prepare(self, workspace: Path) -> None:
        """Write the files that the session works on."""
        for name, content in self.files.items():
            path = workspace / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def delegated(self) -> list[str]:
        """The prompts by which sub-agents are started: a conversation that holds one plays the helper's turns."""
        return [tool.input["prompt"] for tool in self._tools(self.main) if tool.name == "Agent"]

    def calls(self) -> list[Tool]:
        """Every tool call of the session, the helpers' after the main agent's; each helper plays its turns once."""
        return [*self._tools(self.main), *list(self._tools(self.helper)) * len(self.delegated())]

    def said(self) -> list[str]:
        """What the main agent says, text by text."""
        return [block.text for turn in self.main for block in turn.blocks if isinstance(block, Text)]

    @staticmethod
    def _tools(turns: tuple[Turn, ...]) -> Iterator[Tool]:
        return (block for turn in turns for block in turn.blocks if isinstance(block, Tool))


def turn(*blocks: Block, **how: Any) -> Turn:
    """A `Turn` with its blocks in a row."""
    return Turn(blocks=blocks, **how)


def bash(command: str, description: str, *, ok: bool = True) -> Tool:
    """A call of the shell tool."""
    return Tool("Bash", {"command": command, "description": description}, ok)


def agent(description: str, prompt: str, *, background: bool) -> Tool:
    """A call that starts a sub-agent; in the background unless told otherwise, as the real tool has it."""
    asked = {"description": description, "prompt": prompt, "subagent_type": "general-purpose"}
    return Tool("Agent", asked | {"run_in_background": background})


def create_tasks(*subjects: str) -> tuple[Tool, ...]:
    """The calls that write down a plan."""
    return tuple(Tool("TaskCreate", {"subject": each, "description": f"{each}."}) for each in subjects)


def update_task(number: int, status: str) -> Tool:
    """The call that moves an item of the plan; items count from 1."""
    return Tool("TaskUpdate", {"taskId": str(number), "status": status})


def hello(_workspace: Path) -> Scenario:
    """One short answer, no tools."""
    return Scenario(prompt="Say hello", main=(turn(Text("Hello from the mock model. One short answer.")),))


def parallel(_workspace: Path) -> Scenario:
    """Three calls in one message; their results come in the order in which they end, not in which they began."""
    return Scenario(
        prompt="Run three commands at once",
        main=(
            turn(
                Text("Three things at once."),
                bash("sleep 0.6; echo first", "Slow echo"),
                bash("echo second", "Quick echo"),
                bash("sleep 0.3; echo third", "Middle echo"),
            ),
            turn(Text("All three are done.")),
        ),
    )


def failing(workspace: Path) -> Scenario:
    """Tools that fail in a run that does not."""
    missing = str(workspace / "missing.txt")
    return Scenario(
        prompt="Read a file that is not there",
        main=(
            turn(
                bash("echo on its way; cat missing.txt", "Read a missing file", ok=False),
                Tool("Read", {"file_path": missing}, ok=False),
            ),
            turn(Text("The file is missing, both ways.")),
        ),
    )


def helpers(_workspace: Path) -> Scenario:
    """Two sub-agents in the background: the CLI then reports several inits and several results in one run."""
    return Scenario(
        prompt="Ask two helpers",
        main=(
            turn(
                Text("Two helpers look at it."),
                agent("Count files", "Count the files of the project.", background=True),
                agent("List names", "List the names of the project.", background=True),
            ),
            turn(Text("Both helpers are on their way.")),
            turn(Text("Noted.")),
            turn(Text("Noted again.")),
        ),
        helper=(
            turn(Text("Looking."), bash("ls; sleep 0.5", "List files")),
            turn(Text("A few files.")),
        ),
    )


def slow(workspace: Path) -> Scenario:
    """A tool that runs for minutes, longer than any test waits; it says on disk when it has begun."""
    begun = workspace / "tool.begun"
    return Scenario(
        prompt="Run the long job",
        main=(
            turn(Text("Starting a long job."), bash(f"touch {begun}; sleep 300; echo over", "Long job")),
            turn(Text("The long job is over.")),
        ),
    )


#: A line of 121 bytes, so that 2,500 of them make a file of 300 kB.
_ROW = "0123456789" * 12 + "\n"


def big(workspace: Path) -> Scenario:
    """Lines of hundreds of kilobytes, 2.7 MB in all: what a stalled reader makes the CLI lose."""
    out = [str(workspace / f"out-{number}.txt") for number in range(3)]
    written = [
        turn(Text("Writing."), Tool("Write", {"file_path": path, "content": _ROW * 2500}), piece=8000) for path in out
    ]
    replace = {"old_string": _ROW * 2, "new_string": "short\n", "replace_all": True}
    return Scenario(
        prompt="Make big lines",
        files={"mid.txt": "a line of the middle file\n" * 1500},
        main=(
            turn(bash("head -c 3000000 /dev/zero | tr '\\0' z | fold -w 99", "Print 3 MB")),
            turn(Tool("Read", {"file_path": str(workspace / "mid.txt")})),
            *written,
            turn(Tool("Edit", {"file_path": out[0], **replace})),
            turn(Text("W" * 70000), piece=4000),
        ),
    )


def overloaded(_workspace: Path) -> Scenario:
    """The API is overloaded once, then answers."""
    answer = turn(Text("Recovered after an overload."), failure=Failure(529, times=1))
    return Scenario(prompt="Say something", main=(answer,))


def unavailable(_workspace: Path) -> Scenario:
    """The API never answers: the run fails."""
    return Scenario(prompt="Say something", main=(turn(Text("never said"), failure=Failure(529, times=1000)),))


def tour(workspace: Path) -> Scenario:
    """The recorded sample; told in `tests.agents.tour`."""
    from tests.agents.tour import tour

    return tour(workspace)


SCENARIOS: dict[str, Callable[[Path], Scenario]] = {
    "big": big,
    "failing": failing,
    "hello": hello,
    "helpers": helpers,
    "overloaded": overloaded,
    "parallel": parallel,
    "slow": slow,
    "tour": tour,
    "unavailable": unavailable,
}
