"""``agentpipe parse`` with an adapter that is broken on purpose, to see that the tests of real agents notice.

    python -m tests.agents.sabotage FORMAT FAULT < log

The rule this module keeps: a fault is a small one, as a mistake would make it: the command works, and only some of
what it says is wrong.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from agentpipe.parse.adapter import Draft
from agentpipe.parse.detect import adapter

__all__ = ["FAULTS"]

Drafts = list[Draft]


def _without(*types: str) -> Callable[[Drafts], Drafts]:
    """Events of *types* are not told."""
    return lambda drafts: [draft for draft in drafts if draft.type not in types]


def _with(type_: str, **wrong: Any) -> Callable[[Drafts], Drafts]:
    """Events of a type say something else."""

    def change(draft: Draft) -> Draft:
        if draft.type != type_ or not wrong.keys() <= draft.payload.keys():
            return draft
        return Draft(draft.type, {**draft.payload, **wrong}, draft.at, draft.parent_id, draft.whole)

    return lambda drafts: list(map(change, drafts))


def _twice(type_: str) -> Callable[[Drafts], Drafts]:
    """Events of a type are told twice."""
    return lambda drafts: [draft for draft in drafts for _ in range(1 + (draft.type == type_))]


#: What may be wrong, by name: what becomes of the drafts of a line.
FAULTS: dict[str, Callable[[Drafts], Drafts]] = {
    "calls-are-lost": _without("agent_tool_call"),
    "calls-are-told-twice": _twice("agent_tool_call"),
    "edits-are-lost": _without("file_changed"),
    "inputs-are-lost": _with("agent_tool_call", input={}),
    "nothing-fails": _with("agent_tool_result", ok=True),
    "results-are-lost": _without("agent_tool_result"),
    "results-of-one-call": _with("agent_tool_result", tool_use_id="the-same"),
    "texts-are-lost": _without("agent_output"),
    "texts-are-told-twice": _twice("agent_output"),
    "texts-are-wrong": _with("agent_output", text="something else"),
    "unknown": lambda drafts: [Draft("raw", {"format": "x", "reason": "x", "text": "x"}, draft.at) for draft in drafts],
}


def main() -> None:
    """Break the adapter, then run the command as it is."""
    from agentpipe_cli.__main__ import main as command

    name, fault = sys.argv[1:]
    broken: Any = adapter(name)
    read, change = broken.read, FAULTS[fault]

    def faulty(self: Any, *line: Any) -> Sequence[Draft]:
        return change(list(read(self, *line)))

    broken.read = faulty
    sys.argv = ["agentpipe", "parse", "--format", name]
    command()


if __name__ == "__main__":
    main()
