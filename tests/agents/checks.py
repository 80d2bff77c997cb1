"""What the tests of every agent ask of the events: one whole run, the calls that the model made, the texts it said.

The rule this module keeps: events are compared with what the mock scripted, never with an earlier output.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from agentpipe.event import TERMINAL_TYPES, Event
from tests.agents.mock_model import MockModel
from tests.agents.scenarios import Scenario, Tool

__all__ = [
    "check_frame",
    "check_ids",
    "check_pieces",
    "check_tools",
    "check_whole_content",
    "is_call_of",
    "of_type",
    "summary",
    "whole",
]

#: What parse passes on of a text, by default.
MAX_CONTENT = 16 * 1024

#: Which kind of work each tool is (`kind` of a tool call, Agent Client Protocol).
KINDS = {"Bash": "execute", "Read": "read", "Write": "edit", "Edit": "edit", "Grep": "search"}


def of_type(found: list[Event], *types: str) -> list[dict[str, Any]]:
    return [event.payload for event in found if event.type in types]


def whole(found: list[Event], kind: str, *, of_helpers: bool) -> list[str]:
    """The final texts of the main agent or of its helpers, in order; not what was said to them."""
    told = [event for event in found if event.type == kind and ("parent_id" in event.envelope) == of_helpers]
    return [text["text"] for text in of_type(told, kind) if text["final"] and text.get("role") != "user"]


def check_frame(found: list[Event], ending: str = "run_completed") -> dict[str, Any]:
    """One run, numbered without a hole, begun once, ended once; the ending's payload."""
    assert [event.sequence for event in found] == list(range(1, len(found) + 1))
    assert len({event.run_id for event in found}) == 1
    assert [event.type for event in found].count("run_started") == 1
    assert found[0].type == "run_started"
    assert [event.type for event in found if event.type in TERMINAL_TYPES] == [ending]
    assert found[-1].type == ending
    assert not of_type(found, "raw")
    return found[-1].payload


def check_tools(found: list[Event], scenario: Scenario) -> None:
    """Every scripted call was made once, with its input, and ended as scripted; nothing else was called."""
    scripted = scenario.calls()
    calls = {payload["tool_use_id"]: payload for payload in of_type(found, "agent_tool_call")}
    results = {payload["tool_use_id"]: payload for payload in of_type(found, "agent_tool_result")}
    assert len(of_type(found, "agent_tool_call")) == len(calls) == len(scripted)
    assert len(of_type(found, "agent_tool_result")) == len(results)
    assert results.keys() == calls.keys()
    left = list(scripted)
    for identity, call in calls.items():
        tool = next(each for each in left if is_call_of(call, each))
        left.remove(tool)
        assert call["kind"] == KINDS.get(tool.name, call["kind"])
        assert call["title"]
        assert results[identity]["name"] == tool.name
        assert results[identity]["ok"] is tool.ok, (tool, results[identity])


def check_ids(
    found: list[Event], mock: MockModel, *, named: Callable[[str, Tool], str] = lambda identity, _: identity
) -> None:
    """The calls have the ids under which the model made them, with the very name and input, and end as scripted.

    *named* is what the CLI makes of an id.
    """
    scripted = {named(identity, tool): tool for identity, tool in mock.calls().items()}
    calls = {payload["tool_use_id"]: payload for payload in of_type(found, "agent_tool_call")}
    results = {payload["tool_use_id"]: payload for payload in of_type(found, "agent_tool_result")}
    assert len(of_type(found, "agent_tool_call")) == len(calls)
    assert len(of_type(found, "agent_tool_result")) == len(results)
    assert scripted.keys() == calls.keys() == results.keys()
    for identity, tool in scripted.items():
        assert is_call_of(calls[identity], tool), (calls[identity], tool)
        assert results[identity]["ok"] is tool.ok, (results[identity], tool)
        assert results[identity]["name"] == tool.name


def is_call_of(call: dict[str, Any], tool: Tool) -> bool:
    """The CLI adds defaults to an input, and leaves every field that the model gave; parse cuts long texts."""
    told = call["input"]
    return call["name"] == tool.name and all(same(told.get(key), value) for key, value in tool.input.items())


def same(told: Any, given: Any) -> bool:
    """Whether *told* is *given*, or its beginning when that is longer than parse passes on."""
    cut = isinstance(given, str) and len(given) > MAX_CONTENT
    return told == given or (cut and given.startswith(told.rpartition("…")[0]) and len(told) >= MAX_CONTENT)


def summary(found: list[Event]) -> Counter[tuple[str, ...]]:
    """What two tellings of the same session have in common: calls, results and whole texts."""
    told: Counter[tuple[str, ...]] = Counter()
    for event in found:
        payload = event.payload
        if event.type in {"agent_tool_call", "agent_tool_result"}:
            told[event.type, payload["tool_use_id"], payload["name"]] += 1
        elif event.type in {"agent_output", "agent_thinking"} and payload["final"]:
            told[event.type, payload["text"]] += 1
    return told


def check_pieces(found: list[Event]) -> None:
    """Chunks carry only what is new, and put together they are the final text that replaces them."""
    pieces: dict[tuple[str, int], str] = {}
    for payload in of_type(found, "agent_output", "agent_thinking"):
        key = payload["message_id"], payload["index"]
        if payload["final"]:
            assert pieces.pop(key, payload["text"]) == payload["text"]
        else:
            pieces[key] = pieces.get(key, "") + payload["text"]
    assert not pieces


def check_whole_content(found: list[Event], tool_use_id: str, given: str, media_type: str = "text/plain") -> None:
    """What a result leaves out stands whole before it, in parts that join to what the tool gave; images as base64."""
    results = of_type(found, "agent_tool_result")
    result = next(result for result in results if result["tool_use_id"] == tool_use_id)
    place = next(place for place in result["whole"] if place["media_type"] == media_type)
    parts = [part for part in of_type(found, "content") if part["ref"] == place["ref"]]
    assert [part["part"] for part in parts] == list(range(1, parts[0]["parts"] + 1))
    if media_type == "text/plain":
        assert result["truncated"]
        assert result["bytes"] == place["bytes"] == len(given.encode())
    assert "".join(part.get("text") or part["base64"] for part in parts) == given
