"""Amp's lines, as its manual shows them, and their quirks, one test each."""

import json
from typing import Any

import pytest

from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.amp import Amp
from agentpipe.parse.claude.stream import Claude
from agentpipe.parse.detect import ADAPTERS, surely
from tests.parse.lines import Line, encoded, of, parsed, parsed_bytes, stage, types, wrapped

SESSION = "T-2775dc92-90ed-4f85-8b73-8f9766029e83"


def line(kind: str, **more: Any) -> Line:
    return {"type": kind, "session_id": SESSION, **more}


def init() -> Line:
    return line("system", subtype="init", cwd="/w", tools=["Bash", "edit_file"], mcp_servers=[])


def usage(given: int = 10, written: int = 0, read: int = 100, output: int = 5) -> Line:
    cache = {"cache_creation_input_tokens": written, "cache_read_input_tokens": read}
    return {"input_tokens": given, **cache, "output_tokens": output, "max_tokens": 968000, "service_tier": "standard"}


def assistant(*blocks: Line, used: Line | None = None, parent: str | None = None) -> Line:
    body: Line = {"type": "message", "role": "assistant", "content": list(blocks), "stop_reason": "end_turn"}
    return line("assistant", message=body | ({"usage": used} if used else {}), parent_tool_use_id=parent)


def said(text: str, **more: Any) -> Line:
    return assistant({"type": "text", "text": text}, **more)


def call(name: str, given: Line, call_id: str = "toolu_1", **more: Any) -> Line:
    return assistant({"type": "tool_use", "id": call_id, "name": name, "input": given}, **more)


def user(*blocks: Line) -> Line:
    return line("user", message={"role": "user", "content": list(blocks)}, parent_tool_use_id=None)


def returned(content: Any = "ok", call_id: str = "toolu_1", *, failed: bool = False) -> Line:
    text = content if isinstance(content, str) else json.dumps(content)
    return user({"type": "tool_result", "tool_use_id": call_id, "content": text, "is_error": failed})


def result(text: str = "done", **more: Any) -> Line:
    facts = {"subtype": "success", "is_error": False, "duration_ms": 100, "num_turns": 1, "result": text}
    return line("result", **{**facts, **more})


# ---- who and what


@pytest.mark.parametrize("found", [init(), said("x"), returned(), result()])
def test_a_thread_is_amp_s_and_nobody_else_s(found: Line) -> None:
    assert Amp.recognises(found) is Sureness.SURE
    assert Claude.recognises(found) is Sureness.NO
    assert surely(found) == "amp"


@pytest.mark.parametrize("found", [{}, {"type": "user", "session_id": 7}, {"type": ["user"]}, {**init(), "uuid": "u"}])
def test_other_lines_are_not(found: Line) -> None:
    assert Amp.recognises(found) is Sureness.NO


def test_the_run_is_the_thread_with_its_folder_and_tools() -> None:
    events = parsed(init(), said("hi"), result())
    assert {event["run_id"] for event in events} == {SESSION}
    assert of(events, "run_started")[0] == {
        "schema": "agentpipe/1",
        "agent": "amp",
        "session_id": SESSION,
        "cwd": "/w",
        "tools": ["Bash", "edit_file"],
    }


def test_a_log_that_starts_in_the_middle_after_noise_is_recognised() -> None:
    whole = [init(), said("a"), call("Bash", {"cmd": "x"}), returned(), said("b"), result()]
    for first in range(1, len(whole)):
        parse = stage()
        parsed_bytes(encoded(["noise", *whole[first:]]), parse)
        assert set(parse.report()["formats"].values()) == {"amp"}


def test_it_is_asked_for_by_its_program() -> None:
    events = wrapped([], exit_code=1)
    events[0]["payload"]["command"] = ["amp", "-x"]
    assert of(parsed(*events), "run_started")[0]["agent"] == "amp"
    assert "amp" in ADAPTERS


# ---- texts and calls


def test_messages_have_no_id_so_their_place_is_it() -> None:
    blocks = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    events = parsed(init(), assistant(*blocks), said("c"))
    assert [(p["message_id"], p["index"], p["text"]) for p in of(events, "agent_thinking", "agent_output")] == [
        ("message-2", 0, "hm"),
        ("message-2", 1, "a"),
        ("message-2", 2, "b"),
        ("message-3", 0, "c"),
    ]


def test_hidden_thinking_is_told_as_hidden() -> None:
    [told] = of(parsed(init(), assistant({"type": "redacted_thinking", "data": "x"})), "agent_thinking")
    assert (told["text"], told["redacted"]) == ("", True)


def test_the_prompt_is_the_user_s() -> None:
    [told] = of(parsed(init(), user({"type": "text", "text": "what is 2+2?"})), "agent_output")
    assert (told["text"], told["role"]) == ("what is 2+2?", "user")


@pytest.mark.parametrize("printed", [{"output": "no\n"}, {"stdout": "no\n", "stderr": ""}])
def test_a_command_s_status_and_output_are_json_in_a_text(printed: Line) -> None:
    events = parsed(init(), call("Bash", {"cmd": "false"}), returned({**printed, "exitCode": 1}))
    [told] = of(events, "agent_tool_result")
    assert (told["kind"], told["ok"], told["exit_code"], told["content"]) == ("execute", False, 1, "no\n")
    assert of(events, "agent_tool_call")[0]["title"] == "Bash: false"


@pytest.mark.parametrize("text", ["{not json", "{}", "plain", '{"exitCode":"x"}'])
def test_a_command_s_result_that_is_no_such_json_is_itself(text: str) -> None:
    [told] = of(parsed(init(), call("Bash", {"cmd": "x"}), returned(text)), "agent_tool_result")
    assert (told["content"], told["ok"]) == (text, True)
    assert "exit_code" not in told


def test_a_failed_call_is_an_error_of_the_tool() -> None:
    events = parsed(init(), call("Read", {"path": "/w/x"}), returned("no such file", failed=True))
    assert of(events, "error") == [
        {"rank": "tool", "message": "no such file", "tool_use_id": "toolu_1", "name": "Read"}
    ]


def test_a_sub_agent_is_told_by_its_call() -> None:
    events = parsed(init(), call("Task", {"prompt": "4+7"}), said("11", parent="toolu_1"), returned("11"))
    assert [event.get("parent_id") for event in events if event["type"] == "agent_output"] == ["toolu_1"]
    assert of(events, "agent_tool_call")[0]["kind"] == "think"


# ---- what calls change


def changes(name: str, given: Line, answer: Any = "ok", *, failed: bool = False) -> list[Line]:
    found = of(parsed(init(), call(name, given), returned(answer, failed=failed)), "file_changed")
    return [{key: value for key, value in one.items() if key not in ("source", "tool_use_id")} for one in found]


def test_a_new_file_counts_its_lines() -> None:
    assert changes("create_file", {"path": "/w/a", "content": "1\n2\n"}) == [
        {"path": "/w/a", "change": "created", "added": 2, "removed": 0}
    ]


def test_an_edit_is_counted_by_the_diff_that_it_shows() -> None:
    shown = "```diff\nIndex: a\n--- a\toriginal\n+++ a\tmodified\n@@ -1,2 +1,3 @@\n x\n-y\n+Y\n+z\n```"
    assert changes("edit_file", {"path": "/w/a", "old_str": "y", "new_str": "Y\nz"}, shown) == [
        {"path": "/w/a", "change": "modified", "added": 2, "removed": 1, "patch": "@@ -1,2 +1,3 @@\n x\n-y\n+Y\n+z"}
    ]


@pytest.mark.parametrize("given", [{"path": "/w/a", "old_str": "y", "new_str": "Y\nz"},
                                   {"filePath": "/w/a", "oldString": "y", "newString": "Y\nz"}])  # fmt: skip
def test_an_edit_without_a_diff_is_counted_by_its_input(given: Line) -> None:
    [told] = changes("edit_file", given)
    assert (told["path"], told["added"], told["removed"]) == ("/w/a", 2, 1)


def test_an_edit_in_several_places_is_not_counted() -> None:
    [told] = changes("edit_file", {"path": "/w/a", "old_str": "y", "new_str": "Y", "replace_all": True})
    assert "added" not in told


def test_a_patch_changes_each_of_its_files() -> None:
    patch = "*** Begin Patch\n*** Update File: a\n@@\n-x\n+y\n*** Add File: b\n+1\n+2\n*** End Patch"
    assert [
        (p["path"], p["change"], p["added"], p["removed"]) for p in changes("apply_patch", {"patchText": patch})
    ] == [
        ("a", "modified", 1, 1),
        ("b", "created", 2, 0),
    ]


def test_a_deleted_file_is_deleted() -> None:
    assert changes("delete_file", {"path": "/w/a"}) == [{"path": "/w/a", "change": "deleted"}]


def test_a_failed_edit_changes_nothing() -> None:
    assert changes("create_file", {"path": "/w/a", "content": "1"}, failed=True) == []


def test_todos_are_the_plan() -> None:
    todos = [
        {"id": "1", "content": "Read", "status": "completed"},
        {"id": "2", "content": "Go", "status": "in-progress"},
    ]
    events = parsed(init(), call("todo_write", {"todos": todos}), returned())
    [told] = of(events, "progress_update")
    assert (told["done"], told["total"], told["current"]) == (1, 2, "Go")
    assert of(events, "agent_tool_call")[0]["title"] == "todo_write: 2 items"


# ---- tokens and ends


def test_the_tokens_of_the_messages_are_added_up() -> None:
    events = parsed(init(), said("a", used=usage(10, 50, 0, 5)), said("b", used=usage(7, 3, 50, 6)), result())
    assert [(p["input_tokens"], p["cumulative"]) for p in of(events, "usage_update")] == [
        (10, False),
        (7, False),
        (17, True),
    ]
    total = {"input_tokens": 17, "output_tokens": 11, "cache_read_tokens": 50, "cache_write_tokens": 53}
    assert of(events, "run_completed")[0]["usage"] == total
    assert "cost_usd" not in of(events, "run_completed")[0]


def test_the_input_of_the_first_version_was_the_cache_s() -> None:
    [told] = of(parsed(init(), said("4", used=usage(12783, 367, 12416, 8))), "usage_update")
    assert (told["input_tokens"], told["cache_read_tokens"], told["cache_write_tokens"]) == (0, 12416, 367)


def test_each_turn_has_what_it_used() -> None:
    events = parsed(init(), said("a", used=usage()), result(), said("b", used=usage(20)), result())
    assert [p["usage"]["input_tokens"] for p in of(events, "run_iteration")] == [10, 20]


def test_a_result_speaks_for_messages_that_tell_no_tokens() -> None:
    events = parsed(init(), said("a"), result(usage=usage(20)))
    assert of(events, "run_completed")[0]["usage"]["input_tokens"] == 20


@pytest.mark.parametrize("subtype", ["error_during_execution", "error_max_turns"])
def test_a_failed_turn_says_why(subtype: str) -> None:
    events = parsed(init(), result(subtype=subtype, is_error=True, error="out of credits"))
    assert of(events, "error") == [{"rank": "turn", "message": "out of credits", "code": subtype}]
    assert of(events, "run_failed")[0]["error"] == "out of credits"


def test_denied_calls_are_warnings_by_name() -> None:
    events = parsed(init(), result(permission_denials=["Bash"]))
    assert of(events, "error") == [{"rank": "warning", "message": "Bash was denied", "code": "permission_denied"}]


def test_a_thread_without_a_result_is_not_complete() -> None:
    assert parsed(init(), said("a"))[-1]["payload"]["incomplete"] == "no result from the agent"


def test_what_is_not_known_is_kept_and_nothing_raises() -> None:
    strange = [
        line("system", subtype="new"),
        line("novelty"),
        assistant({"type": "hologram"}),
        line("assistant", message=[]),
        line("result", usage=[], error=[], permission_denials=[1], result=None),
        call("edit_file", {"path": "/w/a", "old_str": 1}),
        returned('{"diff":1}'),
        call("apply_patch", {"x": 1}, "p"),
        returned("ok", "p"),
    ]
    events = parsed(init(), *strange, format="amp")
    assert len(of(events, "raw")) == 3
    assert types(events)[-1] == "run_completed"
