"""The mock keeps to its rule: same request, same answer; streamed or not, the same content."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.agents.mock_anthropic import MockAnthropic
from tests.agents.mock_model import Request
from tests.agents.scenarios import SCENARIOS, Text, Thinking, Tool
from tests.agents.scrub import scrub

USER = {"role": "user", "content": "go"}
TOOLS = [{"name": "Bash"}]


def ask(mock: MockAnthropic, *, turn: int = 0, said: str = "go", **more: Any) -> bytes:
    """One request as the CLI makes it, *turn* answers into the conversation."""
    answered = [{"role": "assistant", "content": "…"}, USER] * turn
    body = {"model": "m", "tools": TOOLS, "messages": [{"role": "user", "content": said}, *answered], **more}
    request = urllib.request.Request(mock.url + "/v1/messages", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=20) as reply:
        return reply.read()


def streamed(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in raw.decode().split("\n") if line.startswith("data: ")]


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_a_stream_carries_the_whole_answer_in_pieces(name: str) -> None:
    scenario = SCENARIOS[name](Path("/somewhere"))
    with MockAnthropic(scenario) as mock:
        for number, turn in enumerate(scenario.main):
            for _ in range(turn.failure.times if turn.failure and turn.failure.times < 5 else 0):
                with pytest.raises(urllib.error.HTTPError) as failed:
                    ask(mock, turn=number)
                failed.value.close()
            if turn.failure and turn.failure.times > 5:
                continue
            whole = json.loads(ask(mock, turn=number, thinking={"type": "enabled"}))
            events = streamed(ask(mock, turn=number, thinking={"type": "adaptive"}, stream=True))
            assert joined(events) == whole["content"]
            assert events[0]["message"]["id"] == whole["id"]
            assert [kind_of(block) for block in whole["content"]] == [type(block) for block in turn.blocks]


def joined(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks of a stream, put together as a client does."""
    blocks: list[dict[str, Any]] = []
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(dict(event["content_block"]) | {"json": ""})
        elif event["type"] == "content_block_delta":
            delta = dict(event["delta"])
            kind = delta.pop("type")
            (key, part) = delta.popitem()
            key = "json" if kind == "input_json_delta" else key
            blocks[-1][key] += part
    for block in blocks:
        text = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(text)
    return blocks


def kind_of(block: dict[str, Any]) -> type:
    return {"text": Text, "thinking": Thinking, "tool_use": Tool}[block["type"]]


def test_a_failure_passes_and_a_retry_gets_the_answer() -> None:
    with MockAnthropic(SCENARIOS["overloaded"](Path("/x"))) as mock:
        with pytest.raises(urllib.error.HTTPError) as failed:
            ask(mock)
        failed.value.close()
        assert failed.value.code == 529
        assert json.loads(ask(mock))["content"][0]["text"] == "Recovered after an overload."
        assert mock.requests == [Request("main", 0, 529), Request("main", 0, 200)]


def test_a_retry_gets_the_same_ids_and_another_turn_does_not() -> None:
    with MockAnthropic(SCENARIOS["tour"](Path("/x"))) as mock:
        assert ask(mock, turn=1) == ask(mock, turn=1)
        assert json.loads(ask(mock, turn=1))["id"] != json.loads(ask(mock, turn=2))["id"]


def test_a_sub_agents_conversation_plays_the_helpers_turns_and_a_side_errand_none() -> None:
    scenario = SCENARIOS["helpers"](Path("/x"))
    with MockAnthropic(scenario) as mock:
        ask(mock, said=f"<reminder/>\n{scenario.delegated()[1]}")
        ask(mock, tools=[])
        assert [request.script for request in mock.requests] == ["helper", "side"]


def test_thinking_is_said_only_to_who_asks_for_it() -> None:
    with MockAnthropic(SCENARIOS["tour"](Path("/x"))) as mock:
        quiet = json.loads(ask(mock))["content"]
        assert "thinking" not in {block["type"] for block in quiet}


def test_paths_are_never_cut_in_two() -> None:
    """What lets a recording be scrubbed by replacing whole strings."""
    workspace = Path("/a/rather/long/path/to/a/workspace")
    with MockAnthropic(SCENARIOS["tour"](workspace)) as mock:
        raw = ask(mock, stream=True)
    assert raw.count(str(workspace).encode()) == 1
    assert raw.count(b"workspace") == 1


def test_scrubbing_replaces_paths_plain_and_dashed_longest_first() -> None:
    names = {"/q/x/shop": "/home/dev/shop", "/q/x": "/home/dev"}
    assert scrub('"/q/x/shop/a" "/q/x/b" "-q-x-shop"', names) == '"/home/dev/shop/a" "/home/dev/b" "-home-dev-shop"'


def test_scrubbing_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="sk-dummy"):
        scrub("key sk-dummy", {})
