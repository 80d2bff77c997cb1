"""One session, three tellers: the stream, the hooks and the session files of the same run tell the same."""

from pathlib import Path
from typing import Any

import pytest

from agentpipe.event import decode
from agentpipe.parse.adapter import Sureness
from agentpipe.parse.detect import ADAPTERS, adapter, surely
from tests.parse.lines import Line, parsed_bytes

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings (../shared) are not here")

#: Sessions whose hooks were recorded, and told every call.
HOOKED = ("claude/tools-hooks", "claude/tools-hookevents", "claude-2.1.197/tools-hooks")

#: Sessions whose files were kept; in those of 1.0.128 and 2.0.77 the end is known from the stream alone.
KEPT = tuple(
    f"{version}/{name}"
    for version, names in {
        "claude": ("api-529-fatal", "hello", "max-turns", "mcp", "sigint-tool", "subagent-fg", "tools", "toolsearch"),
        "claude-2.1.197": ("api-529-fatal", "hello", "max-turns", "sigint-tool", "subagents", "todowrite", "tools"),
        "claude-2.0.77": ("api-529-fatal", "hello", "todowrite", "tools"),
        "claude-1.0.128": ("api-529-fatal", "hello", "subagents", "todowrite", "tools"),
    }.items()
    for name in names
)


def told(*paths: Path) -> list[Line]:
    return [decode(event.line) for path in paths for event in parsed_bytes(path.read_bytes())]


def calls(events: list[Line]) -> dict[str, Any]:
    return {
        e["payload"]["tool_use_id"]: (e["payload"]["name"], e["payload"]["kind"], e["payload"]["input"])
        for e in events
        if e["type"] == "agent_tool_call"
    }


def results(events: list[Line]) -> dict[str, Any]:
    found = [e["payload"] for e in events if e["type"] == "agent_tool_result"]
    return {p["tool_use_id"]: (p["name"], p["ok"], p.get("exit_code")) for p in found}


def contents(events: list[Line]) -> dict[str, Any]:
    return {e["payload"]["tool_use_id"]: e["payload"]["content"] for e in events if e["type"] == "agent_tool_result"}


def files(events: list[Line]) -> list[Any]:
    found = [e["payload"] for e in events if e["type"] == "file_changed"]
    return [(p["path"], p["change"], p["added"], p["removed"], p["tool_use_id"]) for p in found]


def texts(events: list[Line]) -> list[str]:
    """What the main agent said."""
    found = [e["payload"] for e in events if e["type"] == "agent_output" and "parent_id" not in e]
    return [p["text"] for p in found if p["final"] and "role" not in p]


def end(events: list[Line]) -> tuple[str, Any]:
    return events[-1]["type"], events[-1]["payload"].get("result")


@pytest.mark.parametrize("session", HOOKED)
def test_the_hooks_tell_what_the_stream_tells(session: str) -> None:
    stream = told(RECORDINGS / f"{session}.jsonl")
    hooks = told(RECORDINGS / f"{session}.hooks.jsonl")
    assert calls(hooks) == calls(stream)
    assert results(hooks) == results(stream)
    assert files(hooks) == files(stream)
    assert texts(hooks) == texts(stream)
    assert end(hooks) == end(stream)
    assert hooks[0]["run_id"] == f"{stream[0]['run_id']}/hooks"
    assert hooks[0]["payload"]["session_id"] == stream[0]["payload"]["session_id"]


@pytest.mark.parametrize("session", HOOKED)
def test_the_hooks_know_whose_a_sub_agent_s_calls_are(session: str) -> None:
    def parents(events: list[Line]) -> dict[str, Any]:
        return {e["payload"]["tool_use_id"]: e.get("parent_id") for e in events if e["type"] == "agent_tool_call"}

    stream, hooks = told(RECORDINGS / f"{session}.jsonl"), told(RECORDINGS / f"{session}.hooks.jsonl")
    assert parents(hooks) == parents(stream)
    assert any(parents(stream).values())


@pytest.mark.parametrize("session", KEPT)
def test_the_session_files_tell_what_the_stream_tells(session: str) -> None:
    stream = told(RECORDINGS / f"{session}.jsonl")
    main = RECORDINGS / f"{session}.transcript.jsonl"
    inside = sorted(main.parent.glob(f"{main.stem}-subagent*.jsonl"))
    own = told(main)
    both = [*own, *told(*inside)]
    assert own[0]["run_id"] == f"{stream[0]['run_id']}/transcript"
    if session.startswith("claude-2.0.77"):  # whose warm-up requests the recording's mock mistook for the session's
        assert calls(both).items() <= calls(stream).items()
    else:
        assert calls(both) == calls(stream)
        assert results(both) == results(stream)
        assert contents(both) == contents(stream)
    assert files(both) == files(stream)
    if session != "claude-1.0.128/api-529-fatal":  # whose stream does not mark that the text is an API error
        assert texts(own) == texts(stream)
    assert end(own) == end(stream)


@pytest.mark.parametrize("session", ["claude/hello", "claude/tools", "claude/toolsearch"])
def test_tokens_and_cost_of_the_session_file_are_those_of_the_stream(session: str) -> None:
    stream, own = told(RECORDINGS / f"{session}.jsonl")[-1], told(RECORDINGS / f"{session}.transcript.jsonl")[-1]
    assert own["payload"]["usage"] == stream["payload"]["usage"]
    assert own["payload"]["cost_usd"] == stream["payload"]["cost_usd"]


def test_a_session_file_and_those_of_its_sub_agents_in_one_input_are_one_run() -> None:
    main = RECORDINGS / "claude/tools.transcript.jsonl"
    data = main.read_bytes() + (RECORDINGS / "claude/tools.transcript-subagent1.jsonl").read_bytes()
    events = [decode(event.line) for event in parsed_bytes(data)]
    stream = told(RECORDINGS / "claude/tools.jsonl")

    def inside(events: list[Line]) -> list[tuple[str, str]]:
        found = [e for e in events if "parent_id" in e and e["type"] in ("agent_tool_call", "agent_tool_result")]
        return [(e["parent_id"], e["payload"]["tool_use_id"]) for e in found]

    assert len({event["run_id"] for event in events}) == 1
    assert inside(events) == inside(stream)
    assert end(events) == end(stream)


@pytest.mark.parametrize("teller", ["claude", "claude-hooks", "claude-transcript"])
def test_every_line_of_a_teller_is_its_own_and_nobody_else_s(teller: str) -> None:
    marks = {"claude": "tools*.jsonl", "claude-hooks": "*.hooks.jsonl", "claude-transcript": "*.transcript*.jsonl"}
    paths = [path for path in RECORDINGS.glob(f"claude*/{marks[teller]}") if path.name != "tools-text.jsonl"]
    if teller == "claude":
        paths = [path for path in paths if path.suffixes == [".jsonl"] and "json-verbose" not in path.name]
    assert len(paths) > 3
    for path in paths:
        for line in path.read_bytes().splitlines():
            found = decode(line)
            assert adapter(teller).recognises(found) is not Sureness.NO
            assert surely(found) in (None, teller)
            assert [name for name in ADAPTERS if adapter(name).recognises(found) is Sureness.SURE] in ([], [teller])
