"""What the mocked model says: scripts of turns, one scenario a name.

The rule this module keeps: a scenario is plain data and states everything that a test compares with: which tools are
called with what, whether they succeed, and what is said. Delays are written at the pace of a real session; whoever
plays a scenario scales them (the tests play at pace 0, the recorded sample at pace 1).

`SCENARIOS` maps a name to a function of the workspace, because tools are called with absolute paths.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
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
    files: dict[str, str | bytes] = field(default_factory=dict)

    def prepare(self, workspace: Path) -> None:
        """Write the files that the session works on."""
        for name, content in self.files.items():
            path = workspace / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

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


def endless(_workspace: Path) -> Scenario:
    """A model that never comes to an end by itself."""
    steps = (turn(Text(f"Step {number}."), bash(f"echo step {number}", "A step")) for number in range(1, 30))
    return Scenario(prompt="Go on and on", main=tuple(steps))


def forbidden(_workspace: Path) -> Scenario:
    """A command that needs a permission, which nobody is there to give."""
    return Scenario(
        prompt="Make a file",
        main=(
            turn(Text("Making the file."), bash("touch made.txt", "Make a file", ok=False)),
            turn(Text("It is not allowed.")),
        ),
    )


def pictured(workspace: Path) -> Scenario:
    """Two pictures are read; one is of a size at which the CLI still passes a picture on as it is."""
    small, large = str(workspace / "small.png"), str(workspace / "large.png")
    return Scenario(
        prompt="Look at the pictures",
        files={"small.png": picture(8), "large.png": picture(_LARGE)},
        main=(
            turn(Tool("Read", {"file_path": small})),
            turn(Tool("Read", {"file_path": large})),
            turn(Text("Both are noise.")),
        ),
    )


#: Points of a side of a picture of 480 kB; larger ones it makes smaller.
_LARGE = 400


def picture(side: int) -> bytes:
    """A square of seeded noise, *side* by *side* points, as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    noise = Random(side)
    head = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress(b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def served(_workspace: Path) -> Scenario:
    """Tools of an MCP server: one answers, one fails, one gives 450 kB: of more the CLI passes on the beginning."""
    return Scenario(
        prompt="Ask the server",
        main=(
            turn(Tool("mcp__demo__echo", {"text": "hi from the model"})),
            turn(Tool("mcp__demo__fail", {"text": "x"}, ok=False)),
            turn(Tool("mcp__demo__lines", {"count": 4_500})),
            turn(Text("The server was asked.")),
        ),
    )


def written(workspace: Path) -> Scenario:
    """A file of 3 MB is written at once: the call's line and the result's are as long."""
    path = str(workspace / "out.txt")
    return Scenario(
        prompt="Write a big file",
        main=(turn(Tool("Write", {"file_path": path, "content": _ROW * 25_000}), piece=60_000), turn(Text("Written."))),
    )


def talked(_workspace: Path) -> Scenario:
    """A conversation: three answers to three things that are said."""
    return Scenario(
        prompt="First question",
        main=(turn(Text("First answer.")), turn(Text("Second answer.")), turn(Text("Third answer."))),
    )


def tools(workspace: Path) -> Scenario:
    """A file is read, notes are written and edited, two commands run at once, a command and a reading fail."""
    notes = str(workspace / "notes.txt")
    return Scenario(
        prompt="Keep notes of this project",
        files={"README.md": "# shop\n\nA small shopping cart.\n"},
        main=(
            turn(Text("First the README."), Tool("Read", {"file_path": str(workspace / "README.md")})),
            turn(Tool("Write", {"file_path": notes, "content": "alpha\nbeta\ngamma\n"})),
            turn(Tool("Edit", {"file_path": notes, "old_string": "beta", "new_string": "BETA"})),
            turn(Text("Two things at once."), bash("echo first", "Say first"), bash("echo second", "Say second")),
            turn(
                bash("cat missing.txt; exit 3", "Read a missing file", ok=False),
                Tool("Read", {"file_path": str(workspace / "missing.txt")}, ok=False),
            ),
            turn(Text("All done. The notes are written; one file was missing.")),
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
    "endless": endless,
    "failing": failing,
    "forbidden": forbidden,
    "hello": hello,
    "helpers": helpers,
    "overloaded": overloaded,
    "parallel": parallel,
    "pictured": pictured,
    "served": served,
    "slow": slow,
    "talked": talked,
    "tools": tools,
    "tour": tour,
    "unavailable": unavailable,
    "written": written,
}
