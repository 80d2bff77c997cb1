"""The scenarios that Gemini CLI, OpenCode and Qwen Code share, told in the words of each one's tools.

The rule this module keeps: what happens is the same for all of them; only the names of tools and of inputs differ.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.agents.scenarios import Failure, Scenario, Text, Tool, turn

__all__ = ["LINES", "Words", "small_scenarios"]


#: Lines of 100 bytes that make 3 MB.
LINES = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What one agent calls its tools and their inputs; *more* is what its shell and its edits want besides.

    *failing_shell_fails* says whether the agent tells a command's failure as the call's.
    """

    shell: str
    read: str
    write: str
    edit: str
    path: str
    old: str
    new: str
    failing_shell_fails: bool
    more_of_shell: dict[str, object] = field(default_factory=dict)
    more_of_edit: dict[str, object] = field(default_factory=dict)

    def run(self, command: str, *, ok: bool = True) -> Tool:
        """A command."""
        return Tool(self.shell, {"command": command, **self.more_of_shell}, ok)

    def at(self, path: Path) -> dict[str, str]:
        """The input that names a file."""
        return {self.path: str(path)}


def small_scenarios(words: Words, *, retried: int = 500) -> dict[str, Callable[[Path], Scenario]]:
    """The scenarios by name; *retried* is the HTTP status of a failure that passes."""

    def hello(_workspace: Path) -> Scenario:
        return Scenario(prompt="Say hello", main=(turn(Text("Hello from the mock model. One short answer.")),))

    def tools(workspace: Path) -> Scenario:
        """A file is read, notes are written and edited, two commands run at once, a command and a reading fail."""
        notes = workspace / "notes.txt"
        changed = {words.old: "beta", words.new: "BETA", **words.more_of_edit}
        return Scenario(
            prompt="Keep notes of this project",
            files={"README.md": "# shop\n\nA small shopping cart.\n"},
            main=(
                turn(Text("First the README."), Tool(words.read, words.at(workspace / "README.md"))),
                turn(Tool(words.write, {**words.at(notes), "content": "alpha\nbeta\ngamma\n"})),
                turn(Tool(words.edit, {**words.at(notes), **changed})),
                turn(Text("Two things at once."), words.run("echo first"), words.run("echo second")),
                turn(
                    words.run("cat missing.txt; exit 3", ok=not words.failing_shell_fails),
                    Tool(words.read, words.at(workspace / "missing.txt"), ok=False),
                ),
                turn(Text("All done. The notes are written; one file was missing.")),
            ),
        )

    def slow(workspace: Path) -> Scenario:
        begun = workspace / "tool.begun"
        return Scenario(
            prompt="Run the long job",
            main=(
                turn(Text("Starting a long job."), words.run(f"touch {begun}; sleep 300; echo over")),
                turn(Text("The long job is over.")),
            ),
        )

    def big(_workspace: Path) -> Scenario:
        """A command prints 3 MB, and another takes its time: agents that end at once lose what nobody has read yet."""
        return Scenario(
            prompt="Print 3 MB",
            main=(turn(words.run(f"seq -f %099.0f {LINES}")), turn(words.run("sleep 3")), turn(Text("Printed."))),
        )

    def overloaded(_workspace: Path) -> Scenario:
        return Scenario(prompt="Say something", main=(turn(Text("Recovered."), failure=Failure(retried, times=1)),))

    def refused(_workspace: Path) -> Scenario:
        return Scenario(prompt="Say something", main=(turn(Text("never said"), failure=Failure(400, times=1000)),))

    return {"big": big, "hello": hello, "overloaded": overloaded, "refused": refused, "slow": slow, "tools": tools}
